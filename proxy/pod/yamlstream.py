"""
A stream of Kubernetes YAML in, the same stream out: the documents that change are written anew, all others are copied
byte for byte.

A line that begins with `---` or `...` ends a document wherever it stands, in a block of text too (YAML 1.2, 9.1.2), so
the stream is split by lines before anything is parsed. A document that holds the name of no kind that makes Pods is
parsed only to warn of a template that it may have, and then it need not be YAML. One that is JSON (`kubectl get -o
json`) stays JSON.

Every sentence about a document names the file and the line where it begins.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

from proxy.pod.refusal import Refused
from proxy.pod.workloads import TEMPLATES, Report, Task, carry_out, describe, generated_for, template_path
from proxy.pod.yamldocument import Document

MAX_STREAM_BYTES = 64 * 1024 * 1024

_MARKER = re.compile(r"^(?:---|\.\.\.)(?=\s|\Z)", re.MULTILINE)
_WORTH_PARSING = re.compile("|".join((*sorted({kind for _, kind in TEMPLATES}), "List", "ConfigMap")))
_MOST_WARNED_OF_BYTES = 256 * 1024  # to read megabytes for a warning would take a minute
_TAKE_AWAY = Task(None)


def transform(text: str, task: Task, *, file: str) -> tuple[str, list[Report]]:
    """
    Do the task to every workload of a stream.

    Returns: the stream, and what was done
    Raises:  Refused with all that stands in the way, in all documents; then nothing was done
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    # Only where every line ends so: what is mixed stays as it is, line by line.
    newline = "\r\n" if "\r\n" in text and "\n" not in text.replace("\r\n", "") else "\n"
    written: list[str] = []
    reports: list[Report] = []
    faults: list[str] = []
    documents, unread = _read(text.replace(newline, "\n"), file)
    for document in documents:
        try:
            one, told = _carry_out(task, document)
            written.append(one)
            reports += told
        except Refused as refused:
            faults += [f"{file}:{document.begin}: {sentence}" for sentence in refused.sentences]
    if unread and "{{" in text:
        how = "`helm template . | mtls-sidecar inject -f -`"
        unread.append(f"{file}: It looks like a template, which has to be rendered first: {how}.")
    if unread or faults:
        raise Refused([*unread, *faults])
    return mark + "".join(written).replace("\n", newline), reports


def _read(text: str, file: str) -> tuple[list[Document], list[str]]:
    """The documents without the ConfigMaps of a former injection, and what is wrong with those that cannot be read."""
    documents, faults = list(_split(text)), []
    for document in documents:
        try:
            if _WORTH_PARSING.search(document.text):
                document.parse()
            elif _may_have_a_template(document.text):
                with suppress(Refused):
                    document.parse()
        except Refused as refused:
            faults += [f"{file}:{document.begin}: {sentence}" for sentence in refused.sentences]
    workloads = {describe(one.value) for one in documents if template_path(one.value) is not None}
    kept: list[Document] = []
    marker: str | None = None  # of a ConfigMap that goes; its document took the marker of the one behind it
    for document in documents:
        if generated_for(document.value) in workloads:
            marker = document.marker if marker is None else marker
            continue
        if marker is not None:
            document.text = document.text if marker else document.text.removeprefix("\n")
            document.marker = marker
        marker = None
        kept.append(document)
    return kept, faults


def _may_have_a_template(text: str) -> bool:
    """Whether an object of an unknown kind looks as if it made Pods; the schemas of custom kinds do as well."""
    if len(text) > _MOST_WARNED_OF_BYTES or "CustomResourceDefinition" in text:
        return False
    return "emplate" in text and "containers" in text


def _split(text: str) -> Iterator[Document]:
    marks = [match.start() for match in _MARKER.finditer(text)]
    line = 1
    for begin, end in zip([0, *marks], [*marks, len(text)], strict=True):
        part = text[begin:end]
        marker = part[:3] if begin in marks[:1] or begin > 0 else ""
        yield Document(marker, part[len(marker) :], line)
        line += part.count("\n")


def _carry_out(task: Task, document: Document) -> tuple[str, list[Report]]:
    """The text of one document after the task."""
    if document.value is None:
        return document.marker + document.text, []
    bare = carry_out(_TAKE_AWAY, document.value)
    before = document if bare.value == document.value else document.restored(bare.value)
    if task.settings is None:
        return before.marker + before.text, list(bare.reports)
    outcome = carry_out(task, before.value)
    text = before.text
    if outcome.value != before.value:
        after = before.with_value(outcome.value)
        text = after.remembering(before, after.restored(before.value))
    front = "".join(f"\n{_ended(before.write(config_map))}{before.marker or '---'}" for config_map in outcome.before)
    if front and not before.marker:
        front, text = front.removeprefix("\n"), f"\n{text}"
    return before.marker + front + text, list(outcome.reports)


def _ended(text: str) -> str:
    """With the line end that a marker behind it needs: JSON in one piece often has none."""
    return text if text.endswith("\n") else f"{text}\n"

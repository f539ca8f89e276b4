"""
One document of a stream: parsed, written with other values, and put back to the very bytes that it had.

A changed document is written by grafting (yamlgraft.py) and merged with its author's text (textmerge.py), so that lines
which injection does not touch stay as they are. The way back works the same, and in most documents leads to the same
bytes. Where it does not (an alias that had to be written out, a flow mapping in one line with what was changed), the
lines as they were are remembered in a comment behind the document. It is only believed where it leads to the values
that the record of the injection leads to: then a file that was edited in between loses nothing but that memory.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from proxy.pod.refusal import Refused
from proxy.pod.textmerge import merge
from proxy.pod.yamlgraft import adopt, graft, plain

MEMORY = "# mtls-sidecar inject, for --uninject: "

_MEMORY_LINE = re.compile(rf"^{re.escape(MEMORY)}([^\n]*)\n?\Z", re.MULTILINE)
_EMPTY = r":[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*"  # behind a key whose value begins in a later line
_DASH = re.compile(rf"^( *)[^\s#-][^\n]*?{_EMPTY}( *)- ", re.MULTILINE)
_NESTED = re.compile(rf"^( *)[^\s#-][^\n]*?{_EMPTY}( +)[^\s#-]", re.MULTILINE)
_LEADING = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*")
_JSON_INDENT = re.compile(r"\A\s*\{\n( +)")

Patch = list[tuple[int, int, str]]


@dataclass(slots=True)
class Document:
    """
    One document. marker: `---` or `...`, empty for the first; text: all behind it; line: where the text begins

    value: what it holds, None where that is of no interest
    node:  the same with its comments, which writing another value changes; None for JSON
    """

    marker: str
    text: str
    line: int
    memory: str = ""
    value: Any = None
    node: Any = None

    @property
    def begin(self) -> int:
        """The line of the first thing in it that is neither blank nor a comment."""
        leading = _LEADING.match(self.text)
        return self.line + (leading.group().count("\n") if leading else 0)

    def parse(self) -> None:
        """Read the values. Raises: Refused."""
        remembered = _MEMORY_LINE.search(self.text)
        if remembered:
            self.memory, self.text = remembered[1], self.text[: remembered.start()]
        if self.text.lstrip().startswith("{"):
            try:
                self.value = json.loads(self.text)
            except (ValueError, RecursionError):
                pass  # a flow mapping of YAML then
            else:
                return
        self.node = _load(self.text, self.line)
        self.value = plain(self.node)

    def with_value(self, value: Any) -> "Document":
        """
        The same document with another value, parsed. Its nodes are spent then.

        Raises: Refused where it cannot be written so that it is read as that value again
        """
        for text in self._written(value):
            written = self._successor(text, value)
            if written is not None:
                return written
        raise Refused(
            ["This document cannot be written with a sidecar so that it means the same; look for tags (`!name`) in it."]
        )

    def restored(self, value: Any) -> "Document":
        """The document as it was before the injection that `value` is without."""
        before = _recall(self.text, self.memory) if self.memory else None
        remembered = self._successor(before, value) if before is not None else None
        return remembered or self.with_value(value)

    def remembering(self, before: "Document", way_back: "Document") -> str:
        """The text to write, with a memory of `before` where the way back ends elsewhere."""
        if self.node is None or way_back.text == before.text:
            return self.text
        end = "" if self.text.endswith("\n") else "\n"
        return f"{self.text}{end}{MEMORY}{_remember(self.text + end, before.text)}\n"

    def write(self, value: Any) -> str:
        """Another value in the style of this document: a neighbour of it."""
        return _write_json(self.text, value) if self.node is None else _dump(_yaml(self.text), adopt(value))

    def _successor(self, text: str, value: Any) -> "Document | None":
        """The document of another text, if that text holds the value."""
        separated = not self.marker or not text or text[:1].isspace()
        document = Document(self.marker, text if separated else f"\n{text}", self.line)
        try:
            document.parse()
        except Refused:
            return None
        return document if document.value == value else None

    def _written(self, value: Any) -> Iterator[str]:
        """The text with another value, from what keeps most of its author's hand to what keeps none of it."""
        if self.node is None:
            yield _write_json(self.text, value)
            return
        yaml, node = _yaml(self.text), self.node
        base = _dump(yaml, node)
        if isinstance(node, CommentedMap):
            graft(node, self.value, value)
        theirs = _dump(yaml, node)
        merged = merge(base, self.text, theirs)
        if merged is not None:
            yield merged
        yield theirs
        yield _dump(yaml, adopt(value))  # merge keys may be in the way of a graft


def _load(text: str, line: int = 1) -> Any:
    try:
        return _yaml(text).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", in line {line + mark.line}" if mark is not None else ""
        why = str(getattr(error, "problem", None) or "it cannot be read").partition("\n")[0]
        raise Refused([f"This is no YAML: {why}{where}."]) from None
    except (ValueError, RecursionError):
        raise Refused(["This is no YAML that can be read."]) from None


def _yaml(text: str) -> YAML:
    """A reader and writer that keeps what it can, and writes lists as most of this text does."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    yaml.allow_unicode = True
    offsets = [len(dash) - len(key) for key, dash in _DASH.findall(text)]
    steps = [len(inner) - len(outer) for outer, inner in _NESTED.findall(text)]
    offset = max(set(offsets), key=offsets.count) if offsets else 0
    step = max(set(steps), key=steps.count) if steps else 2
    offset = min(max(offset, 0), 8)
    yaml.indent(mapping=min(max(step, 2), 8), sequence=offset + 2, offset=offset)
    return yaml


def _write_json(text: str, value: Any) -> str:
    indent = _JSON_INDENT.match(text)
    written = json.dumps(value, indent=len(indent[1]) if indent else None, ensure_ascii=False)
    return written + ("\n" if text.endswith("\n") else "")


def _dump(yaml: YAML, node: Any) -> str:
    stream = io.StringIO()
    yaml.dump(node, stream)
    return stream.getvalue()


def _remember(text: str, before: str) -> str:
    """How to come from a text back to the one before: which lines to replace by what, as JSON."""
    now, then = text.splitlines(keepends=True), before.splitlines(keepends=True)
    codes = SequenceMatcher(None, now, then, autojunk=False).get_opcodes()
    patch = [(begin, end, "".join(then[first:last])) for tag, begin, end, first, last in codes if tag != "equal"]
    return json.dumps(patch, ensure_ascii=True, separators=(",", ":"))


def _recall(text: str, memory: str) -> str | None:
    """The text before; None where the memory is damaged or of another text."""
    try:
        patch = msgspec.json.decode(memory.encode(), type=Patch)
    except (msgspec.MsgspecError, RecursionError):
        return None
    lines = text.splitlines(keepends=True)
    for begin, end, replacement in reversed(patch):
        if not 0 <= begin <= end <= len(lines):
            return None
        lines[begin:end] = [replacement]
    return "".join(lines)

"""A report as Markdown for a pull request, and as text for a terminal."""

from collections.abc import Callable, Iterable

from proxy.lab.fitting import grid, wrapped
from proxy.lab.report import Cell, Report, Table

_MARKS = {
    "\\": "\\\\",
    "|": "\\|",
    "<": "&lt;",
    ">": "&gt;",
    "`": "'",
    "*": "\\*",
    "_": "\\_",
    "[": "\\[",
    "\n": " ",
    "@": "&#64;",
}
_SHORT = {  # a terminal is no wider than it is
    "handshakes per second": "rate",
    "requests per second": "rate",
    "server CPU per handshake": "server CPU",
    "server CPU per request": "server CPU",
    "client CPU per handshake": "client CPU",
    "latency p50": "p50",
    "latency p90": "p90",
    "latency p99": "p99",
    "latency max": "max",
    "bytes on the wire": "bytes",
}
_ESCAPES = str.maketrans(_MARKS)  # what a peer's name or a path could become in Markdown: a link, a mention, a tag


def markdown(report: Report) -> str:
    """As GitHub and GitLab render it; what came from a file is escaped."""
    parts = [f"### {_plain(report.title)}", _plain(report.subtitle)]
    if report.verdict:
        parts.append(_bullets(f"**{report.verdict}**", _gate_lines(report), _plain))
    parts += [
        _bullets(f"**{title}**", sentences, _plain)
        for title, sentences in (
            ("What changed", report.changed),
            ("Before you compare", report.cautions),
            ("In short", report.summary),
        )
        if sentences
    ]
    if report.changes:
        parts.append(_markdown_table(report.changes))
    parts += [_folded(table.title, _markdown_table(table)) for table in report.tables]
    facts = "\n".join(
        f"- {_plain(name)}: {_plain(value)}" for name, value in (("command", report.command), *report.facts)
    )
    parts.append(_folded("To have it again", facts))
    return "\n\n".join(parts) + "\n"


def text(report: Report, clean: Callable[[str], str], width: int | None = None) -> str:
    """As a terminal shows it. clean: takes out what a terminal would obey; width: of the terminal, None: it is none"""

    def line(words: str) -> str:
        return wrapped(f"- {clean(words)}", width).removeprefix("- ")

    parts = [wrapped(clean(f"{report.title}\n{report.subtitle}".replace("\n", " - ")), width)]
    if report.verdict:
        parts.append(_bullets(report.verdict, _gate_lines(report), line))
    parts += [
        _bullets(title, sentences, line)
        for title, sentences in (
            ("What changed", report.changed),
            ("Before you compare", report.cautions),
            ("In short", report.summary),
        )
        if sentences
    ]
    parts += [_text_table(table, clean, width) for table in (report.changes, *report.tables) if table]
    return "\n\n".join(parts) + "\n"


def _gate_lines(report: Report) -> Iterable[str]:
    for sentence, findings in report.gates:
        yield sentence
        yield from (f"{finding.outcome}: {finding.sentence}" for finding in findings)


def _bullets(title: str, sentences: Iterable[str], clean: Callable[[str], str]) -> str:
    return "\n".join((title, "", *(f"- {clean(sentence)}" for sentence in sentences)))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{_plain(title)}</summary>\n\n{body}\n\n</details>"


def _markdown_table(table: Table) -> str:
    headers = ["", *(_plain(header) for header in table.headers)]
    lines = [headers, ["---", *["---:"] * len(table.headers)]]
    lines += [[_plain(label), *(_plain(_words(cell)) for cell in cells)] for label, cells in table.rows]
    return f"{_plain(table.caption)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text_table(table: Table, clean: Callable[[str], str], width: int | None) -> str:
    rows = [[clean(label), *(clean(_words(cell)) for cell in cells)] for label, cells in table.rows]
    headers = ["", *(_SHORT.get(header, header) for header in table.headers)]
    return f"{wrapped(f'{table.title} ({clean(table.caption)})', width)}\n\n{grid(headers, rows, width)}"


def _words(cell: Cell) -> str:
    return f"{cell.text} {cell.note}".rstrip()


def _plain(words: str) -> str:
    return words.translate(_ESCAPES)

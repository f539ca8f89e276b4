"""What `mtls-sidecar report plaintext` found, as text for a person and as JSON for a program."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TextIO

import msgspec
from tabulate import tabulate

from proxy.cli.reportsources import Taken
from proxy.cli.terminal import Colour, paint
from proxy.core.clockwords import rfc3339, span
from proxy.core.plaintext import Client, Speaks
from proxy.core.strictness import ListenerVerdict, Verdict, overall
from proxy.ops.printable import printable, printable_json

MOST_ROWS = 50  # of a table on a screen; JSON has all

_WORDS = {
    Verdict.SAFE: ("safe", Colour.GOOD),
    Verdict.NOT_SAFE: ("not safe", Colour.BAD),
    Verdict.UNKNOWN: ("not known to be safe", Colour.WARNING),
}
_SPEAKS = {
    Speaks.PLAINTEXT: "plaintext",
    Speaks.APP_TLS: "its own TLS",
    Speaks.REFUSED: "plaintext, refused",
}


class Findings(NamedTuple):
    """Everything that there is to say. now: epoch seconds; names: address -> what to call it."""

    now: float
    window_s: int
    listeners: Sequence[ListenerVerdict]
    sources: Sequence[Taken]
    faults: Sequence[str]
    ignored_connections: int
    names: Mapping[str, str]

    @property
    def verdict(self) -> Verdict:
        """For all listeners together."""
        return overall(self.listeners)


def as_json(findings: Findings) -> str:
    """One document; times are RFC 3339."""
    document = {
        "now": rfc3339(findings.now),
        "window_s": findings.window_s,
        "verdict": findings.verdict,
        "listeners": [_listener(one, findings.names) for one in findings.listeners],
        "ignored_connections": findings.ignored_connections,
        "sources": findings.sources,
        "faults": findings.faults,
    }
    return printable_json(msgspec.json.format(msgspec.json.encode(document))).decode()


def as_text(findings: Findings, stream: TextIO) -> str:
    """Verdict first, then each listener, then who has to move, then what the evidence was."""
    word, colour = _WORDS[findings.verdict]
    parts = [paint(f"STRICT is {word}.", colour, stream)]
    if not findings.listeners:
        parts.append("No inbound listener is in the evidence.")
    parts += [_paragraph(one, stream) for one in findings.listeners]
    movers = [client for one in findings.listeners for client in one.clients]
    quiet = [client for one in findings.listeners for client in one.quiet]
    if movers:
        parts.append(_table("These still have to move:", movers, findings))
    if quiet:
        parts.append(_table(f"Not seen for {span(findings.window_s)} or longer:", quiet, findings))
    parts.append(f"{_sources(findings)}\n{_next_step(findings)}")
    return "\n\n".join(parts)


def _listener(one: ListenerVerdict, names: Mapping[str, str]) -> dict[str, object]:
    plain = {name: getattr(one, name) for name in one.__struct_fields__}
    return {
        **plain,
        "until": rfc3339(one.until),
        "clients": [_client(client, names) for client in one.clients],
        "quiet": [_client(client, names) for client in one.quiet],
    }


def _client(client: Client, names: Mapping[str, str]) -> dict[str, object]:
    return {
        "client": client.client,
        "name": names.get(client.client),
        "port": client.port,
        "speaks": client.speaks,
        "connections": client.connections,
        "open": client.open,
        "first_seen": rfc3339(client.first_seen) if client.first_seen else None,
        "last_seen": rfc3339(client.last_seen) if client.last_seen else None,
    }


def _paragraph(one: ListenerVerdict, stream: TextIO) -> str:
    word, colour = _WORDS[one.verdict]
    about = [*one.modes, *one.listen, f"{one.sidecars} sidecar{'s' if one.sidecars != 1 else ''}"]
    lines = [f"{paint(printable(one.listener), Colour.STRONG, stream)} ({printable(', '.join(about))})"]
    lines += [f"  {paint(word, colour, stream)}: {printable(reason)}" for reason in one.reasons]
    let_in = ", ".join(f"{count} {security}" for security, count in one.connections.items() if count)
    lines.append(f"  let in: {printable(let_in) or 'nobody'}")
    if one.refused:
        lines.append(f"  refused: {printable(', '.join(f'{count} {reason}' for reason, count in one.refused.items()))}")
    lines += [f"  note: {printable(note)}" for note in one.notes]
    return "\n".join(lines)


def _table(title: str, clients: Sequence[Client], findings: Findings) -> str:
    named = bool(findings.names)
    headers = [
        "CLIENT",
        *(["NAME"] if named else []),
        "LISTENER",
        "PORT",
        "SPEAKS",
        "CONNECTIONS",
        "OPEN",
        "FIRST SEEN",
    ]
    rows = []
    for client in clients[:MOST_ROWS]:
        name = [printable(findings.names.get(client.client, "-"))] if named else []
        first = rfc3339(client.first_seen) if client.first_seen else "-"
        last = f"{span(max(0.0, findings.now - client.last_seen))} ago" if client.last_seen else "not known"
        last = "now" if client.open else last
        port = "-" if client.port is None else str(client.port)
        facts = [port, _SPEAKS[client.speaks], str(client.connections), str(client.open), first, last]
        rows.append([printable(client.client), *name, printable(client.listener), *facts])
    text = tabulate(rows, headers=[*headers, "LAST SEEN"], tablefmt="plain", disable_numparse=True)
    left = len(clients) - MOST_ROWS
    more = f"\n{left} more: --json has all, --group-by prefix fewer" if left > 0 else ""
    return f"{title}\n{text}{more}"


def _next_step(findings: Findings) -> str:
    if findings.verdict is Verdict.SAFE:
        ready = [printable(one.listener) for one in findings.listeners if one.modes != ["STRICT"]]
        return (
            f"Next: `mode: STRICT` for {', '.join(ready)}, and look again after it."
            if ready
            else "Nothing is left to do."
        )
    if findings.verdict is Verdict.NOT_SAFE:
        return "Next: send these clients through sidecars of their own (or --ignore those that do not matter)."
    return "Next: look again later, or add logs that reach back further; --window says how long is enough."


def _sources(findings: Findings) -> str:
    logs = [one for one in findings.sources if one.kind == "log"]
    lines, skipped = sum(one.lines for one in logs), sum(one.skipped for one in logs)
    words = []
    if logs:
        words.append(f"{lines} lines of {len(logs)} log{'s' if len(logs) != 1 else ''}")
    if skipped:
        words.append(f"{skipped} of them not a sidecar's and skipped")
    endpoints = len(findings.sources) - len(logs)
    if endpoints:
        words.append(f"{endpoints} endpoint{'s' if endpoints != 1 else ''} or bodies of one")
    if findings.ignored_connections:
        count = findings.ignored_connections
        words.append(f"{count} connection{'s' if count != 1 else ''} left out by --ignore")
    return f"Read: {', '.join(words) or 'nothing'}. Window: {span(findings.window_s)} up to the end of the evidence."

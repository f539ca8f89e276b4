"""
The document of `probe` for a person: short, aligned, the verdict and the next command at the end.

Words of the peer (names in certificates, its first line) are made safe for the terminal. Colour marks verdicts only.
"""

import sys
import textwrap
from collections.abc import Iterator

from proxy.cli.probe_document import (
    ChoiceView,
    HandshakeView,
    Outcome,
    ProbeDocument,
    Resumption,
    VersionView,
)
from proxy.cli.terminal import Colour, paint
from proxy.core.clockwords import span
from proxy.ops.printable import printable
from proxy.tls.pemview import CertificateView

_LABEL = 21  # columns of a line's label
_COLUMN = 42  # columns of a TLS version
_WIDTH = 116

_COLOURS = {
    Outcome.ACCEPTED: Colour.GOOD,
    Outcome.REFUSED: Colour.BAD,
    Outcome.FAILED: Colour.BAD,
    Outcome.NO_WORD: Colour.WARNING,
}


def report_of(document: ProbeDocument) -> str:
    """Write the whole report."""
    return "\n".join(_lines(document))


def _lines(document: ProbeDocument) -> Iterator[str]:
    yield from _head(document)
    yield ""
    yield from _network(document)
    spoken = [version for version in document.versions if version.spoken]
    if spoken:
        yield ""
        yield from _handshakes(document.versions)
        yield from _choices(document)
    elif document.versions:
        yield from _field("TLS", document.versions[0].as_asked.detail)
    for number, certificate in enumerate(document.chain, 1):
        yield ""
        yield from _certificate(certificate, number, len(document.chain))
    if document.chain_order:
        yield from _field("  order", printable(document.chain_order))
    yield from (f"\n{pem.rstrip()}" for pem in document.pem)
    if document.warnings:
        yield ""
    for warning in document.warnings:
        first, *rest = _field("warning", printable(warning))
        yield from (first.replace("warning", paint("warning", Colour.WARNING, sys.stdout), 1), *rest)
    yield ""
    yield from _verdict(document)


def _head(document: ProbeDocument) -> Iterator[str]:
    name = f", server name {document.server_name}" if document.server_name else ""
    yield paint(f"probe {printable(document.peer)}{printable(name)}", Colour.STRONG, sys.stdout)
    ours = document.ours
    if ours is None:
        yield from _field("as", "nobody: no client certificate (--cert, --key)")
        return
    yield from _field("as", printable(ours.spiffe_id or f"a certificate without a SPIFFE ID, serial {ours.serial}"))
    yield from _field("", f"issued by {printable(ours.issuer)}, {ours.key_type}, {ours.validity.partition(': ')[2]}")


def _network(document: ProbeDocument) -> Iterator[str]:
    for number, one in enumerate(document.addresses):
        took = f" in {one.ms:g} ms" if one.connected else ""
        found = f"looked up in {document.lookup_ms:g} ms; " if number == 0 and document.peer != one.address else ""
        yield from _field("network" if number == 0 else "", f"{one.address}  {found}{one.detail}{took}")
    if not document.addresses:
        yield from _field("network", document.verdict.sentence)


def _handshakes(versions: list[VersionView]) -> Iterator[str]:
    def row(label: str, cells: list[str]) -> str:
        padded = [f"{cell:<{_COLUMN}}" for cell in cells]
        return f"{label:<{_LABEL}}{''.join(padded)}".rstrip()

    yield row("", [f"TLS {version.version}" for version in versions])
    asked = [version.as_asked for version in versions]
    label = "with our certificate" if asked[0].with_certificate else "without certificate"
    yield _painted(row(label, [_outcome(view) for view in asked]), asked)
    bare = [version.without_certificate for version in versions]
    if any(bare):
        yield row("without certificate", ["-" if view is None else _outcome(view) for view in bare])
    yield row("client certificate", [version.client_certificate.value for version in versions])
    yield row("cipher suite", [printable(view.cipher or "-") for view in asked])
    yield row("group", [printable(view.group or "-") for view in asked])
    yield row("ALPN", [printable(view.alpn or "none selected") if view.cipher else "-" for view in asked])
    yield row("session tickets", [_tickets(view) for view in asked])
    if any(version.resumption is not Resumption.NOT_TRIED for version in versions):
        yield row("resumption", [version.resumption.value for version in versions])
    yield row("handshake took", ["-" if view.ms is None else f"{view.ms:g} ms" for view in asked])
    names = list(dict.fromkeys(name for view in asked for name in view.ca_names))
    if any(view.certificate_asked for view in asked):
        yield from _field("asks for", printable("; ".join(names)) if names else "a certificate of any CA")
    for view in [*asked, *(view for view in bare if view is not None)]:
        if view.outcome is not Outcome.ACCEPTED and view.alert is None:
            who = "with" if view.with_certificate else "without"
            yield from _field(f"TLS {view.version}, {who}", printable(view.detail))


def _painted(line: str, views: list[HandshakeView]) -> str:
    for outcome in dict.fromkeys(view.outcome for view in views):
        colour = _COLOURS.get(outcome)
        if colour is not None:
            line = line.replace(outcome.value, paint(outcome.value, colour, sys.stdout))
    return line


def _outcome(view: HandshakeView) -> str:
    if view.outcome is Outcome.ACCEPTED:
        return f"accepted, by {(view.proof or '').partition(',')[0]}"
    if view.alert:
        return f"{view.outcome}: {view.alert}"
    return f"{view.outcome}, without an alert" if view.outcome is Outcome.REFUSED else view.outcome.value


def _tickets(view: HandshakeView) -> str:
    if not view.tickets:
        return "none seen" if view.outcome is Outcome.ACCEPTED else "-"
    lifetime = f", for {span(view.ticket_lifetime_s)}" if view.ticket_lifetime_s else ""
    return f"yes{lifetime}"


def _choices(document: ProbeDocument) -> Iterator[str]:
    for label, choice in (("groups", document.groups), ("TLS 1.2 suites", document.cipher_suites)):
        if choice is not None:
            yield from _field(f"takes {label}" if label == "groups" else label, _choice(choice))


def _choice(choice: ChoiceView) -> str:
    taken = ", ".join(choice.taken) or "none of ours"
    rest = ", ".join(choice.not_taken)
    if not rest:
        return taken
    return f"{taken}; not {rest}" if choice.complete else f"{taken}; could not tell for {rest}"


def _certificate(view: CertificateView, number: int, of: int) -> Iterator[str]:
    role = "CA" if view.authority else "leaf"
    yield f"certificate {number} of {of}: {role} {printable(view.spiffe_id or '(no SPIFFE ID)')}"
    names = [*(f"DNS {name}" for name in view.dns_names), *(f"IP {address}" for address in view.ip_addresses)]
    if names:
        yield from _field("  other names", printable(", ".join(names)))
    yield from _field("  subject", printable(view.subject) or "(empty)")
    yield from _field("  issuer", printable(view.issuer) or "(empty)")
    yield from _field("  key, serial", f"{view.key_type}, {view.serial}")
    yield from _field("  validity", view.validity)


def _verdict(document: ProbeDocument) -> Iterator[str]:
    verdict = document.verdict
    word = "good" if verdict.good else f"not good: {verdict.reason}"
    yield f"{'verdict':<{_LABEL}}{paint(word, Colour.GOOD if verdict.good else Colour.BAD, sys.stdout)}"
    yield from _field("", printable(verdict.sentence))
    if verdict.advice:
        yield from _field("what to do", printable(verdict.advice))
    if verdict.next_command:
        yield f"{'next':<{_LABEL}}{printable(verdict.next_command)}"  # in one line, to be copied


def _field(label: str, value: str) -> Iterator[str]:
    for number, line in enumerate(
        textwrap.wrap(value, _WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False) or [""]
    ):
        yield f"{label if number == 0 else '':<{_LABEL}}{line}".rstrip()

"""`mtls-sidecar certs show`: what PEM files hold, in words or as JSON. Everything is judged in tls/pemview.py."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from proxy.cli.pemfiles import Unreadable, open_to_others, read_files
from proxy.cli.terminal import Colour, paint
from proxy.core.reasons import Reason
from proxy.ops.printable import printable
from proxy.tls.pemview import CertificateView, Fault, FileView, KeyView, view_files


def show(paths: Sequence[str], now: datetime, *, as_json: bool) -> int:
    """Show the files; returns 0 when nothing is wrong, 1 when something is, 2 when a file could not be read."""
    contents, unreadable = read_files(paths)
    views = view_files(contents, now)
    if as_json:
        print(_document(views, unreadable))
    else:
        for number, view in enumerate(views):
            print(("\n" if number else "") + "\n".join(_lines(view)))
    for file, why in unreadable:
        print(f"mtls-sidecar certs: {printable(file)}: {why}", file=sys.stderr)
    if unreadable or any(not view.certificates and not view.keys for view in views):
        return 2
    return 1 if any(view.all_faults() for view in views) else 0


def _document(views: list[FileView], unreadable: list[Unreadable]) -> str:
    document = {"files": views, "unreadable": [{"file": file, "why": why} for file, why in unreadable]}
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _lines(view: FileView) -> Iterator[str]:
    yield paint(printable(view.file), Colour.STRONG, sys.stdout)
    for certificate in view.certificates:
        yield from _certificate_lines(certificate, len(view.certificates))
    for key in view.keys:
        yield from _key_lines(key, view.file)
    if view.chain:
        yield f"  chain: {printable(view.chain)}"
    for fault in view.faults:
        yield f"  {_fault_words(fault)}"


def _certificate_lines(view: CertificateView, of: int) -> Iterator[str]:
    role = "CA" if view.authority else "leaf"
    yield f"  certificate {view.position} of {of}: {role} {printable(view.spiffe_id or '(no SPIFFE ID)')}"
    # Time has a line of its own, so that "not an SVID" and "expired" are never mistaken for each other.
    timely = (Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID)
    late = [fault for fault in view.faults if fault.reason in timely]
    verdicts = [_fault_words(fault) for fault in view.faults if fault.reason not in timely]
    yield from _field(role if view.authority else "X509-SVID", verdicts or [paint("good", Colour.GOOD, sys.stdout)])
    yield from _field("validity", [_fault_words(fault) for fault in late] or [view.validity])
    others = [uri for uri in view.uris if uri != view.spiffe_id]
    names = [*(f"URI {uri}" for uri in others), *(f"DNS {name}" for name in view.dns_names)]
    names += [f"IP {address}" for address in view.ip_addresses]
    if names:
        yield from _field("other names", [printable(", ".join(names))])
    yield from _field("subject", [printable(view.subject) or "(empty)"])
    yield from _field("issuer", [printable(view.issuer) or "(empty)"])
    yield from _field("key", [view.key_type])
    yield from _field("serial", [view.serial])
    yield from _field("sha256", [view.sha256])


def _key_lines(view: KeyView, file: str) -> Iterator[str]:
    belongs = f", belongs to {printable(view.belongs_to)}" if view.belongs_to else ""
    yield f"  private key: {view.key_type}{belongs}"
    yield from (f"    {_fault_words(fault)}" for fault in view.faults)
    mode = open_to_others(file)
    if mode:
        warning = f"others can read it (mode {mode}): chmod 600 {printable(file)}"
        yield f"    {paint('warning', Colour.WARNING, sys.stdout)}: {warning}"


def _field(name: str, values: list[str]) -> Iterator[str]:
    for number, value in enumerate(values):
        yield f"    {name if number == 0 else '':<12} {value}"


def _fault_words(fault: Fault) -> str:
    return f"{paint(fault.reason, Colour.BAD, sys.stdout)}: {printable(fault.detail)}"

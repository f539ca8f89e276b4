"""`mtls-sidecar certs check-expiration`: what expires when, as a table like kubeadm's, soonest first, or as JSON."""

import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from tabulate import tabulate

from proxy.cli.pemfiles import read_files
from proxy.cli.terminal import Colour, paint
from proxy.core.clockwords import rfc3339, span
from proxy.core.configfile import ConfigFaults
from proxy.ops.configsource import read_config_file
from proxy.ops.printable import printable
from proxy.tls.pemview import CertificateView, parse


class Status(StrEnum):
    """Where a certificate stands in its life."""

    VALID = "valid"
    EXPIRES_SOON = "expires soon"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"


_COLOURS = {Status.VALID: Colour.GOOD, Status.EXPIRES_SOON: Colour.WARNING}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. residual_s: seconds until notAfter, negative once it has passed; authority: who issued it."""

    certificate: str
    expires: str
    residual_s: int
    authority: str
    kind: str
    status: Status
    file: str


def check_expiration(
    files: Sequence[str], config: str | None, now: datetime, *, warn_within_s: int, as_json: bool
) -> int:
    """Print the table; returns 0 when all is valid for longer than warn_within_s, 1 when not, 2 for a bad file."""
    try:
        paths = [*files, *(_identity_files(config) if config else ())]
    except ConfigFaults as faults:
        print(faults, file=sys.stderr)
        return 2
    rows, complaints = _collect(paths, now, warn_within_s)
    if as_json:
        document = {"now": rfc3339(now.timestamp()), "certificates": rows, "faults": complaints}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    elif rows:
        print(_table(rows))
    for complaint in complaints:
        print(f"mtls-sidecar certs: {printable(complaint)}", file=sys.stderr)
    if complaints:
        return 2
    return 0 if all(row.status is Status.VALID for row in rows) else 1


def _identity_files(config: str) -> list[str]:
    identity = read_config_file(config).identity
    return [identity.cert, *identity.bundles.values()]


def _collect(paths: Sequence[str], now: datetime, warn_within_s: int) -> tuple[list[Row], list[str]]:
    contents, unreadable = read_files(paths)
    complaints = [f"{file}: {why}" for file, why in unreadable]
    rows: list[Row] = []
    for file, data in contents.items():
        parsed = parse(file, data, now)
        complaints += [fault.detail for fault in parsed.faults]
        if parsed.keys and not parsed.certificates and not parsed.faults:
            complaints.append(f"{file}: holds a private key only, and keys do not expire: name the certificate instead")
        rows += [_row(view, file, now, warn_within_s) for view in parsed.views]
    return sorted(rows, key=lambda row: row.residual_s), complaints


def _row(view: CertificateView, file: str, now: datetime, warn_within_s: int) -> Row:
    if view.residual_s < 0:
        status = Status.EXPIRED
    elif view.not_before > rfc3339(now.timestamp()):  # RFC 3339 in UTC sorts as time does
        status = Status.NOT_YET_VALID
    else:
        status = Status.EXPIRES_SOON if view.residual_s < warn_within_s else Status.VALID
    return Row(
        certificate=view.spiffe_id or view.subject or f"serial {view.serial}",
        expires=view.not_after,
        residual_s=view.residual_s,
        authority="itself" if view.subject and view.subject == view.issuer else view.issuer,
        kind="CA" if view.authority else "leaf",
        status=status,
        file=file,
    )


def _table(rows: list[Row]) -> str:
    headers = ("CERTIFICATE", "KIND", "EXPIRES", "RESIDUAL TIME", "AUTHORITY", "STATUS", "FILE")
    cells = [
        (
            printable(row.certificate),
            row.kind,
            row.expires,
            "none" if row.residual_s < 0 else span(row.residual_s),
            printable(row.authority),
            paint(row.status, _COLOURS.get(row.status, Colour.BAD), sys.stdout),
            printable(row.file),
        )
        for row in rows
    ]
    return tabulate(cells, headers=headers, tablefmt="plain", disable_numparse=True)

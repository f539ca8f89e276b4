"""
What the admin endpoint shows of a running worker, as plain data: never a key, never a byte of traffic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from proxy.core.appprobe import AppProbe
from proxy.core.clockwords import rfc3339, span
from proxy.core.config import Config, SystemdAddress, TcpAddress, UnixAddress
from proxy.core.spiffe import IdPattern

if TYPE_CHECKING:
    from cryptography import x509

    from proxy.net.state import Connection
    from proxy.ops.reload import Reloader
    from proxy.tls.verify import PeerIdentity


def certs_view(reloader: "Reloader", now: float) -> dict[str, object]:
    """Our identity and the bundles in force, their generation and age, and why and since when a reload fails."""
    generation = reloader.generation
    if generation is None:
        return {"generation": 0, "our_clock": rfc3339(now), **reloader.failures.describe()}
    material = generation.material
    return {
        "generation": generation.number,
        "digest": material.digest.hex(),
        "published_at": rfc3339(reloader.published_at, milliseconds=True),
        "our_clock": rfc3339(now),
        "spiffe_id": str(material.identity.spiffe_id),
        "lapses_at": rfc3339(material.identity.lapses_at),
        "lapses_in": span(material.identity.lapses_at - now) if material.identity.lapses_at > now else "lapsed",
        "chain": [_certificate(certificate) for certificate in material.chain],
        "bundles": {
            domain.name: [_certificate(anchor) for anchor in anchors] for domain, anchors in material.bundles.items()
        },
        "warnings": list(material.warnings),
        **reloader.failures.describe(),
    }


def _certificate(certificate: "x509.Certificate") -> dict[str, str]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": rfc3339(certificate.not_valid_before_utc.timestamp()),
        "not_after": rfc3339(certificate.not_valid_after_utc.timestamp()),
    }


def config_view(config: Config) -> Mapping[str, object]:
    """The configuration in force, defaults filled in; it names files and holds no secret."""
    return {**_section(config), "workers": config.workers or "auto"}


def _section(section: object) -> dict[str, object]:
    return {field.name: _plain(getattr(section, field.name)) for field in fields(section)}  # type: ignore[arg-type]


def _plain(value: object) -> object:
    """Addresses and patterns as they are written in the file; sections as objects."""
    if isinstance(value, TcpAddress | UnixAddress | SystemdAddress | IdPattern):
        return str(value)
    if isinstance(value, AppProbe):  # the value of a header may be what lets somebody in
        names = [f"{line.partition(':')[0]}: ..." for line in value.headers]
        return {**_section(value), "headers": names}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return _section(value) if is_dataclass(value) else value


def connections_view(connections: Sequence["Connection"], monotonic_now: float) -> list[dict[str, object]]:
    """The open connections, oldest first, one flat object each."""
    return [
        _connection(connection, monotonic_now) for connection in sorted(connections, key=lambda one: one.started_at)
    ]


def _connection(connection: "Connection", monotonic_now: float) -> dict[str, object]:
    peer: PeerIdentity | None = connection.peer
    tls = connection.tls
    return {
        "direction": connection.service.listener.direction,
        "listener": connection.service.listener.name,
        "phase": connection.phase,
        "start_time": rfc3339(connection.start_time, milliseconds=True),
        "duration_s": round(monotonic_now - connection.started_at, 3),
        "downstream_remote_address": connection.remote,
        "downstream_local_address": connection.local,
        "upstream_address": connection.upstream_address,
        "bytes_received": connection.bytes_received,
        "bytes_sent": connection.bytes_sent,
        "security": connection.security,
        "generation": connection.generation.number,
        "tls_version": tls.version if tls is not None else None,
        "peer_spiffe_id": str(peer.spiffe_id) if peer is not None else None,
        "peer_lapses_at": rfc3339(peer.lapses_at) if peer is not None else None,
    }

"""
The sides of a comparison: what stands in front of the app, how it is reached, and that it refuses whom it has to.

A side is started by a Testbed and known by its address. Before it is measured it is tried: a client with a certificate
of the CA is served, in TLS 1.2 and in 1.3; one without any, and one of another CA that claims the same name, are not. A
proxy that serves those does less than the others do, and is not measured.
"""

import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from proxy.lab.generator import LoadFault
from proxy.lab.observe import observe
from proxy.lab.ordinaryprocess import MODULE as ORDINARY
from proxy.lab.peerconfigs import Link, text_of
from proxy.lab.peers import Peer
from proxy.lab.plan import Plan
from proxy.lab.ports import free_port
from proxy.lab.results import Security
from proxy.lab.testbed import CLIENT_ID, HOST, TRUST_DOMAIN, Identities, Testbed, wait_for
from proxy.ops.ownmodule import package_command
from proxy.tls.authority import Authority
from proxy.tls.engine import boringssl_engine
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid
from proxy.tls.loadcontext import Credentials, Offer

VERSIONS = ("1.2", "1.3")
GROUP, CIPHER = "X25519", "AES-128-GCM"
_CURVES = ("P-256", "P-384")  # of the certificates: TLS 1.2 reads the list of groups for them too
_ATTEMPTS = 3  # a free port may be taken by another process before the peer has it
_REFUSAL_S = 10.0
_LIFETIME_S = 86_400.0
_SPARE_DESCRIPTORS = 256


@dataclass(frozen=True, slots=True)
class Side:
    """
    What stands in front of the app and serves.

    name:        in tables; words: what it is, with its version
    credentials: of the client that it serves; None: it is reached in plaintext
    security:    what it does for a connection
    """

    name: str
    words: str
    address: tuple[str, int]
    pids: tuple[int, ...]
    security: Security
    credentials: Credentials | None = field(default=None)


def offer(version: str, key: str) -> Offer:
    """The one group and suite of all rows; the suite of TLS 1.2 goes with the type of key."""
    return Offer(version=version, group=GROUP, cipher=suite(version, key))


def suite(version: str, key: str) -> str:
    """AES-128-GCM with what the certificate signs with."""
    if version == "1.3":
        return "TLS_AES_128_GCM_SHA256"
    return f"TLS_ECDHE_{'RSA' if key.startswith('rsa') else 'ECDSA'}_WITH_AES_128_GCM_SHA256"


def allow_descriptors(connections: int) -> None:
    """
    Let what is started from here on have so many connections open at once, two descriptors each.

    Raises: LoadFault when the system's hard limit is below
    """
    needed = 2 * connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise LoadFault(
            f"{connections} connections need {needed} file descriptors, and the limit here is {hard}: raise it "
            "(`ulimit -Hn` as root), or hold fewer with --idle"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def engines() -> tuple[str, ...]:
    """The TLS engines that a sidecar can run on here, the fastest first."""
    try:
        boringssl_engine()
    except ImportError:
        return ("openssl",)
    return ("boringssl", "openssl")


def direct(bed: Testbed) -> Side:
    """No proxy at all: the client talks to the app."""
    port = bed.start_app(1)[0]
    return Side("direct", "the app itself, without any proxy", (HOST, port), (), Security.PLAINTEXT)


def sidecar(bed: Testbed, key: str, engine: str, *, mode: str = "STRICT", verdict_cache: bool = True) -> Side:
    """
    A sidecar in front of an app of its own.

    verdict_cache: whether a chain that it found good is not verified again. Raises: LoadFault
    """
    groups = (GROUP, *_CURVES)
    (app,) = bed.start_app(1)
    running = bed.sidecar(key, groups=groups, mode=mode, engine=engine, verdict_cache=verdict_cache, app_port=app)
    if mode == "DISABLE":
        words = "mtls-sidecar run, DISABLE: bytes as they come"
        return Side("sidecar, DISABLE", words, running.address, (running.pid,), Security.PLAINTEXT)
    chains = "a chain found good is not verified again" if verdict_cache else "every chain is verified anew"
    words = "mtls-sidecar run, STRICT, SPIFFE identity, a log line for each connection"
    words += f"; {chains} (tls.verdict_cache); engine {engine}"
    credentials = running.identities.credentials
    return Side(f"sidecar ({engine})", words, running.address, (running.pid,), Security.MUTUAL_TLS, credentials)


def two_sidecars(bed: Testbed, key: str, engine: str) -> Side:
    """What a mesh has between two apps: plaintext into an outbound sidecar, mutual TLS to an inbound one."""
    inner = sidecar(bed, key, engine)
    outer = bed.outbound(key, inner.address, engine=engine)
    words = "outbound sidecar (which resumes its sessions, as it does by default), mutual TLS, inbound sidecar; the CPU"
    words += f" and memory of both; engine {engine}"
    return Side("two sidecars", words, outer.address, (outer.pid, *inner.pids), Security.MUTUAL_TLS)


def ordinary(bed: Testbed, key: str, *, mutual: bool) -> Side:
    """The ordinary asyncio relay, with or without client certificates. Raises: LoadFault"""
    identities, (app,) = bed.identities(key), bed.start_app(1)
    paths = [str(identities.server / name) for name in (CERT_FILE, KEY_FILE)]
    paths += [str(identities.server / BUNDLE_FILE)] if mutual else []
    name = f"asyncio, {'mutual TLS' if mutual else 'TLS'}"

    def argv(listen: tuple[str, int]) -> list[str]:
        return package_command(ORDINARY, text_of(listen), f"{HOST}:{app}", *paths)

    address, pid = _listening(bed, "asyncio-mutual" if mutual else "asyncio-tls", name, argv)
    words = "uvloop, asyncio.start_server(ssl=...), Python's own ssl module: the ordinary way to write a TLS relay"
    return _side(name, words, address, pid, identities, mutual=mutual)


def peer(bed: Testbed, other: Peer, key: str) -> Side:
    """A proxy of other people, configured. Raises: LoadFault when it is not installed or does not start"""
    program = other.program()
    if program is None:
        raise LoadFault(f"{other.title} is not installed: {other.install}")
    identities, (app,) = bed.identities(key), bed.start_app(1)
    folder = bed.folder / other.name
    folder.mkdir(exist_ok=True)
    cert, private = identities.server / CERT_FILE, identities.server / KEY_FILE
    pem = folder / "server.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(cert.read_bytes() + private.read_bytes())

    def argv(listen: tuple[str, int]) -> list[str]:
        link = Link(listen, (HOST, app), cert, private, pem, identities.server / BUNDLE_FILE)
        return [program, *other.arguments(folder, link)]

    address, pid = _listening(bed, other.name, other.title, argv)
    return _side(other.name, other.version(), address, pid, identities, mutual=True)


def _side(name: str, words: str, address: tuple[str, int], pid: int, identities: Identities, *, mutual: bool) -> Side:
    credentials = identities.credentials
    if not mutual:
        credentials = msgspec.structs.replace(credentials, cert=None, key=None)
    return Side(name, words, address, (pid,), Security.MUTUAL_TLS if mutual else Security.TLS, credentials)


def _listening(
    bed: Testbed, stem: str, what: str, argv: Callable[[tuple[str, int]], list[str]]
) -> tuple[tuple[str, int], int]:
    """Start a program that has to be told its port. Raises: LoadFault"""
    attempt = 0
    while True:
        listen = HOST, free_port()
        process = bed.start(stem, argv(listen), bed.cores.server)
        try:
            wait_for(partial(_accepting, listen), process, bed.folder / f"{stem}.log", what)
        except LoadFault:
            attempt += 1
            if attempt == _ATTEMPTS or process.poll() is None:
                raise
        else:
            return listen, process.pid


class Stranger:
    """A client certificate of another CA that claims the very name that is let in. folder: where it is written"""

    def __init__(self, folder: Path, key: str) -> None:
        now = datetime.now(UTC)
        other = Authority.create(TRUST_DOMAIN, now=now, lifetime_s=_LIFETIME_S, key_type=key)
        svid = other.issue(CLIENT_ID, now=now, lifetime_s=_LIFETIME_S, key_type=key)
        write_svid(folder, svid, bundles={BUNDLE_FILE: other.bundle_pem})
        self._folder = folder

    def instead_of(self, credentials: Credentials) -> Credentials:
        """The same client, with this certificate."""
        cert, key = str(self._folder / CERT_FILE), str(self._folder / KEY_FILE)
        return msgspec.structs.replace(credentials, cert=cert, key=key)


def check(side: Side, stranger: Stranger, key: str, versions: Sequence[str] = VERSIONS) -> str:
    """
    Try a side that is to require a client certificate: who has one is served, who has none or another CA's is not.

    Returns: what was seen, as a clause
    Raises:  LoadFault when it serves whom it must not, or not whom it must
    """
    assert side.credentials is not None
    nobody = msgspec.structs.replace(side.credentials, cert=None, key=None)
    for version in versions:
        plan = Plan(
            address=side.address,
            credentials=side.credentials,
            offer=offer(version, key),
            request=b"P",
            timeout_s=_REFUSAL_S,
        )
        try:
            observe(plan)
        except LoadFault as fault:
            raise LoadFault(f"it does not serve TLS {version} as it was set up to: {fault}") from None
        for who, credentials in (("without a certificate", nobody), ("of another CA", stranger.instead_of(nobody))):
            try:
                observe(msgspec.structs.replace(plan, credentials=credentials))
            except LoadFault:
                continue  # as it should be; that it would have served a good client was seen just before
            raise LoadFault(f"it served a client {who} over TLS {version}: not the same job, so it is not measured")
    return f"refused a client without a certificate and one of another CA, in TLS {' and '.join(versions)}"


def _accepting(address: tuple[str, int]) -> tuple[str, int] | None:
    """The address, once something listens there."""
    try:
        socket.create_connection(address, timeout=1.0).close()
    except OSError:
        return None
    return address

"""
What the laboratory starts itself: the app behind, a development CA for each kind of certificate, and sidecars.

The server has a core to itself and the rest of the machine belongs to the load, as far as there is more than one; with
a single core both share it, and the figures are worth less (`note` says so). Everything ends with the Testbed, and
where that is killed, with its keeper (lab/keeper.py), which then removes the folder too.
"""

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import msgspec
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.lab.appprocess import MODULE as APP
from proxy.lab.generator import LoadFault
from proxy.lab.keeper import Keeper, uninterrupted
from proxy.lab.results import Certificate
from proxy.ops.ownmodule import package_command, package_environment
from proxy.tls.authority import Authority, Svid
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid
from proxy.tls.loadcontext import Credentials

TRUST_DOMAIN = "bench.example"
SERVER_ID = f"spiffe://{TRUST_DOMAIN}/ns/bench/sa/server"
CLIENT_ID = f"spiffe://{TRUST_DOMAIN}/ns/bench/sa/client"
HOST = "127.0.0.1"
KEY_WORDS = {
    "ecdsa-p256": "ECDSA P-256",
    "ecdsa-p384": "ECDSA P-384",
    "rsa-2048": "RSA-2048",
    "rsa-3072": "RSA-3072",
    "rsa-4096": "RSA-4096",
    "ed25519": "Ed25519",
}

_LIFETIME_S = 86_400.0
_START_S = 30.0
_STOP_S = 10.0
_LOOK_S = 0.01
_SHOWN_CHARS = 300


class Identities(NamedTuple):
    """A CA with the SVIDs of both ends, on disk. Each folder holds tls.crt, tls.key and ca.crt."""

    server: Path
    client: Path
    certificates: tuple[Certificate, ...]

    @property
    def credentials(self) -> Credentials:
        """The client's, who expects the server's SPIFFE ID."""
        return Credentials(
            ca=str(self.client / BUNDLE_FILE),
            cert=str(self.client / CERT_FILE),
            key=str(self.client / KEY_FILE),
            server_ids=(SERVER_ID,),
        )


class Sidecar(NamedTuple):
    """A sidecar that serves. address: of its one listener."""

    pid: int
    address: tuple[str, int]
    identities: Identities


class Cores(NamedTuple):
    """Which cores belong to whom."""

    server: set[int]
    load: set[int]

    @property
    def note(self) -> str | None:
        """What a reader of the figures has to know about it."""
        if self.server == self.load:
            return "Server and load shared one core: the figures are worth less than on two."
        return None


def split_cores() -> Cores:
    """One core for the server, all others for the load."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores({usable[0]}, set(usable[1:]) or {usable[0]})


class Testbed:
    """The app and whatever is started in front of it. folder: empty, for certificates, configurations and logs."""

    __test__ = False  # its name would make pytest collect it

    def __init__(self, folder: Path, cores: Cores) -> None:
        """Raises: LoadFault when the app does not start; folder is then still the caller's to remove"""
        self.folder = folder
        self.cores = cores
        self._running = ExitStack()
        self._identities: dict[tuple[str, int], Identities] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._started = 0
        try:
            self._keeper = Keeper(folder)
        except OSError as error:
            raise LoadFault(f"no process can be started here: {error.strerror}") from None
        self._running.callback(self._keeper.close)  # the first that is noted is the last that ends
        try:
            self.app_port = self.start_app(1)[0]
        except BaseException:
            self._running.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._running.close()

    def start_app(self, ports: int) -> list[int]:
        """Start another app; returns its ports on loopback. Raises: LoadFault"""
        process = self.start("app", package_command(APP, str(ports)), self.cores.load, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], _START_S)[0]:
            raise LoadFault("the app behind the proxies did not start: this machine is too busy")
        return msgspec.json.decode(process.stdout.readline() or b"[]", type=list[int])

    def identities(self, key: str, chain_length: int = 1) -> Identities:
        """
        A CA and the SVIDs of server and client, all with keys of one type; made once.

        key:          a word of KeyType
        chain_length: certificates that each end sends, its leaf included
        """
        if (key, chain_length) not in self._identities:
            self._identities[key, chain_length] = self._issue(key, chain_length)
        return self._identities[key, chain_length]

    def sidecar(
        self,
        key: str,
        *,
        chain_length: int = 1,
        groups: Sequence[str] = (),
        mode: str = "STRICT",
        engine: str = "auto",
        verdict_cache: bool = True,
        app_port: int | None = None,
    ) -> Sidecar:
        """
        Start a sidecar in front of the app: one inbound listener, and where it authenticates one allowed peer.

        groups:   `tls.groups`; empty: the sidecar's defaults
        mode:     STRICT or DISABLE; engine: `tls.engine`; verdict_cache: `tls.verdict_cache`
        app_port: of the app that it is in front of; None: the one that all share
        Raises:   LoadFault when it does not start
        """
        inbound = {
            "name": "bench",
            "listen": f"{HOST}:0",
            "upstream": f"{HOST}:{app_port or self.app_port}",
            "mode": mode,
            **({"allow": [CLIENT_ID]} if mode != "DISABLE" else {}),
        }
        identities = self.identities(key, chain_length)
        tls = {"engine": engine, "verdict_cache": verdict_cache, **({"groups": list(groups)} if groups else {})}
        return self._sidecar("inbound", inbound, identities.server, tls, identities)

    def outbound(self, key: str, upstream: tuple[str, int], *, engine: str = "auto") -> Sidecar:
        """Start a sidecar with plaintext in and mutual TLS to an inbound one. Raises: LoadFault"""
        listener = {
            "name": "bench",
            "listen": f"{HOST}:0",
            "upstream": f"{upstream[0]}:{upstream[1]}",
            "server_ids": [SERVER_ID],
        }
        identities = self.identities(key)
        return self._sidecar("outbound", listener, identities.client, {"engine": engine}, identities)

    def _sidecar(
        self, direction: str, listener: dict[str, Any], folder: Path, tls: dict[str, Any], identities: Identities
    ) -> Sidecar:
        self._started += 1
        config = {
            "identity": {
                "cert": str(folder / CERT_FILE),
                "key": str(folder / KEY_FILE),
                "bundles": {TRUST_DOMAIN: str(folder / BUNDLE_FILE)},
            },
            direction: [listener],
            "admin": None,
            "tls": tls,
        }
        name = f"{self._started:03}-{direction}"
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        process = self.start(name, package_command("proxy", "run", "--config", str(file)), self.cores.server)
        log = self.folder / f"{name}.log"
        address = wait_for(lambda: _listening(log, direction), process, log, "the sidecar")
        return Sidecar(process.pid, address, identities)

    def start(
        self, name: str, argv: Sequence[str], cores: Iterable[int], *, stdout: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a program on some cores, its stderr in FOLDER/NAME.log; it ends with the Testbed. Raises: LoadFault"""
        with (self.folder / f"{name}.log").open("wb") as log, uninterrupted():
            try:
                process = subprocess.Popen(  # noqa: S603  # the argv is the laboratory's own
                    list(argv),
                    stdin=subprocess.PIPE,
                    stdout=log if stdout is None else stdout,
                    stderr=log,
                    env=package_environment(),
                    process_group=0,  # Ctrl-C is for the command, which ends its children
                )
            except OSError as error:
                raise LoadFault(f"{argv[0]} cannot be started: {error.strerror}") from None
            self._keeper.note(process.pid)
            self._running.callback(_end, process)
            self._processes[process.pid] = process
        os.sched_setaffinity(process.pid, cores)  # it has no thread yet; those to come inherit
        return process

    def stop(self, pid: int) -> None:
        """End a program that was started here, before the Testbed does."""
        _end(self._processes.pop(pid))
        self._keeper.forget(pid)

    def _issue(self, key: str, chain_length: int) -> Identities:
        now = datetime.now(UTC)
        issuer = Authority.create(TRUST_DOMAIN, now=now, lifetime_s=_LIFETIME_S, key_type=key)
        for below in range(chain_length - 2, -1, -1):
            issuer = issuer.intermediate(now=now, lifetime_s=_LIFETIME_S, key_type=key, path_length=below)
        folder = self.folder / f"{key}-{chain_length}"
        paths, certificates = [], []
        for whose, spiffe_id in (("server", SERVER_ID), ("client", CLIENT_ID)):
            svid = issuer.issue(spiffe_id, now=now, lifetime_s=_LIFETIME_S, key_type=key)
            write_svid(folder / whose, svid, bundles={BUNDLE_FILE: issuer.bundle_pem})
            paths.append(folder / whose)
            certificates.append(_facts(whose, key, svid))
        return Identities(paths[0], paths[1], tuple(certificates))


def wait_for(
    find: Callable[[], "tuple[str, int] | None"], process: "subprocess.Popen[bytes]", log: Path, what: str
) -> tuple[str, int]:
    """Look until a started program has said where it listens. Raises: LoadFault with the end of its log"""
    deadline = time.monotonic() + _START_S
    while (found := find()) is None:
        if process.poll() is not None:
            raise LoadFault(f"{what} ended at its start (status {process.returncode}): {_last_words(log)}")
        if time.monotonic() > deadline:
            raise LoadFault(f"{what} did not start within {_START_S:.0f} s: {_last_words(log)}")
        time.sleep(_LOOK_S)
    return found


def _listening(log: Path, direction: str) -> tuple[str, int] | None:
    """The address in the sidecar's line `listening`, once it is there whole."""
    for line in log.read_bytes().split(b"\n")[:-1]:
        if b'"listening"' in line:
            fields = json.loads(line)
            if fields.get("event") == "listening" and fields.get("direction") == direction:
                host, _, port = str(fields["address"]).rpartition(":")
                return host, int(port)
    return None


def _last_words(log: Path) -> str:
    """The end of a log, for a sentence; without the folder, which nobody finds later."""
    said = log.read_text(errors="replace").replace(f"{log.parent}/", "").strip()
    return said[-_SHOWN_CHARS:] or "it said nothing"


def _facts(whose: str, key: str, svid: Svid) -> Certificate:
    return Certificate(
        whose=whose,
        key=KEY_WORDS[key],
        signature=str(svid.leaf.signature_algorithm_oid._name),
        chain_length=len(svid.chain),
        chain_bytes=sum(len(certificate.public_bytes(Encoding.DER)) for certificate in svid.chain),
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Gently first; twice is once."""
    streams: tuple[IO[bytes] | None, ...] = (process.stdin, process.stdout)
    for stream in streams:
        if stream is not None:
            try:
                stream.close()
            except OSError:
                pass
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

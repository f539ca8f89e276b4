"""
The small world of the demo: one development CA, two apps, and their sidecars as real processes on loopback.

    app A (the demo itself) -> sidecar A -> mutual TLS -> sidecar B -> app B (the sample app, told who called)

Sidecar A runs twice, once for each TLS version; each has one listener to app B, and one that expects another identity
there than the one it meets. Whoever makes a World closes it, and nothing of it is left running.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from proxy.cli.childprocess import Address, Line, LoggedProcess, is_ready
from proxy.cli.sampleapp import LISTENING, MODULE
from proxy.lab.keeper import Keeper, uninterrupted
from proxy.lab.ports import free_port
from proxy.ops.ownmodule import package_command
from proxy.tls.authority import Authority
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, Publication, write_svid

TRUST_DOMAIN = "demo.example"
OTHER_DOMAIN = "other.example"
APP_A = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/app-a"
APP_B = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/app-b"
STRANGER = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/stranger"
PAYMENTS = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/payments"
ALLOW = (APP_A,)  # who may call app B

VERSIONS = ("1.3", "1.2")
TO_APP_B = "app-b"
TO_PAYMENTS = "payments"  # leads to app B, which is not who it expects
LIFETIME_S = 3600.0
HOST = "127.0.0.1"


class RunningSidecar(NamedTuple):
    """A sidecar that is ready. addresses: listener -> where it is bound."""

    process: LoggedProcess
    admin: Address
    addresses: dict[str, Address]
    identity: Path
    spiffe_id: str
    publication: Publication

    @property
    def generation(self) -> int:
        """The trust generation in force, as its log has it."""
        published = [line for line in self.process.lines("reload") if line.get("result") == "published"]
        return max((int(line["generation"]) for line in published), default=0)


class World:
    """Everything that runs. folder: empty, for configurations, certificates and logs; keeper: hears of each process"""

    def __init__(self, folder: Path, keeper: Keeper) -> None:
        self.folder = folder
        self._keeper = keeper
        self._running = ExitStack()
        now = datetime.now(UTC)
        self.authority = Authority.create(TRUST_DOMAIN, now=now, lifetime_s=LIFETIME_S)
        self.app: LoggedProcess
        self.sidecar_b: RunningSidecar
        self.sidecars_a: dict[str, RunningSidecar] = {}

    @property
    def sidecars(self) -> list[RunningSidecar]:
        """All of them."""
        return [*self.sidecars_a.values(), self.sidecar_b]

    def start_app(self) -> Address:
        """Start app B. Raises: NotShown."""
        self.app = self._start("app B", package_command(MODULE), "app-b.log")
        line = self.app.line(lambda line: line.get("event") == LISTENING, "where it listens")
        return HOST, int(line["port"])

    def start_sidecar_b(self, app: Address) -> None:
        """Start the inbound side. Raises: NotShown."""
        inbound = {
            "name": TO_APP_B,
            "listen": f"{HOST}:{free_port(HOST)}",
            "upstream": f"{app[0]}:{app[1]}",
            "mode": "STRICT",
            "allow": list(ALLOW),
            "proxy_protocol": "v2-tls",
        }
        self.sidecar_b = self._start_sidecar("sidecar B", APP_B, Publication.SWAP, "inbound", [inbound])

    def start_sidecar_a(self, version: str) -> None:
        """Start the outbound side for one TLS version. Raises: NotShown."""
        host, port = self.sidecar_b.addresses[TO_APP_B]
        outbound = [
            {
                "name": name,
                "listen": f"{HOST}:{free_port(HOST)}",
                "upstream": f"{host}:{port}",
                "server_ids": [server_id],
            }
            for name, server_id in ((TO_APP_B, APP_B), (TO_PAYMENTS, PAYMENTS))
        ]
        self.sidecars_a[version] = self._start_sidecar(
            f"sidecar A for TLS {version}",
            APP_A,
            Publication.RENAME,
            "outbound",
            outbound,
            tls={"min_version": version, "max_version": version},
        )

    def rotate(self, sidecar: RunningSidecar) -> str:
        """Write a new SVID for a sidecar, with a new key, the way that its folder is written. Returns: its serial."""
        svid = self.authority.issue(sidecar.spiffe_id, now=datetime.now(UTC), lifetime_s=LIFETIME_S)
        bundles = {BUNDLE_FILE: self.authority.bundle_pem}
        write_svid(sidecar.identity, svid, bundles=bundles, publication=sidecar.publication)
        return f"{svid.leaf.serial_number:x}"

    def close(self) -> None:
        """End everything that still runs, at once."""
        self._running.close()

    def _start_sidecar(
        self,
        name: str,
        spiffe_id: str,
        publication: Publication,
        direction: str,
        listeners: Sequence[Mapping[str, object]],
        **sections: object,
    ) -> RunningSidecar:
        stem = name.lower().replace(" ", "-")
        identity = self.folder / f"{stem}-identity"
        admin = (HOST, free_port(HOST))
        config = {
            "identity": {
                "cert": f"{identity.name}/{CERT_FILE}",
                "key": f"{identity.name}/{KEY_FILE}",
                "bundles": {TRUST_DOMAIN: f"{identity.name}/{BUNDLE_FILE}"},
                "refresh_s": 1,
            },
            direction: listeners,
            **sections,
            "timeouts": {"drain_s": 5},
            "admin": {"listen": f"{admin[0]}:{admin[1]}"},
        }
        file = self.folder / f"{stem}.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        svid = self.authority.issue(spiffe_id, now=datetime.now(UTC), lifetime_s=LIFETIME_S)
        write_svid(identity, svid, bundles={BUNDLE_FILE: self.authority.bundle_pem}, publication=publication)
        process = self._start(name, package_command("proxy", "run", "--config", str(file)), f"{stem}.log")
        process.until(lambda: is_ready(admin), "ready")
        addresses = {
            name: _address(process.line(_listens(name), f"that `{name}` listens"))
            for name in (str(listener["name"]) for listener in listeners)
        }
        return RunningSidecar(process, admin, addresses, identity, spiffe_id, publication)

    def _start(self, name: str, argv: list[str], log: str) -> LoggedProcess:
        with uninterrupted():
            process = LoggedProcess(name, argv, self.folder / log)
            self._keeper.note(process.process.pid)
            self._running.callback(process.kill)
        return process


def _listens(name: str) -> Callable[[Line], bool]:
    return lambda line: line.get("event") == "listening" and line.get("listener") == name


def _address(line: Line) -> Address:
    host, _, port = str(line["address"]).rpartition(":")
    return host, int(port)

"""
The sidecar in a test: the real program in a process of its own, its log as data, its end certain.

What it says on stderr must be lines of JSON: anything else (a traceback, a warning of the interpreter) fails the test
that it happened in, when the sidecar is closed.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.config import Engine
from tests import engines
from tests.e2e.pki import Identity
from tests.e2e.waiting import PATIENCE_S, Address, free_address, text_of, until

Line = dict[str, Any]


def inbound(name: str, upstream: Address, **keys: object) -> dict[str, object]:
    """A listener of `inbound:` on a free address; `allow` is everybody of the trust domain unless it is given."""
    if keys.get("mode") != "DISABLE":
        keys.setdefault("allow", ["spiffe://example.org/**"])
    return {"name": name, "listen": text_of(free_address()), "upstream": text_of(upstream), **keys}


def outbound(name: str, upstream: Address, **keys: object) -> dict[str, object]:
    """A listener of `outbound:` on a free address; any server of the trust domain unless `server_ids` are given."""
    keys.setdefault("server_ids", ["spiffe://example.org/**"])
    return {"name": name, "listen": text_of(free_address()), "upstream": text_of(upstream), **keys}


class Sidecar:
    """
    A running `mtls-sidecar run`.

    listeners: of inbound and outbound, as `inbound` and `outbound` above make them
    options:   of the command, after its --config
    enter:     what is put before the command, so that it runs somewhere else: in a Pod's network namespace
    admin:     where its admin endpoint listens; by default on a free address
    sections:  the other sections of the configuration, and its log level
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity | Mapping[str, object],
        *,
        inbound: list[dict[str, object]] | None = None,
        outbound: list[dict[str, object]] | None = None,
        options: tuple[str, ...] = (),
        enter: tuple[str, ...] = (),
        admin_at: Address | None = None,
        **sections: object,
    ) -> None:
        section = identity.section() if isinstance(identity, Identity) else identity
        self.admin = admin_at or free_address()
        self.config: dict[str, Any] = {
            "identity": dict(section),
            "inbound": inbound or [],
            "outbound": outbound or [],
            "admin": {"listen": text_of(self.admin)},
            **sections,
        }
        if engines.in_use() is not Engine.AUTO:
            self.config["tls"] = {"engine": str(engines.in_use()), **self.config.get("tls", {})}
        self.file = folder / "sidecar.yaml"
        self.write()
        self._changed = threading.Condition()
        self._lines: list[Line] = []
        self.unreadable: list[str] = []
        self.process = subprocess.Popen(
            [*enter, sys.executable, "-m", "proxy", "run", "--config", str(self.file), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "MTLS_SIDECAR_DEBUG": "1"},  # a bug of ours shows its traceback here
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def write(self) -> None:
        """Put `config` on disk by one rename; `reload` or the file watch makes the sidecar look."""
        aside = self.file.with_suffix(".new")
        aside.write_text(yaml.safe_dump(self.config, sort_keys=False))
        aside.replace(self.file)

    def at(self, listener: str) -> Address:
        """Where a listener takes connections."""
        every = [*self.config["inbound"], *self.config["outbound"]]
        host, _, port = next(str(one["listen"]) for one in every if one["name"] == listener).rpartition(":")
        return host, int(port)

    def wait_ready(self) -> "Sidecar":
        """Wait until it serves. Raises: AssertionError when it gave up instead."""
        until(self._ready, "the sidecar is ready")
        return self

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the sidecar gave up with status {self.process.returncode}:\n{self.log()}"
        try:
            return self.ask("GET", "/ready")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Ask the admin endpoint: (status, body). Raises: OSError when nobody listens."""
        connection = self.dial_admin()
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def dial_admin(self) -> http.client.HTTPConnection:
        """A connection to the admin endpoint, which need not be there."""
        return http.client.HTTPConnection(*self.admin, timeout=PATIENCE_S)

    def show(self, path: str) -> Any:
        """What a path of the admin endpoint shows, as data."""
        status, body = self.ask("GET", path)
        assert status == 200, f"{path}: {status} {body}"
        return json.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric (without its prefix) that carry these labels."""
        families = text_string_to_metric_families(self.ask("GET", "/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"mtls_sidecar_{name}" and labels.items() <= sample.labels.items()
        )

    def reload(self) -> Line:
        """POST /reload, and its outcome."""
        _, body = self.ask("POST", "/reload")
        outcome: Line = json.loads(body)
        return outcome

    def closed(self, count: int = 1) -> list[Line]:
        """The first `connection` lines of the log: waits until there are `count` of them."""
        return self.lines("connection", count)

    def lines(self, event: str, count: int = 1) -> list[Line]:
        """The first lines of the log with this event: waits until there are `count` of them."""

        def found() -> list[Line]:
            return [line for line in self._lines if line.get("event") == event]

        with self._changed:
            arrived = self._changed.wait_for(lambda: len(found()) >= count, PATIENCE_S)
            assert arrived, f"{len(found())} of {count} `{event}` lines within {PATIENCE_S:g} s:\n{self.log()}"
            return found()[:count]

    def log(self) -> str:
        """Everything it said, for a person."""
        return "\n".join([*(json.dumps(line) for line in list(self._lines)), *self.unreadable])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def terminate(self) -> int:
        """SIGTERM, and the exit status once it is gone."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """The exit status once it is gone."""
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it at once; afterwards its log is whole."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            text = raw.decode(errors="replace").rstrip("\n")
            with self._changed:
                try:
                    self._lines.append(json.loads(text))
                except ValueError:
                    self.unreadable.append(text)
                self._changed.notify_all()

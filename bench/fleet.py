"""
The processes of a run: all sides warm and waiting at once, on a core of their own; the load and the app on the rest.

A side that does not start is no reason to stop: its sentence goes into the report and the others are measured.
"""

import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.pki import KEY, Pki, issue
from proxy.lab.appprocess import MODULE as APP
from proxy.lab.generator import LoadFault as SideFailed
from proxy.lab.keeper import Keeper
from proxy.lab.ordinaryprocess import MODULE as ORDINARY
from proxy.lab.ports import PORTS, is_free
from proxy.lab.sides import offer
from proxy.lab.streams import StreamClient
from proxy.lab.testbed import CLIENT_ID, SERVER_ID, TRUST_DOMAIN, split_cores
from proxy.ops.ownmodule import package_command

ROOT = Path(__file__).resolve().parent.parent
START_S = 20.0
STOP_S = 10.0
READY_LOOK_S = 0.005
Address = tuple[str, int]


@contextmanager
def process(argv: list[str], pinned: set[int], log: Path, **pipes: Any) -> Iterator[subprocess.Popen[str]]:
    """A process pinned to cores, in a group of its own, stderr in a file, ended by SIGTERM and then SIGKILL."""
    with log.open("w") as stderr:
        running = subprocess.Popen(
            argv,
            cwd=ROOT,
            text=True,
            stderr=stderr,
            process_group=0,  # Ctrl-C is for the run, which ends its children
            **({"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | pipes),
        )
    os.sched_setaffinity(running.pid, pinned)  # it has no thread yet; those to come inherit
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(STOP_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_until(ready: Callable[[], bool], running: subprocess.Popen[str], log: Path) -> float:
    """Seconds until ready() holds. Raises SideFailed with the end of the log."""
    start = time.monotonic()
    while time.monotonic() - start < START_S:
        if ready():
            return time.monotonic() - start
        if running.poll() is not None:
            raise SideFailed(f"exited with {running.returncode} at start: {log.read_text()[-400:].strip()}")
        time.sleep(READY_LOOK_S)
    raise SideFailed(f"not ready after {START_S:.0f} s: {log.read_text()[-400:].strip()}")


def accepts(address: Address) -> bool:
    """Does something listen there?"""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def says_ready(admin_port: int) -> bool:
    """Does the admin's /ready answer 200?"""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(slots=True)
class Side:
    """
    Something that is measured.

    pids: whose CPU counts; doors: measure key -> address, "" for all others; secured: the client speaks TLS to it;
    admin and labels: where to read how many handshakes of which listener were resumed, if the client cannot see it.
    """

    name: str
    pids: list[int]
    doors: dict[str, Address]
    secured: bool = True
    admin_port: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    started_s: float = 0.0

    def door(self, measure: str) -> Address:
        return self.doors.get(measure) or self.doors[""]


class Fleet:
    """Starts things; everything ends when the context ends, and by the keeper's hand where the run is killed."""

    def __init__(self, folder: Path, keeper: Keeper, apps: int, engine: str = "openssl") -> None:
        self.folder = folder
        self.keeper = keeper
        self.stack = ExitStack()
        self.engine = engine
        self.server_core, self.other_cores = split_cores()
        self.pki: Pki = issue(folder)
        self.candidates = iter(random.sample(PORTS, len(PORTS)))
        self.apps = apps
        self.app_ports: list[int] = []
        self.started = 0

    def __enter__(self) -> "Fleet":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with self.stack:  # a failed start ends what had started
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # it ends with its stdin
            app, log = self.spawn("app", package_command(APP, str(self.apps)), self.other_cores, self.stack, **pipes)
            assert app.stdout is not None
            if not (line := app.stdout.readline()):
                app.communicate()  # to its end, which its log tells of
                raise SystemExit(f"bench: the app did not start: {log.read_text().strip().rpartition(chr(10))[2]}")
            self.app_ports = json.loads(line)
            self.client = self.stack.enter_context(StreamClient(self.other_cores))
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def aim(self, side: Side, measure: str, version: str) -> None:
        """Let the client's next connections go to a side's door for a measure; plaintext where it is not secured."""
        credentials = self.pki.credentials if side.secured else None
        self.client.aim(side.door(measure), credentials, offer(version, KEY))

    def free_port(self) -> int:
        """A loopback port that nothing listens on, never given out twice."""
        for port in self.candidates:
            if is_free("127.0.0.1", port):
                return port
        raise SideFailed("no free port between 20000 and 29999")

    def spawn(
        self, name: str, argv: list[str], pinned: set[int], stack: ExitStack, **pipes: Any
    ) -> tuple[subprocess.Popen[str], Path]:
        """Start a process that ends with the stack; its stderr is a file in the run's folder."""
        self.started += 1
        log = self.folder / f"{self.started:02}-{name}.log"
        running = stack.enter_context(process(argv, pinned, log, **pipes))
        self.keeper.note(running.pid)
        return running, log

    def yardstick(self, name: str, app_port: int, stack: ExitStack, version: str = "any") -> Side:
        """Start `bare`, `bare_no_tickets` or `ordinary`."""
        door = ("127.0.0.1", self.free_port())
        pki = self.pki
        module = ORDINARY if name == "ordinary" else "bench.yardsticks.bare_engine"
        argv = [sys.executable, "-m", module, f"127.0.0.1:{door[1]}", f"127.0.0.1:{app_port}"]
        argv += [pki.server_cert, pki.server_key, pki.ca]
        argv += {"ordinary": [], "bare": [version, "tickets"], "bare_no_tickets": [version]}[name]
        running, log = self.spawn(name, argv, self.server_core, stack)
        return Side(name, [running.pid], {"": door}, started_s=wait_until(lambda: accepts(door), running, log))

    def sidecar(self, name: str, listeners: dict[str, Any], role: str, stack: ExitStack) -> tuple[int, int, float]:
        """Start the product on a configuration. Returns (pid, admin port, seconds from start to ready)."""
        admin_port = self.free_port()
        pki = self.pki
        cert, key = (pki.server_cert, pki.server_key) if role == "server" else (pki.client_cert, pki.client_key)
        config = {
            "identity": {"cert": cert, "key": key, "bundles": {TRUST_DOMAIN: pki.ca}},
            "tls": {
                "engine": self.engine,
                "groups": ["X25519", "P-256"],
                "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            },
            "admin": {"listen": f"127.0.0.1:{admin_port}"},
            "log": {"level": "info", "format": "json"},
            "workers": 1,
            **listeners,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(config, indent=2))  # JSON is YAML
        script = shutil.which("mtls-sidecar", path=str(Path(sys.executable).parent))
        argv = [script] if script else [sys.executable, "-m", "proxy"]
        running, log = self.spawn(name, [*argv, "run", "--config", str(path)], self.server_core, stack)
        return running.pid, admin_port, wait_until(lambda: says_ready(admin_port), running, log)

    def inbound(self, app_port: int, stack: ExitStack, name: str = "product") -> Side:
        """The product in front of the app: STRICT, one allowed peer."""
        door = ("127.0.0.1", self.free_port())
        listener = {
            "name": "bench",
            "listen": f"127.0.0.1:{door[1]}",
            "upstream": f"127.0.0.1:{app_port}",
            "mode": "STRICT",
            "allow": [CLIENT_ID],
        }
        pid, admin_port, started_s = self.sidecar(name, {"inbound": [listener]}, "server", stack)
        return Side(name, [pid], {"": door}, admin_port=admin_port, started_s=started_s)

    def outbound(self, upstreams: dict[str, Address], stack: ExitStack) -> tuple[Side, Side]:
        """
        The product in front of plaintext clients, two sides of one process: to bare engines, and to an inbound product.

        upstreams: listener name -> where it goes; a name that begins with `chain-` belongs to the second side, and only
        names with `resumed` in them keep sessions.
        """
        doors = {name: ("127.0.0.1", self.free_port()) for name in upstreams}
        listeners = [
            {
                "name": name,
                "listen": f"127.0.0.1:{doors[name][1]}",
                "upstream": f"{host}:{port}",
                "server_ids": [SERVER_ID],
                "resume": "resumed" in name,
            }
            for name, (host, port) in upstreams.items()
        ]
        pid, admin_port, started_s = self.sidecar("outbound", {"outbound": listeners}, "client", stack)

        def side(name: str, prefix: str) -> Side:
            labels = {
                label.removeprefix(prefix): label for label in upstreams if label.startswith("chain-") == bool(prefix)
            }
            own = {measure: doors[label] for measure, label in labels.items()}
            own[""] = own["full_1_3"]
            return Side(name, [pid], own, False, admin_port, labels, started_s)

        return side("outbound", ""), side("chain", "chain-")

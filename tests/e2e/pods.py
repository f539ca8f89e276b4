"""
Pods made of network namespaces: what a kubelet and a CNI plugin do, as far as packets can tell.

A Node is a namespace with a bridge, on which the Pods' eth0 end, with addresses of both families and a default route
over it, as the `bridge` CNI plugin sets them up. Whatever a test does from the node's namespace comes to a Pod as
kubelet's probes do. Nothing of it touches the namespace that the tests run in.

Two ways lead into a namespace. Programs (the sidecar, curl, `intercept`) are started there, by their uid: 1337 is the
sidecar, anything else an app. Sockets of the tests themselves are made by a thread that has entered it; a socket stays
where it was made, so whoever uses it later need not know. They belong to root, which the rules know as no sidecar.

A process of another uid could not read a checkout below /root, nor pytest's folders: it keeps one capability, to read
files, and no other.
"""

import contextlib
import ctypes
import http.client
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.e2e.apps import App, Serve
from tests.e2e.pki import Identity
from tests.e2e.sidecar import Sidecar
from tests.e2e.waiting import PATIENCE_S, Address
from tests.programs import program

SIDECAR_UID = 1337
APP_UID = 1000
ADMIN: Address = ("127.0.0.1", 15000)
EVERYBODY = ["spiffe://example.org/**"]
CIDR_V4, CIDR_V6 = "10.88.0.0/24", "fd88::/64"

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
_PREFIX = "mtls-test"
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)
Answer = TypeVar("Answer")


def why_no_pods() -> str:
    """Why namespaces cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = subprocess.run([program("unshare"), "--net", "true"], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"this machine makes no network namespaces: {probe.stderr.strip()}"


class Namespace:
    """A network namespace with a name of its own."""

    def __init__(self, role: str) -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-{role}"
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        """`ip -n NAMESPACE ...`"""
        ip("-n", self.name, *words)

    def inside(self, call: Callable[[], Answer]) -> Answer:
        """Run a function in a thread that has entered the namespace, and return what it returns."""

        def enter() -> Answer:
            with open(_NAMESPACES / self.name) as namespace:
                if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter {self.name}")
            return call()

        with ThreadPoolExecutor(max_workers=1) as threads:
            return threads.submit(enter).result()

    def dial(self, address: Address, timeout_s: float = PATIENCE_S) -> socket.socket:
        """A connection from here, of an app. Raises: OSError"""
        return self.inside(lambda: socket.create_connection(address, timeout_s))

    def listen(self, address: Address) -> socket.socket:
        """A listening socket here."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        # `::` takes IPv4 too, as most servers have it.
        dual = family == socket.AF_INET6 and address[0] == "::"
        return self.inside(
            lambda: socket.create_server(address, family=family, dualstack_ipv6=dual, backlog=128, reuse_port=False)
        )

    def command(self, *argv: str, uid: int = 0) -> tuple[str, ...]:
        """The words that run a program here as this uid and gid."""
        enter = (program("nsenter"), f"--net={_NAMESPACES / self.name}")
        if uid == 0:
            return (*enter, *argv)
        capability = "+dac_read_search"
        ids = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        kept = (f"--inh-caps=-all,{capability}", f"--ambient-caps=-all,{capability}")
        return (*enter, program("setpriv"), *ids, *kept, "--", *argv)

    def run(self, *argv: str, uid: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run a program here to its end."""
        return subprocess.run(
            self.command(*argv, uid=uid), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def curl(self, url: str, *options: str, uid: int = APP_UID) -> "Curled":
        """What curl says, as an app that knows of no sidecar."""
        argv = (program("curl"), "--silent", "--show-error", "--globoff", "--max-time", "20", "--noproxy", "*")
        done = self.run(*argv, "--write-out", "\n%{http_code}", *options, url, uid=uid)
        body, _, status = done.stdout.rpartition("\n")
        return Curled(done.returncode, int(status or 0), body, done.stderr.strip())

    def delete(self) -> None:
        """Take it away, with all interfaces and rules in it."""
        ip("netns", "del", self.name)


class Curled(NamedTuple):
    """exit: of curl itself; status: of HTTP, 0 without an answer."""

    exit: int
    status: int
    body: str
    error: str


class PodSidecar(Sidecar):
    """A sidecar in a Pod, whose admin endpoint is where it is in every Pod."""

    def __init__(self, pod: "Pod", folder: Path, identity: Identity, *, uid: int, **sections: object) -> None:
        self.pod = pod
        super().__init__(folder, identity, enter=pod.command(uid=uid), admin_at=ADMIN, **sections)  # type: ignore[arg-type]

    def dial_admin(self) -> http.client.HTTPConnection:
        """From inside the Pod, where alone it can be reached."""
        connection = http.client.HTTPConnection(*self.admin, timeout=PATIENCE_S)
        connection.sock = self.pod.dial(self.admin)
        return connection


class Pod(Namespace):
    """A Pod on a node: `v4` and `v6` are its addresses."""

    def __init__(self, node: "Node", name: str, number: int) -> None:
        super().__init__(name)
        self.v4, self.v6 = f"10.88.0.{number}", f"fd88::{number:x}"
        self._node = node
        self.inside(lambda: _write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))
        node.ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        node.ip("link", "set", f"v{number}", "master", "cni0", "up")
        self.ip("address", "add", f"{self.v4}/24", "dev", "eth0")
        self.ip("address", "add", f"{self.v6}/64", "dev", "eth0", "nodad")
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "add", "default", "via", "10.88.0.1")
        self.ip("-6", "route", "add", "default", "via", "fd88::1")

    def host(self, family: int) -> str:
        """Its address of a family, 4 or 6, as a URL has it."""
        return self.v4 if family == 4 else f"[{self.v6}]"

    def intercept(self, *words: str, uid: int = 0) -> "subprocess.CompletedProcess[str]":
        """`mtls-sidecar intercept ...`, as the init container runs it."""
        return self.run(sys.executable, "-m", "proxy", "intercept", *words, uid=uid)

    def apply(self, *options: str) -> str:
        """Put rules in force, and see that it worked; returns what it said."""
        done = self.intercept("apply", *options)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def sidecar(self, identity: Identity, *, uid: int = SIDECAR_UID, **sections: object) -> PodSidecar:
        """Start the sidecar of the Pod, and wait until it is ready."""
        return self._node.start(self, identity, uid=uid, **sections)

    def app(self, serve: Serve, port: int, host: str = "::") -> App:
        """An application that listens on all addresses of the Pod, or on `host`."""
        return self._node.keep(App(serve, self.listen((host, port))))


class Node(Namespace):
    """A node with its bridge; `vip` is an address of a Service once `service` has set it up."""

    def __init__(self, folder: Path, closing: contextlib.ExitStack) -> None:
        super().__init__("node")
        self._folder = folder
        self._closing = closing
        self._pods = 0
        self._sidecars: list[PodSidecar] = []
        self.inside(lambda: _write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))
        self.inside(lambda: _write("/proc/sys/net/ipv4/ip_forward", "1"))
        self.ip("link", "add", "cni0", "type", "bridge")
        self.ip("address", "add", "10.88.0.1/24", "dev", "cni0")
        self.ip("address", "add", "fd88::1/64", "dev", "cni0", "nodad")
        self.ip("link", "set", "cni0", "up")

    def pod(self, name: str) -> Pod:
        """Another Pod on the bridge."""
        self._pods += 1
        pod = Pod(self, name, self._pods + 1)
        self._closing.callback(pod.delete)
        return pod

    def service(self, vip: str, pod: Pod) -> None:
        """A Service with one endpoint: its address is rewritten here, on the node, as kube-proxy does."""
        rules = f"""\
table ip kube-proxy {{
    chain services {{
        type nat hook prerouting priority -100; policy accept;
        ip daddr {vip} dnat to {pod.v4}
    }}
    chain postrouting {{
        type nat hook postrouting priority 100; policy accept;
        ct status dnat masquerade
    }}
}}
"""
        subprocess.run(self.command(program("nft"), "-f", "-"), input=rules, text=True, check=True, timeout=PATIENCE_S)

    def start(self, pod: Pod, identity: Identity, *, uid: int, **sections: object) -> PodSidecar:
        """A sidecar in a Pod, ready."""
        folder = self._folder / f"{pod.name}-{len(self._sidecars) + 1}"
        folder.mkdir()
        sidecar = PodSidecar(pod, folder, identity, uid=uid, **sections)
        self._sidecars.append(sidecar)
        self._closing.callback(self._finish, sidecar)
        return sidecar.wait_ready()  # type: ignore[return-value]

    def _finish(self, sidecar: PodSidecar) -> None:
        sidecar.kill()
        sys.stdout.write(f"--- sidecar of {sidecar.pod.name} ---\n{sidecar.log()}\n")
        assert sidecar.unreadable == []

    def keep(self, app: App) -> App:
        """Stop an app when the test is over."""
        return self._closing.enter_context(app)


def interception(
    *,
    ports: dict[int, dict[str, object]] | None = None,
    default: dict[str, object] | None = None,
    routes: list[dict[str, object]] | None = None,
    rest: str = "passthrough",
) -> dict[str, object]:
    """The section `intercept` in both directions: STRICT for everybody, and mutual TLS to all Pods, unless told."""
    to_pods = [{"to": cidr, "server_ids": EVERYBODY} for cidr in (CIDR_V4, CIDR_V6)]
    return {
        "inbound": {
            "listen": "[::]:15006",
            "ports": ports or {},
            "default": default or {"mode": "STRICT", "allow": EVERYBODY},
        },
        "outbound": {"listen": "[::]:15001", "routes": to_pods if routes is None else routes, "default": rest},
    }


def sweep() -> None:
    """Remove the namespaces of test processes that were killed before they could."""
    for path in _NAMESPACES.glob(f"{_PREFIX}-*") if _NAMESPACES.is_dir() else ():
        pid = path.name.split("-")[2]
        if not Path(f"/proc/{pid}").exists():
            subprocess.run([program("ip"), "netns", "del", path.name], check=False, capture_output=True)


def ip(*words: str) -> None:
    """Run `ip`. Raises: AssertionError with what it said"""
    done = subprocess.run([program("ip"), *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)

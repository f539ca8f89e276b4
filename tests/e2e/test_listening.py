"""Where a sidecar listens and whom it dials: TCP, unix sockets, inherited sockets; and the ways to start one."""

import json
import os
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.apps import App, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.tlspeers import HELLO, ask, client_context, what_is_seen
from tests.e2e.waiting import HOST, PATIENCE_S, free_address, is_listening, text_of, until

Start = Callable[..., Sidecar]


def status_of(url: str) -> int:
    """The status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def ask_at(path: Path) -> bytes:
    """Exchange bytes over a unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(str(path))
        return ask(sock)


def test_the_loop_of_the_standard_library_serves(start_sidecar: Start, web: Identity, app: App, pki: Pki) -> None:
    sidecar = start_sidecar(web, options=("--loop", "asyncio"), inbound=[inbound("in", app.address)])
    client = client_context(pki.identity("cart"), trust=web.bundle)
    assert what_is_seen(sidecar.at("in"), client) == "served"
    assert sidecar.terminate() == 0


def test_unix_sockets_on_both_ends(start_sidecar: Start, web: Identity, app: App, tmp_path: Path) -> None:
    middle, front = tmp_path / "middle.sock", tmp_path / "front.sock"
    sidecar = start_sidecar(
        web,
        inbound=[{**inbound("in", app.address), "listen": f"unix:{middle}"}],
        outbound=[{**outbound("out", app.address), "listen": f"unix:{front}", "upstream": f"unix:{middle}"}],
    )
    assert stat.S_IMODE(front.stat().st_mode) == 0o660
    assert ask_at(front) == HELLO
    lines = {line["direction"]: line for line in sidecar.closed(2)}
    assert lines["outbound"]["upstream_address"] == f"unix:{middle}"
    assert lines["outbound"]["downstream_local_address"] == f"unix:{front}"
    assert lines["inbound"]["tls"]["peer_spiffe_id"] == web.spiffe_id
    assert sidecar.terminate() == 0
    assert not front.exists()
    assert not middle.exists()


def test_an_app_behind_a_unix_socket(start_sidecar: Start, web: Identity, app: App, tmp_path: Path) -> None:
    """Two listeners in a row: TCP to a unix socket, and that to the app."""
    path = tmp_path / "app.sock"
    second = {**inbound("second", app.address, mode="DISABLE"), "listen": f"unix:{path}"}
    first = {**inbound("first", app.address, mode="DISABLE"), "upstream": f"unix:{path}"}
    sidecar = start_sidecar(web, inbound=[first, second])
    assert exchange(sidecar.at("first"), HELLO) == HELLO


def test_a_socket_file_that_a_dead_sidecar_left_is_taken_over(
    start_sidecar: Start, web: Identity, app: App, tmp_path: Path
) -> None:
    path = tmp_path / "in.sock"
    listener = {**inbound("in", app.address, mode="DISABLE"), "listen": f"unix:{path}"}
    start_sidecar(web, inbound=[listener]).kill()
    assert path.is_socket()
    start_sidecar(web, inbound=[listener])
    assert ask_at(path) == HELLO


def test_ipv6(start_sidecar: Start, web: Identity, app: App) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = sock.getsockname()[1]
    sidecar = start_sidecar(web, inbound=[{**inbound("in", app.address, mode="DISABLE"), "listen": f"[::1]:{port}"}])
    assert exchange(("::1", port), HELLO) == HELLO
    (line,) = sidecar.closed()
    assert line["downstream_local_address"] == f"[::1]:{port}"


def test_a_health_listener_shows_health_and_nothing_else(start_sidecar: Start, web: Identity, app: App) -> None:
    health = free_address()
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)], health={"listen": text_of(health)})
    statuses = {path: status_of(f"http://{text_of(health)}{path}") for path in ("/live", "/ready", "/metrics")}
    assert statuses == {"/live": 200, "/ready": 200, "/metrics": 200}
    hidden = ("/certs", "/config", "/connections", "/reload", "/drain", "/quitquitquit", "/log-level")
    assert {status_of(f"http://{text_of(health)}{path}") for path in hidden} == {404}
    sidecar.ask("POST", "/drain")
    until(lambda: status_of(f"http://{text_of(health)}/ready") == 503, "the health listener knows of a drain")


def test_an_admin_endpoint_on_a_unix_socket(start_sidecar: Start, web: Identity, app: App, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    sidecar = start_sidecar(web, ready=False, inbound=[inbound("in", app.address)], admin={"listen": f"unix:{path}"})
    sidecar.lines("reload")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(str(path))
        sock.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert sock.makefile("rb").readline().split()[1] == b"200"


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_a_configuration_from_a_pipe_is_read_once(web: Identity, app: App, path: str) -> None:
    listener = inbound("in", app.address, mode="DISABLE")
    config = yaml.safe_dump({"identity": web.section(), "inbound": [listener], "admin": None})
    host, _, port = str(listener["listen"]).rpartition(":")
    argv = [sys.executable, "-m", "proxy", "run", "--config", path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(config)
        process.stdin.close()
        until(lambda: is_listening((host, int(port))), "it listens")
        assert exchange((host, int(port)), HELLO) == HELLO
        process.terminate()
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr]
        assert process.wait(PATIENCE_S) == 0
    assert [line["reason"] for line in lines if line["event"] in {"reload", "connection"}] == ["RELOADED", "COMPLETED"]


# What a service manager does: the socket is descriptor 3, and the environment says whose and what it is.
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
os.execv(sys.executable, [sys.executable, "-m", "proxy", "run", "--config", sys.argv[2]])
"""


@pytest.mark.parametrize("name", ["web", "other"])
def test_a_socket_is_inherited_by_its_name(web: Identity, app: App, tmp_path: Path, name: str) -> None:
    listener = {**inbound("in", app.address, mode="DISABLE"), "listen": f"systemd:{name}"}
    file = tmp_path / "sidecar.yaml"
    file.write_text(yaml.safe_dump({"identity": web.section(), "inbound": [listener], "admin": None}))
    with socket.create_server((HOST, 0)) as inherited:
        address = inherited.getsockname()
        argv = [sys.executable, "-c", _ACTIVATE, str(inherited.fileno()), str(file)]
        descriptor = inherited.fileno()
        process = subprocess.Popen(argv, pass_fds=[descriptor], stderr=subprocess.PIPE, text=True, cwd=os.getcwd())
    with process:
        if name == "web":
            assert exchange(address, HELLO) == HELLO
            process.terminate()
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert "Traceback" not in said
    if name == "web":
        assert process.returncode == 0
    else:
        sentence = said.splitlines()[-1]
        assert (process.returncode, "'other'" in sentence, "web" in sentence) == (1, True, True), said

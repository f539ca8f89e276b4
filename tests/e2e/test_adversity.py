"""What goes wrong around a sidecar in production: it keeps serving, says so, and never stands still or falls over."""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from proxy.tls.identityfiles import Content, Publication, publish
from tests import minting
from tests.e2e.apps import App, Serve, echo, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.tlspeers import HELLO, ask, client_context, what_is_seen
from tests.e2e.traffic import Traffic
from tests.e2e.waiting import PATIENCE_S, Address, is_listening, until

Start = Callable[..., Sidecar]


def plain(app: App) -> dict[str, object]:
    return inbound("in", app.address, mode="DISABLE")


def dial(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE_S)


def test_without_descriptors_clients_are_refused_and_served_again_later(
    start_sidecar: Start, web: Identity, app: App
) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)])
    pid = sidecar.process.pid
    open_now = len(os.listdir(f"/proc/{pid}/fd"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 6, hard))
    crowd = [dial(sidecar.at("in")) for _ in range(12)]
    until(lambda: any(line["reason"] == "OVERLOADED" for line in sidecar.closed()), "somebody is refused")
    line = next(line for line in sidecar.closed() if line["reason"] == "OVERLOADED")
    assert "ulimit -n" in line["advice"]
    for sock in crowd:
        sock.close()
    until(lambda: served_now(sidecar), "it serves again")


def served_now(sidecar: Sidecar) -> bool:
    return what_is_seen(sidecar.at("in"), None) == "served"


def test_at_the_cap_of_handshakes_clients_wait_and_are_served(
    start_sidecar: Start, web: Identity, app: App, pki: Pki
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)], limits={"handshakes": 1})
    client = client_context(pki.identity("cart"), trust=web.bundle)
    silent = dial(sidecar.at("in"))
    until(lambda: len(sidecar.show("/connections")) == 1, "the silent client has the only place")
    waiting = dial(sidecar.at("in"))
    assert len(sidecar.show("/connections")) == 1
    silent.close()
    with client.wrap_socket(waiting) as sock:
        assert ask(sock) == HELLO
    assert sidecar.closed()[0]["reason"] == "CLIENT_LEFT"


def test_a_storm_of_reloads_fails_no_request(start_sidecar: Start, web: Identity, app: App, pki: Pki) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)])
    with Traffic(sidecar.at("in"), client_context(pki.identity("cart"), trust=web.bundle)) as traffic:
        for number in range(10):
            minting.write_identity(
                web.cert.parent, minting.svid(pki.authority, web.spiffe_id), {minting.DOMAIN: pki.authority}
            )
            sidecar.config["timeouts"] = {"idle_s": 1000 + number}
            sidecar.write()
            sidecar.signal(signal.SIGHUP)
            assert sidecar.ask("POST", "/reload")[0] in (200, 409)
        until(lambda: sidecar.show("/config")["timeouts"]["idle_s"] == 1009, "the last one is in force")
        traffic.flows()
    assert traffic.failures == []


def test_a_configuration_in_a_volume_is_followed_through_every_swap(
    start_sidecar: Start, web: Identity, app: App, tmp_path: Path
) -> None:
    """A ConfigMap: the file is a symlink through `..data`, which is renamed."""
    sidecar = start_sidecar(web, inbound=[plain(app)])
    config, volume = dict(sidecar.config), tmp_path / "volume"

    def put(idle_s: int) -> None:
        config["timeouts"] = {"idle_s": idle_s}
        text = yaml.safe_dump(config).encode()
        publish(volume, {"sidecar.yaml": Content(text)}, publication=Publication.SWAP)

    put(100)
    sidecar.file.unlink()
    sidecar.file.symlink_to(volume / "sidecar.yaml")
    for idle_s in (101, 102, 103, 104):
        put(idle_s)
        until(lambda idle_s=idle_s: sidecar.show("/config")["timeouts"]["idle_s"] == idle_s, f"idle_s is {idle_s}")


def test_a_sidecar_whose_own_certificate_has_lapsed_is_not_ready_until_it_is_renewed(
    start_sidecar: Start, app: App, pki: Pki
) -> None:
    web = pki.write(minting.svid(pki.authority, lifetime_s=4))
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)])
    until(lambda: sidecar.ask("GET", "/ready")[0] == 503, "it is not ready")
    why = sidecar.ask("GET", "/ready")[1]
    assert ("lapsed" in why, "our clock says" in why) == (True, True), why
    minting.write_identity(web.cert.parent, minting.svid(pki.authority), {minting.DOMAIN: pki.authority})
    sidecar.wait_ready()
    client = client_context(pki.identity("cart"), trust=web.bundle)
    assert what_is_seen(sidecar.at("in"), client) == "served"


def test_a_log_that_nobody_reads_stalls_nobody(web: Identity, app: App, tmp_path: Path) -> None:
    listener = plain(app)
    host, _, port = str(listener["listen"]).rpartition(":")
    address = host, int(port)
    with started(web, listener, tmp_path) as process:
        until(lambda: is_listening(address), "it listens")
        for _ in range(300):  # a pipe holds about a hundred lines
            assert exchange(address, HELLO) == HELLO
        process.terminate()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(PATIENCE_S) == 0
    assert ("Traceback" in said, said.count('"COMPLETED"') < 300) == (False, True)


def test_a_log_whose_reader_has_died_stalls_nobody(web: Identity, app: App, tmp_path: Path) -> None:
    listener = plain(app)
    host, _, port = str(listener["listen"]).rpartition(":")
    address = host, int(port)
    with started(web, listener, tmp_path) as process:
        until(lambda: is_listening(address), "it listens")
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(20):
            assert exchange(address, HELLO) == HELLO
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def started(web: Identity, listener: dict[str, object], folder: Path) -> subprocess.Popen[str]:
    """A sidecar whose stderr is left to the test."""
    file = folder / "sidecar.yaml"
    file.write_text(yaml.safe_dump({"identity": web.section(), "inbound": [listener], "admin": None}))
    argv = [sys.executable, "-m", "proxy", "run", "--config", str(file)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def test_a_drain_waits_for_no_client_that_never_says_anything(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)], timeouts={"handshake_s": 0.5, "drain_s": 15})
    with dial(sidecar.at("in")):
        until(lambda: len(sidecar.show("/connections")) == 1, "it is accepted")
        assert sidecar.terminate() == 0
    assert sidecar.closed()[0]["reason"] == "HANDSHAKE_TIMEOUT"


def test_a_reload_that_is_asked_for_in_a_drain_does_no_harm(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)])
    with dial(sidecar.at("in")) as held:
        ask(held)
        sidecar.signal(signal.SIGTERM)
        until(lambda: not is_listening(sidecar.at("in")), "it drains")
        sidecar.signal(signal.SIGHUP)
        assert sidecar.ask("POST", "/reload")[0] == 409
        assert ask(held) == HELLO
    assert sidecar.wait() == 0


def test_a_mended_configuration_is_read_while_an_identity_is_waited_for(
    start_sidecar: Start, web: Identity, app: App
) -> None:
    """The path of the certificate was wrong, and is put right."""
    good = web.section()
    sidecar = start_sidecar({**good, "cert": "/nowhere/tls.crt"}, ready=False, inbound=[plain(app)])
    assert sidecar.lines("reload")[0]["reason"] == "FILE_MISSING"
    sidecar.config["identity"] = good
    sidecar.write()
    sidecar.signal(signal.SIGHUP)
    sidecar.wait_ready()


def test_an_upstream_by_name_is_looked_up_and_named_in_the_handshake(
    start_sidecar: Start, start_app: Callable[[Serve], App], web: Identity, pki: Pki
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start_sidecar(web, inbound=[{**inbound("in", start_app(echo).address), "listen": f"127.0.0.1:{port}"}])
    sidecar = start_sidecar(
        pki.identity("cart"), outbound=[outbound("name", ("localhost", port)), outbound("number", ("127.0.0.1", port))]
    )
    for name in ("name", "number"):
        assert exchange(sidecar.at(name), HELLO) == HELLO
    assert [line["tls"]["sni"] for line in server.closed(2)] == ["localhost", None]
    assert sidecar.closed()[0]["upstream_address"] == f"127.0.0.1:{port}"

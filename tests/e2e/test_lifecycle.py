"""
A sidecar's life from its start to its end: when it is ready, what an orchestrator may rely on while it drains, and the
one sentence and the exit status when it cannot serve at all.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import minting
from tests.e2e.apps import App, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.tlspeers import HELLO, ask, client_context, connect, is_served, what_is_seen
from tests.e2e.waiting import PATIENCE_S, Address, is_listening, text_of, until

Start = Callable[..., Sidecar]


def hold(address: Address) -> socket.socket:
    """A plaintext connection that has carried bytes and stays open."""
    sock = socket.create_connection(address, timeout=PATIENCE_S)
    ask(sock)
    return sock


def run(*args: str, **more: object) -> subprocess.CompletedProcess[str]:
    """`mtls-sidecar run` to its end."""
    argv = [sys.executable, "-m", "proxy", "run", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **more)  # type: ignore[call-overload,no-any-return]


def hangup_is_ignored(status: str) -> bool:
    """Whether a process ignores SIGHUP, by its /proc/PID/status."""
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(mask, 16) & 1 << (signal.SIGHUP - 1))


def plain(app: App) -> dict[str, object]:
    return inbound("in", app.address, mode="DISABLE")


# The end.


def test_a_drain_is_unready_at_once_serves_through_its_delay_and_ends_well(
    start_sidecar: Start, web: Identity, app: App
) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)], timeouts={"drain_delay_s": 1})
    held = hold(sidecar.at("in"))
    sidecar.signal(signal.SIGTERM)
    until(lambda: sidecar.ask("GET", "/ready")[0] == 503, "it is unready")
    assert "draining" in sidecar.ask("GET", "/ready")[1]
    assert sidecar.ask("GET", "/live")[0] == 200
    assert exchange(sidecar.at("in"), HELLO) == HELLO
    until(lambda: not is_listening(sidecar.at("in")), "the delay is over")
    assert sidecar.ask("GET", "/ready")[0] == 503
    assert is_served(held)
    held.close()
    assert sidecar.wait() == 0
    assert {line["reason"] for line in sidecar.closed(2)} == {"COMPLETED"}
    (drained,) = sidecar.lines("drained")
    assert drained["connections_cut"] == 0


def test_what_drain_s_cuts_is_said_and_is_no_failure(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)], timeouts={"drain_s": 0.3})
    with hold(sidecar.at("in")) as held:
        sidecar.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            held.recv(1)
    assert sidecar.wait() == 0
    assert sidecar.closed()[0]["reason"] == "DRAINED"
    assert sidecar.lines("drained")[0]["connections_cut"] == 1


def test_the_app_reaches_its_upstreams_until_its_last_request_is_answered(
    start_sidecar: Start, web: Identity, app: App
) -> None:
    peer = start_sidecar(web, inbound=[inbound("in", app.address)])
    sidecar = start_sidecar(web, inbound=[plain(app)], outbound=[outbound("out", peer.at("in"))])
    held = hold(sidecar.at("in"))
    sidecar.signal(signal.SIGTERM)
    until(lambda: not is_listening(sidecar.at("in")), "nothing new comes in")
    for _ in range(3):
        assert exchange(sidecar.at("out"), HELLO) == HELLO
    assert is_served(held)
    held.close()
    assert sidecar.wait() == 0
    assert not is_listening(sidecar.at("out"))


def test_a_second_sigterm_ends_it_at_once(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)])
    with hold(sidecar.at("in")):
        sidecar.signal(signal.SIGTERM)
        until(lambda: sidecar.ask("GET", "/ready")[0] == 503, "it drains")
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait() == 1
    sidecar.lines("leaving at once")


def test_a_drain_that_is_asked_for_leaves_the_process_and_its_endpoints(
    start_sidecar: Start, web: Identity, app: App
) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)])
    assert sidecar.ask("POST", "/drain")[0] == 200
    until(lambda: not is_listening(sidecar.at("in")), "it has drained")
    sidecar.lines("drained")
    assert [sidecar.ask("GET", path)[0] for path in ("/live", "/ready", "/metrics")] == [200, 503, 200]
    assert sidecar.terminate() == 0


def test_quitquitquit_drains_and_exits(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)])
    held = hold(sidecar.at("in"))
    assert sidecar.ask("POST", "/quitquitquit")[0] == 200
    until(lambda: not is_listening(sidecar.at("in")), "it drains")
    assert is_served(held)
    held.close()
    assert sidecar.wait() == 0


def test_an_idle_sidecar_that_is_told_to_go_goes(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, inbound=[plain(app)])
    sidecar.signal(signal.SIGINT)
    assert sidecar.wait() == 0
    assert sidecar.unreadable == []


# The start.


def test_a_sidecar_without_an_identity_is_live_and_serves_when_it_comes(
    start_sidecar: Start, web: Identity, app: App, pki: Pki
) -> None:
    for path in (web.cert, web.key):
        path.rename(path.with_name(f"{path.name}.later"))
    sidecar = start_sidecar(web, ready=False, inbound=[inbound("in", app.address)])
    until(lambda: is_listening(sidecar.admin), "the admin endpoint is up")
    until(lambda: "FILE_MISSING" in sidecar.ask("GET", "/ready")[1], "it says what is missing")
    status, why = sidecar.ask("GET", "/ready")
    assert (status, str(web.cert) in why) == (503, True), why
    assert sidecar.ask("GET", "/live")[0] == 200
    assert "FILE_MISSING" in sidecar.ask("GET", "/certs")[1]
    assert not is_listening(sidecar.at("in"))
    for path in (web.key, web.cert):
        path.with_name(f"{path.name}.later").rename(path)
    sidecar.wait_ready()
    client = client_context(pki.identity("cart"), trust=web.bundle)
    assert what_is_seen(sidecar.at("in"), client) == "served"
    failed, published = sidecar.lines("reload", 2)
    assert (failed["reason"], published["reason"]) == ("FILE_MISSING", "RELOADED")


def test_a_reload_signal_that_comes_while_it_starts_does_not_end_it(
    start_sidecar: Start, web: Identity, app: App
) -> None:
    """spiffe-helper writes its first files, and signals, while the sidecar beside it is still starting."""
    sidecar = start_sidecar(web, ready=False, inbound=[plain(app)])
    status = Path(f"/proc/{sidecar.process.pid}/status")
    until(lambda: hangup_is_ignored(status.read_text()), "it ignores the signal")

    def is_ready_after_one_more() -> bool:
        sidecar.signal(signal.SIGHUP)
        return is_listening(sidecar.at("in"))

    until(is_ready_after_one_more, "it serves")
    assert exchange(sidecar.at("in"), HELLO) == HELLO
    assert sidecar.terminate() == 0


def test_waiting_for_an_identity_has_an_end(start_sidecar: Start, web: Identity, app: App) -> None:
    web.key.unlink()
    sidecar = start_sidecar(web.section(wait_s=0.4), ready=False, inbound=[plain(app)])
    assert sidecar.wait() == 1
    (line,) = sidecar.lines("giving up")
    assert (line["reason"], "wait_s (0.4 s)" in line["detail"], str(web.key) in line["detail"]) == (
        "FILE_MISSING",
        True,
        True,
    )


def test_a_sidecar_that_still_waits_can_be_told_to_go(start_sidecar: Start, web: Identity, app: App) -> None:
    web.key.unlink()
    sidecar = start_sidecar(web, ready=False, inbound=[plain(app)])
    until(lambda: is_listening(sidecar.admin), "the admin endpoint is up")
    assert sidecar.terminate() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_cannot_be_read_is_named_with_its_owner(start_sidecar: Start, web: Identity, app: App) -> None:
    web.key.chmod(0)
    sidecar = start_sidecar(web, ready=False, inbound=[plain(app)])
    (line,) = sidecar.lines("reload")
    assert (line["reason"], "mode 0000" in line["detail"]) == ("FILE_MISSING", True)


def test_a_key_that_others_can_read_is_a_warning(start_sidecar: Start, web: Identity, app: App) -> None:
    web.key.chmod(0o644)
    sidecar = start_sidecar(web, inbound=[plain(app)])
    (line,) = sidecar.lines("notice")
    assert (line["level"], str(web.key) in line["detail"], "0600" in line["detail"]) == ("warning", True, True)
    assert "0644" in sidecar.show("/certs")["warnings"][0]


@pytest.mark.parametrize("whose", ["inbound", "admin"])
def test_a_port_in_use_is_one_sentence(tmp_path: Path, web: Identity, app: App, whose: str) -> None:
    taken = text_of(app.address)
    listen = taken if whose == "inbound" else "127.0.0.1:0"
    admin = taken if whose == "admin" else "127.0.0.1:0"
    (tmp_path / "sidecar.yaml").write_text(
        f"identity: {{cert: {web.cert}, key: {web.key}, bundles: {{{minting.DOMAIN}: {web.bundle}}}}}\n"
        f"inbound: [{{name: in, listen: '{listen}', upstream: '127.0.0.1:9', mode: DISABLE}}]\n"
        f"admin: {{listen: '{admin}'}}\n"
    )
    ended = run("--config", str(tmp_path / "sidecar.yaml"))
    sentences = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert (ended.returncode, len(sentences)) == (1, 1), ended.stderr
    assert taken in sentences[0]
    assert "error while attempting" not in sentences[0]  # asyncio's words, with Python's tuple in them


def test_faults_of_the_configuration_are_listed_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text("identity: {cert: a}\ninbound: [{name: x, mod: STRICT}]\n")
    ended = run("--config", str(tmp_path / "sidecar.yaml"))
    assert (ended.returncode, ended.stdout, "Traceback" in ended.stderr) == (2, "", False)
    assert [
        word for word in ("identity.key", "identity.bundles", "inbound[0].listen", "mode") if word not in ended.stderr
    ] == []


def test_a_configuration_that_is_not_there_is_a_fault_of_it(tmp_path: Path) -> None:
    ended = run("--config", str(tmp_path / "nowhere.yaml"))
    assert (ended.returncode, "No such file" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)


def test_a_held_tls_connection_finishes_its_request_in_the_drain(
    start_sidecar: Start, web: Identity, app: App, pki: Pki
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)])
    with connect(sidecar.at("in"), client_context(pki.identity("cart"), trust=web.bundle)) as held:
        ask(held)
        sidecar.signal(signal.SIGTERM)
        until(lambda: not is_listening(sidecar.at("in")), "it drains")
        assert ask(held, HELLO) == HELLO
        held.unwrap().close()
    assert sidecar.wait() == 0
    assert sidecar.closed()[0]["reason"] == "COMPLETED"

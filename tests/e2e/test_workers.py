"""
Several workers behind one address: whatever happens to one of them, the sidecar goes on as one.

A plaintext exchange with the `out` listener passes outbound and inbound: the sidecar is its own peer. A worker that is
stopped (SIGSTOP) accepts nothing, which is how a test chooses who serves.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import minting
from tests.e2e.apps import App, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import PATIENCE_S, Address, free_address, is_listening, text_of, until
from tests.e2e.workers import is_gone, kill, only, pids, stopped

WORKERS = 3
EVERY = [1, 2, 3]
SHORT = {"drain_s": 5}

Start = Callable[..., Sidecar]


@pytest.fixture
def many(start_sidecar: Start, web: Identity, app: App) -> Sidecar:
    """A sidecar of three workers, all of them ready."""
    sections = listeners(app)
    sidecar = start_sidecar(web, **sections, workers=WORKERS, timeouts=SHORT)
    all_ready(sidecar)
    return sidecar


def listeners(app: App) -> dict[str, Any]:
    into = inbound("in", app.address)
    host, _, port = str(into["listen"]).rpartition(":")
    return {"inbound": [into], "outbound": [outbound("out", (host, int(port)))]}


def all_ready(sidecar: Sidecar) -> None:
    words = f"{WORKERS} of {WORKERS} workers are ready"
    until(lambda: words in sidecar.ask("GET", "/ready")[1], words)


def hold(sidecar: Sidecar, listener: str = "out") -> socket.socket:
    """A connection that has carried a byte and stays open."""
    sock = socket.create_connection(sidecar.at(listener), timeout=PATIENCE_S)
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    return sock


def hold_at(sidecar: Sidecar, number: int) -> socket.socket:
    """A connection through one worker alone."""
    with only(sidecar, number):
        return hold(sidecar)


def is_served(address: Address) -> bool:
    try:
        return exchange(address, b"hello") == b"hello"
    except ConnectionResetError:  # so quickly that `connect` saw it already
        return False


def is_refused(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # taken, and reset before connect(2) had returned
        pass
    return False


def run(sidecar_file: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "proxy", "run", "--config", str(sidecar_file)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_no_new_connection_fails_while_workers_are_killed_again_and_again(many: Sidecar) -> None:
    for number in EVERY:
        assert exchange(many.at("out"), b"before") == b"before"
        kill(pids(many)[number])
        for _ in range(5):
            assert exchange(many.at("out"), b"after") == b"after"
        all_ready(many)
    assert many.metric("worker_restarts_total") == WORKERS
    ended = many.lines("worker ended", WORKERS)
    assert [line["worker"] for line in ended] == EVERY
    assert all("SIGKILL" in line["detail"] for line in ended)


def test_clients_that_wait_outlive_every_worker(many: Sidecar) -> None:
    processes = list(pids(many).values())
    with stopped(*processes):
        waiting = [socket.create_connection(many.at("out"), timeout=PATIENCE_S) for _ in range(8)]
        for sock in waiting:
            sock.sendall(b"still here")
        for pid in processes:
            kill(pid)
    for sock in waiting:
        with sock:
            assert sock.recv(10) == b"still here"


def test_no_counter_goes_backwards_when_a_worker_dies(many: Sidecar) -> None:
    held = [hold_at(many, number) for number in EVERY]
    for sock in held:
        sock.close()
    until(lambda: many.metric("closed_total") >= 2 * WORKERS, "all are counted")
    names = ("closed_total", "connections_total", "bytes_total", "handshakes_total", "connection_seconds_count")
    before = {name: many.metric(name) for name in names}
    kill(pids(many)[2])
    during = {name: many.metric(name) for name in names}
    all_ready(many)
    after = {name: many.metric(name) for name in names}
    assert before == during == after
    assert many.metric("connections_active") == 0


def test_connections_say_which_worker_has_them(many: Sidecar) -> None:
    held = [hold_at(many, number) for number in EVERY]
    rows = many.show("/connections")
    assert {row["worker"] for row in rows if row["direction"] == "outbound"} == set(EVERY)
    for sock in held:
        sock.close()


def test_a_new_listener_and_a_narrower_policy_reach_every_worker(many: Sidecar, app: App) -> None:
    held = [hold_at(many, number) for number in EVERY]
    extra = outbound("extra", many.at("in"))
    many.config["outbound"].append(extra)
    many.config["inbound"][0]["deny"] = ["spiffe://example.org/ns/shop/sa/web"]
    many.write()
    assert many.reload()["result"] != "failed"  # "unchanged" where the file watch was quicker
    served = app.accepted
    assert {line["worker"] for line in many.lines("listening", 3 * WORKERS) if line["listener"] == "extra"} == set(
        EVERY
    )
    for sock in held:
        with contextlib.suppress(ConnectionResetError), sock:
            assert sock.recv(1) == b""
    for number in EVERY:
        with only(many, number):
            assert not is_served(many.at("extra"))
    assert app.accepted == served
    assert {line["reason"] for line in many.closed(4 * WORKERS) if line["direction"] == "inbound"} == {
        "POLICY_CHANGED",
        "DENIED",
    }


def test_a_removed_listener_is_closed_everywhere(many: Sidecar) -> None:
    address = many.at("out")
    many.config["outbound"].clear()
    many.write()
    assert many.reload()["result"] != "failed"
    assert not is_listening(address)


def test_a_rotated_certificate_reaches_every_worker(many: Sidecar, pki: Pki, web: Identity) -> None:
    fresh = minting.svid(pki.authority, web.spiffe_id, dns_names=[web.host])
    minting.write_identity(web.cert.parent, fresh, {minting.DOMAIN: pki.authority})

    def rotated() -> bool:
        shown = many.show("/certs")
        return not shown["lagging"] and [row["generation"] for row in shown["workers"]] == [2, 2, 2]

    until(rotated, "all workers have the new certificate")
    assert many.show("/certs")["chain"][0]["serial"] == f"{fresh.chain[0].serial_number:x}"
    kill(pids(many)[1])
    all_ready(many)
    assert {row["generation"] for row in many.show("/certs")["workers"]} == {2}


def test_a_worker_that_hangs_is_named_and_holds_nobody_up(many: Sidecar) -> None:
    hanging = pids(many)[2]
    with stopped(hanging):
        assert many.show("/certs")["lagging"] == [2]
        assert [row["worker"] for row in many.show("/connections") if "detail" in row] == [2]
        assert many.metric("trust_generation") == 1
        until(lambda: "2 of 3 workers are ready; worker 2" in many.ask("GET", "/ready")[1], "the silence is noticed")
        assert "worker 2 does not answer" in str(many.reload()["workers"])
        assert exchange(many.at("out"), b"hello") == b"hello"
        many.config["outbound"].append(outbound("extra", many.at("in")))
        many.write()
        until(lambda: is_listening(many.at("extra")), "the others take a new configuration")
    all_ready(many)
    assert many.show("/certs")["lagging"] == []
    assert many.reload()["result"] != "failed"
    kill(pids(many)[1])
    kill(pids(many)[3])
    assert exchange(many.at("extra"), b"hello") == b"hello"


def test_a_configuration_that_cannot_be_read_keeps_the_old_one(many: Sidecar) -> None:
    many.config["inbound"][0]["mode"] = "LAX"
    many.write()
    outcome = many.reload()
    assert outcome["result"] == "failed"
    assert outcome["configuration_failure"]["reason"] == "CONFIG_FAULT"
    assert "configuration_failure" in many.show("/certs")
    assert many.metric("reloads_total", result="failed", reason="CONFIG_FAULT") >= 1
    assert exchange(many.at("out"), b"hello") == b"hello"
    many.config["inbound"][0]["mode"] = "STRICT"
    many.write()
    assert many.reload()["result"] != "failed"
    assert "configuration_failure" not in many.show("/certs")


def test_what_one_worker_refuses_no_worker_gets(many: Sidecar) -> None:
    address = many.at("out")
    many.config["identity"]["cert"] = "/nowhere/tls.crt"
    many.config["outbound"] = [outbound("elsewhere", many.at("in"))]
    many.write()
    failure = many.reload()["configuration_failure"]
    assert failure["reason"] == "FILE_MISSING"
    assert failure["detail"].startswith("worker ")
    assert exchange(address, b"hello") == b"hello"
    assert not is_listening(many.at("elsewhere"))
    assert [listening["listener"] for listening in many.show("/config")["listening"]] == ["in", "out"]


def test_a_port_in_use_refuses_a_new_configuration_everywhere(many: Sidecar) -> None:
    with socket.socket() as taken:
        taken.bind(free_address())
        taken.listen()
        busy = outbound("busy", many.at("in")) | {"listen": text_of(taken.getsockname())}
        many.config["outbound"].append(busy)
        many.write()
        failure = many.reload()["configuration_failure"]
    assert "another process has it" in failure["detail"]
    assert exchange(many.at("out"), b"hello") == b"hello"


def test_the_log_level_and_sighup_reach_every_worker(many: Sidecar) -> None:
    assert many.ask("PUT", "/log-level", "debug")[0] == 200
    many.signal(signal.SIGHUP)
    assert {line["worker"] for line in many.lines("reload", 2 * WORKERS) if line["level"] == "debug"} == set(EVERY)


def test_a_drain_lets_connections_finish_in_every_worker(many: Sidecar) -> None:
    held = [hold_at(many, number) for number in EVERY]
    assert many.ask("POST", "/drain")[0] == 200
    until(lambda: not is_listening(many.at("in")), "the inbound listener is closed")
    assert many.ask("GET", "/ready")[0] == 503
    for sock in held:
        with sock:
            sock.sendall(b"y")
            assert sock.recv(1) == b"y"
    until(lambda: not is_listening(many.at("out")), "the outbound listener is closed")
    assert many.process.poll() is None
    assert many.terminate() == 0


def test_while_a_drain_is_delayed_it_is_not_ready_and_serves(start_sidecar: Start, web: Identity, app: App) -> None:
    many = start_sidecar(web, **listeners(app), workers=WORKERS, timeouts={"drain_delay_s": 600})
    all_ready(many)
    assert many.ask("POST", "/quitquitquit")[0] == 200
    assert many.ask("GET", "/ready")[0] == 503
    assert exchange(many.at("out"), b"hello") == b"hello"


def test_unix_sockets_are_shared_too_and_leave_no_file(
    start_sidecar: Start, web: Identity, app: App, tmp_path: Path
) -> None:
    sections = listeners(app)
    path = tmp_path / "out.sock"
    sections["outbound"][0]["listen"] = f"unix:{path}"
    many = start_sidecar(web, **sections, workers=WORKERS)
    all_ready(many)
    for number in EVERY:
        kill(pids(many)[number])
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(path))
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
        all_ready(many)
    assert many.terminate() == 0
    assert not path.exists()


def test_a_drain_ends_what_is_left_in_time(start_sidecar: Start, web: Identity, app: App) -> None:
    many = start_sidecar(web, **listeners(app), workers=WORKERS, timeouts={"drain_s": 0.2})
    all_ready(many)
    processes = pids(many)
    with hold_at(many, 2):
        assert many.terminate() == 0
    assert all(is_gone(pid) for pid in processes.values())
    assert {line["reason"] for line in many.closed(2)} == {"DRAINED"}


def test_asked_twice_to_terminate_all_leave_at_once(start_sidecar: Start, web: Identity, app: App) -> None:
    many = start_sidecar(web, **listeners(app), workers=WORKERS, timeouts={"drain_s": 0})
    all_ready(many)
    processes = pids(many)
    with hold(many):
        many.signal(signal.SIGTERM)
        many.lines("draining", 1 + WORKERS)
        assert many.terminate() == 1
        until(lambda: all(is_gone(pid) for pid in processes.values()), "the workers are gone")


def test_workers_go_when_the_supervisor_is_killed(many: Sidecar) -> None:
    processes = pids(many)
    many.process.kill()
    until(lambda: all(is_gone(pid) for pid in processes.values()), "the workers are gone")
    assert not is_listening(many.at("out"))


def test_signals_to_a_worker_change_nothing(many: Sidecar) -> None:
    processes = pids(many)
    for pid in processes.values():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    assert exchange(many.at("out"), b"hello") == b"hello"
    assert pids(many) == processes


def test_nobody_is_let_in_before_there_is_an_identity(tmp_path: Path, pki: Pki, web: Identity, app: App) -> None:
    hidden = web.cert.rename(web.cert.with_suffix(".later"))
    sidecar = Sidecar(tmp_path, web, **listeners(app), workers=WORKERS)
    try:
        until(lambda: "FILE_MISSING" in ready_words(sidecar), "a worker says what it lacks")
        assert is_refused(sidecar.at("in"))
        hidden.rename(web.cert)
        all_ready(sidecar.wait_ready())
        assert exchange(sidecar.at("out"), b"hello") == b"hello"
        assert sidecar.terminate() == 0
    finally:
        sidecar.kill()
    assert sidecar.unreadable == []


def ready_words(sidecar: Sidecar) -> str:
    try:
        return sidecar.ask("GET", "/ready")[1]
    except OSError:
        return ""


def test_without_an_identity_in_time_it_gives_up(tmp_path: Path, web: Identity, app: App) -> None:
    section = web.section(wait_s=0.5) | {"key": "/nowhere/tls.key"}
    sidecar = Sidecar(tmp_path, section, **listeners(app), workers=WORKERS)
    try:
        assert sidecar.wait() == 1
        assert sidecar.lines("giving up")[0]["reason"] == "FILE_MISSING"
    finally:
        sidecar.kill()
    assert sidecar.unreadable == []


def test_a_port_in_use_is_one_sentence_before_any_worker_starts(many: Sidecar, tmp_path: Path) -> None:
    many.config["admin"] = None
    many.config["outbound"] = []
    many.write()
    second = tmp_path / "second.yaml"
    second.write_text(many.file.read_text())
    done = run(second)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"cannot listen on {text_of(many.at('in'))}: another process has it")
    assert "worker" not in "".join(line for line in done.stderr.splitlines() if '"worker"' in line)


def test_one_worker_has_no_supervisor(start_sidecar: Start, web: Identity, app: App) -> None:
    sidecar = start_sidecar(web, **listeners(app), workers=1)
    pid = sidecar.process.pid
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
    assert "workers" not in sidecar.show("/certs")

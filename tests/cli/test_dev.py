"""`mtls-sidecar dev` as a developer meets it: it starts at once, its lines work when copied, and it ends clean."""

import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from proxy.cli.devserver import choose_address
from proxy.cli.devstate import DevFault
from proxy.cli.main import main
from proxy.core.config import TcpAddress
from proxy.ops.ownmodule import package_command, package_environment
from tests.e2e.waiting import PATIENCE_S, Address, free_address, text_of, until
from tests.e2e.workers import is_gone


class Dev:
    """A running `dev` in a folder, what it says in two files."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.listen = free_address()
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        addresses = ["--listen", text_of(self.listen), "--admin", text_of(free_address())]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                package_command("proxy", "dev", *addresses, *options),
                cwd=folder,
                env=package_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def said(self, words: str, *, times: int = 1) -> str:
        """Wait until it has said something, on either stream; returns all that it has said so far."""

        def found() -> str | None:
            text = self.out.read_text() + self.err.read_text()
            assert self.process.poll() is None, f"dev ended with status {self.process.returncode}:\n{text}"
            return text if text.count(words) >= times else None

        return until(found, f"dev says {words!r}") or ""

    def lines(self) -> list[list[str]]:
        """The curl lines that it printed."""
        text = self.said("Ctrl-C drains and ends.")
        return [shlex.split(line) for line in re.findall(r"^  (curl .*)$", text, re.MULTILINE)]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def ask(self, *, identity: bool = True, state: str = ".mtls-sidecar-dev") -> dict[str, object]:
        """One request with the client's files, as any other program would send it."""
        client = self.folder / state / "client"
        context = ssl.create_default_context(cafile=str(client / "ca.crt"))
        if identity:
            context.load_cert_chain(client / "tls.crt", client / "tls.key")
        with (
            socket.create_connection(self.listen, PATIENCE_S) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: tls.recv(65536), b""))
        body: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return body


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    running: list[Dev] = []

    def start(*options: str) -> Dev:
        one = Dev(tmp_path, *options)
        running.append(one)
        return one

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()  # not killed: it has children to end
            try:
                one.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        sys.stdout.write(one.out.read_text() + one.err.read_text())


def test_the_minted_client_is_let_in_and_nobody_without_it(dev: Callable[..., Dev]) -> None:
    one = dev()
    one.lines()
    body = one.ask()
    assert (body["caller"], body["request"]) == ("spiffe://dev.local/ns/dev/sa/client", "GET /hello")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        one.ask(identity=False)
    one.said("NO_CLIENT_CERTIFICATE")
    assert one.end() == 0
    assert "drained" in one.err.read_text()
    assert "Traceback" not in one.err.read_text()


def test_svids_are_renewed_on_disk_and_taken_up_while_it_serves(dev: Callable[..., Dev]) -> None:
    one = dev("--ttl", "4")
    one.lines()
    one.said("generation=3")
    assert one.ask()["caller"] == "spiffe://dev.local/ns/dev/sa/client"
    assert "is late" not in one.err.read_text()


def test_a_dev_that_is_killed_leaves_its_state_and_no_child_behind(dev: Callable[..., Dev], tmp_path: Path) -> None:
    one = dev()
    one.lines()
    children = [child.pid for child in psutil.Process(one.process.pid).children()]
    assert len(children) == 3  # the keeper, the service and its sidecar
    assert one.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: all(is_gone(child) for child in children), "its children have ended")
    assert "drained" in one.err.read_text()
    assert (tmp_path / ".mtls-sidecar-dev" / "client" / "tls.key").exists()


def test_a_reader_that_went_away_ends_it_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = package_command("proxy", "dev", "--listen", text_of(free_address()), "--admin", text_of(free_address()))
    try:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=package_environment(),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(writing)
    assert done.returncode == 141
    for word in ("unexpected", "Traceback", "Group", "Loop", "Error"):
        assert word not in done.stderr


def test_the_next_start_takes_up_the_ca(dev: Callable[..., Dev], tmp_path: Path) -> None:
    ca = tmp_path / "st" / "ca" / "ca.crt"
    one = dev("--state", "st")
    one.lines()
    before = ca.read_bytes()
    assert one.end(signal.SIGTERM) == 0
    two = dev("--state", "st")
    two.lines()
    assert ca.read_bytes() == before
    assert two.ask(state="st")["caller"] == "spiffe://dev.local/ns/dev/sa/client"


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", [("--tls-max", "1.2"), ("--tlsv1.3",)])
def test_the_printed_curl_lines_do_what_they_say(dev: Callable[..., Dev], version: tuple[str, ...]) -> None:
    one = dev("--mode", "permissive")
    named, plaintext, anonymous = one.lines()
    results = [
        subprocess.run(
            [*line, "--silent", "--show-error", *version],
            cwd=one.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        for line in (named, plaintext, anonymous)
    ]
    assert [result.returncode == 0 for result in results] == [True, True, False]
    assert json.loads(results[0].stdout)["caller"] == "spiffe://dev.local/ns/dev/sa/client"
    assert json.loads(results[1].stdout)["security"] == "plaintext"
    assert "alert" in results[2].stderr


def test_a_service_of_the_developer_is_reached_and_its_absence_is_a_warning(dev: Callable[..., Dev]) -> None:
    upstream = free_address()
    one = dev(
        "--upstream",
        text_of(upstream),
        "--spiffe-id",
        "spiffe://shop.example/web",
        "--allow",
        "spiffe://shop.example/ns/*/sa/client",
    )
    one.lines()
    assert f"nothing listens on {text_of(upstream)} yet (Connection refused)" in one.said("Warning")
    with socket.create_server(upstream) as server:
        server.settimeout(PATIENCE_S)
        assert _exchange(one, server) == b"plain bytes"


def _exchange(one: Dev, server: socket.socket) -> bytes:
    client = one.folder / ".mtls-sidecar-dev" / "client"
    context = ssl.create_default_context(cafile=str(client / "ca.crt"))
    context.load_cert_chain(client / "tls.crt", client / "tls.key")
    with (
        socket.create_connection(one.listen, PATIENCE_S) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"plain bytes")
        app, _ = server.accept()
        with app:
            app.settimeout(PATIENCE_S)
            return app.recv(11)


def test_what_it_wrote_is_a_configuration_that_run_takes(
    dev: Callable[..., Dev], capsys: pytest.CaptureFixture[str]
) -> None:
    one = dev("--mode", "DISABLE")
    one.lines()
    assert main(["validate", "--config", str(one.folder / ".mtls-sidecar-dev" / "sidecar.yaml")]) == 0
    assert "inbound dev" in capsys.readouterr().out


def test_a_listen_address_that_was_asked_for_is_not_moved(taken: Address) -> None:
    wanted = TcpAddress(*taken)
    with pytest.raises(DevFault, match=r"is taken: .* --listen HOST:PORT"):
        choose_address(wanted, may_move=False, option="--listen")


def test_the_default_moves_to_a_free_port_with_a_sentence(taken: Address, capsys: pytest.CaptureFixture[str]) -> None:
    moved = choose_address(TcpAddress(*taken), may_move=True, option="--listen")
    assert (moved.host, moved.port != taken[1]) == (taken[0], True)
    assert (
        capsys.readouterr().out
        == f"{text_of(taken)} is taken, so {moved} takes its place (--listen HOST:PORT chooses).\n"
    )


def test_an_address_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(DevFault, match=r"cannot listen on 192\.0\.2\.1:443: .*; give an address of this machine"):
        choose_address(TcpAddress("192.0.2.1", 443), may_move=True, option="--listen")


@pytest.fixture
def taken() -> Iterator[Address]:
    with socket.create_server(free_address()) as server:
        yield server.getsockname()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--mode", "strct"], "'strct' is no mode"),
        (["--mode", "off"], "DISABLE relays bytes"),
        (["--ttl", "1"], "out of range"),
        (["--ttl", "soon"], "is no duration"),
        (["--upstream", "8000"], "the host is missing"),
        (["--listen", "unix:/a"], "listens on HOST:PORT"),
        (["--spiffe-id", "me"], "must start with spiffe://"),
        (["--allow", "spiffe://*/x"], "wildcard in the trust domain"),
    ],
)
def test_a_wrong_option_is_a_sentence(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_client_of_another_trust_domain_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dev", "--client-id", "spiffe://elsewhere.example/x"]) == 1
    assert "is not of the trust domain of --spiffe-id: write spiffe://dev.local/..." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_configured_is_said_by_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here = text_of(free_address())
    assert main(["dev", "--listen", here, "--upstream", here, "--admin", text_of(free_address())]) == 1
    assert "inbound[0].upstream" in capsys.readouterr().err

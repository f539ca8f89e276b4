"""The webhook over real HTTPS, as a process of its own: rotation without a dropped request, TLS versions, signals."""

import asyncio
import contextlib
import json
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.main import main
from proxy.core.config import LogFormat, LogLevel
from proxy.ops.log import Log, configure
from proxy.pod import webhookserver
from proxy.pod.admission import OnRefusal
from proxy.pod.webhook import Webhook
from proxy.pod.webhookserver import CertificateFiles, ServerCertificate, WebhookServer
from tests.pod.certificates import Authority
from tests.pod.pods import pod, settings
from tests.pod.test_admission import review

REVIEW = json.dumps(review(pod())).encode()
PATIENCE_S = 30


class Server:
    """A process of the webhook; lines: what it has logged so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        argv = [sys.executable, "-m", "proxy", "webhook", "--listen", "127.0.0.1:0", "--drain-delay", "0"]
        argv += ["--cert", str(folder / "tls.crt"), "--key", str(folder / "tls.key"), *options]
        argv += ["--identity", "spiffe-csi", "--trust-domain", "example.org", "--allow", "spiffe://example.org/**"]
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stderr, selectors.EVENT_READ)
        self._partial = b""
        self.lines: list[dict[str, Any]] = []
        listening = self.wait_for(lambda line: line["event"] == "listening")
        self.port = int(listening["address"].rpartition(":")[2])

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line of the log that is wanted."""
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            found = next((line for line in self._read(0.1) if wanted(line)), None)
            if found is not None:
                return found
        raise AssertionError(f"no such line among {self.lines}")

    def _read(self, timeout_s: float) -> list[dict[str, Any]]:
        assert self._process.stderr is not None
        data = self._process.stderr.read() if self._selector.select(timeout_s) else b""
        assert data != b"" or self._process.poll() is None or not self._selector.select(0), self.lines
        *whole, self._partial = (self._partial + (data or b"")).split(b"\n")
        fresh = [json.loads(line) for line in whole]
        self.lines += fresh
        return fresh

    def connect(self, authority: Authority, **options: Any) -> HTTPSConnection:
        context = ssl.create_default_context(cadata=authority.pem)
        for name, value in options.items():
            setattr(context, name, value)
        connection = HTTPSConnection("localhost", self.port, timeout=PATIENCE_S, context=context)
        connection.connect()
        return connection

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        return self._process.wait(PATIENCE_S)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._selector.close()
        assert self._process.stderr is not None
        self._process.stderr.close()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def serve(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*options: str) -> Server:
        authority.issue(tmp_path)
        servers.append(Server(tmp_path, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def post(connection: HTTPSConnection, body: bytes = REVIEW) -> tuple[int, Any]:
    connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def common_name(connection: HTTPSConnection) -> str:
    assert isinstance(connection.sock, ssl.SSLSocket)
    certificate = connection.sock.getpeercert()
    assert certificate is not None
    subject: Any = certificate["subject"]
    return str(subject[0][0][1])


def test_a_certificate_is_renewed_while_reviews_flow(serve: Callable[..., Server], authority: Authority) -> None:
    server = serve()
    kept = server.connect(authority)
    assert (post(kept)[0], common_name(kept)) == (200, "1 days")
    for days in (2, 3, 4):
        authority.issue(server.folder, days=days)
        server.wait_for(lambda line: line["event"] == "reload" and line["result"] == "published")
        fresh = server.connect(authority)
        assert (post(fresh)[0], common_name(fresh), post(kept)[0]) == (200, f"{days} days", 200)
        fresh.close()
    kept.close()


def test_a_bad_pair_leaves_the_former_one_in_force_and_says_so_once(
    serve: Callable[..., Server], authority: Authority
) -> None:
    server = serve()
    good = (server.folder / "tls.key").read_bytes()
    (server.folder / "tls.key").write_text("no key", encoding="utf-8")
    failed = server.wait_for(lambda line: line["event"] == "reload")
    assert (failed["result"], failed["level"]) == ("failed", "warning")
    connection = server.connect(authority)
    assert post(connection)[0] == 200
    connection.close()
    (server.folder / "tls.key").write_bytes(good)
    authority.issue(server.folder, days=9)
    server.wait_for(lambda line: line["event"] == "reload" and line["result"] == "published")
    with closing(server.connect(authority)) as renewed:
        assert common_name(renewed) == "9 days"


def test_tls_1_2_is_the_lowest_and_1_3_is_spoken(serve: Callable[..., Server], authority: Authority) -> None:
    server = serve()
    versions = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        connection = server.connect(authority, minimum_version=version, maximum_version=version)
        assert isinstance(connection.sock, ssl.SSLSocket)
        versions[version.name] = connection.sock.version()
        connection.close()
    assert versions == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as raw:
        raw.sendall(bytes.fromhex("160301002f0100002b0302" + "00" * 32 + "000004c013002f0100"))  # a hello of TLS 1.1
        assert raw.recv(7)[:1] in (b"", b"\x15")  # an alert or an end, and no hello


def test_clients_need_a_certificate_where_the_operator_says_so(
    serve: Callable[..., Server], authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_text(authority.pem, encoding="utf-8")
    server = serve("--client-ca", str(tmp_path / "ca.crt"))
    with closing(server.connect(authority)) as stranger, pytest.raises((ssl.SSLError, ConnectionError)):
        post(stranger)
    context = ssl.create_default_context(cadata=authority.pem)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    connection = HTTPSConnection("localhost", server.port, timeout=PATIENCE_S, context=context)
    assert post(connection)[0] == 200
    connection.close()


def live(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None) -> bytes:
    """What /live answers to a client; nothing where it is refused, which a client of TLS 1.3 finds out by reading."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return connection.recv(12)
    return b""


def test_a_client_cannot_outlive_its_ca_by_resumption(
    serve: Callable[..., Server], authority: Authority, tmp_path: Path
) -> None:
    clients = tmp_path / "clients.crt"
    clients.write_text(authority.pem, encoding="utf-8")
    server = serve("--client-ca", str(clients))
    context = ssl.create_default_context(cadata=authority.pem)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with closing(HTTPSConnection("localhost", server.port, timeout=PATIENCE_S, context=context)) as known:
        assert post(known)[0] == 200
        assert isinstance(known.sock, ssl.SSLSocket)
        assert known.sock.version() == "TLSv1.3"
        session = known.sock.session
    assert live(server, context, session) == b"HTTP/1.1 200"
    clients.write_text(Authority().pem, encoding="utf-8")
    server.wait_for(lambda line: line["event"] == "reload" and line["result"] == "published")
    assert live(server, context, session) == b""


def test_sigterm_ends_it_with_0_after_what_is_under_way(serve: Callable[..., Server], authority: Authority) -> None:
    server = serve()
    connection = server.connect(authority)
    assert post(connection)[0] == 200
    server.signal(signal.SIGTERM)
    connection.close()
    assert server.status() == 0


@pytest.mark.parametrize("spoil", ["missing", "junk", "encrypted", "other key"])
def test_a_bad_certificate_at_the_start_is_a_sentence_and_2(
    tmp_path: Path, authority: Authority, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    authority.issue(tmp_path, password=b"x" if spoil == "encrypted" else None)
    if spoil == "missing":
        (tmp_path / "tls.crt").unlink()
    elif spoil == "junk":
        (tmp_path / "tls.crt").write_text("junk", encoding="utf-8")
    elif spoil == "other key":
        certificate = (tmp_path / "tls.crt").read_bytes()
        authority.issue(tmp_path)
        (tmp_path / "tls.crt").write_bytes(certificate)
    files = ["--cert", str(tmp_path / "tls.crt"), "--key", str(tmp_path / "tls.key")]
    assert main(["webhook", "--listen", "127.0.0.1:0", *files]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("mtls-sidecar webhook: ")
    assert said[-1].endswith(".")
    if spoil == "missing":
        assert "tls.crt cannot be read: No such file or directory" in said[-1]
        assert "tls.key" not in said[-1]


def test_a_port_in_use_is_a_sentence_and_1(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    authority.issue(tmp_path)
    files = ["--cert", str(tmp_path / "tls.crt"), "--key", str(tmp_path / "tls.key")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["webhook", "--listen", address, *files]) == 1
        assert f"cannot listen on {address}: Address already in use" in capsys.readouterr().err


HEAD = f"POST /inject HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(REVIEW)}\r\n\r\n"


@pytest.fixture
def log() -> Iterator[Log]:
    with open(os.devnull, "wb") as nowhere:
        log = configure(LogLevel.ERROR, LogFormat.JSON, nowhere)
        yield log
        log.close()


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"POST /inject HTT", 0),
        (HEAD.encode() + REVIEW, 1),
        (HEAD.encode() + REVIEW + b"POST /inj", 1),
        ((HEAD.encode() + REVIEW) * 3 + b"POST /inj", 3),
    ],
)
async def test_who_sends_no_whole_head_in_time_is_disconnected(
    tmp_path: Path, authority: Authority, log: Log, monkeypatch: pytest.MonkeyPatch, sent: bytes, answers: int
) -> None:
    monkeypatch.setattr(webhookserver, "HEAD_S", 0.3)
    monkeypatch.setattr(webhookserver, "KEEP_ALIVE_S", 1)
    authority.issue(tmp_path)
    certificate = ServerCertificate(CertificateFiles(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = WebhookServer(Webhook(settings(), OnRefusal.DENY, log), certificate, sock, log)
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE_S):
            tasks.create_task(server.run())
            context = ssl.create_default_context(cadata=authority.pem)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", sock.getsockname()[1], ssl=context, server_hostname="localhost"
            )
            writer.write(sent)
            said = await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            server.leave(0)
    assert said.count(b"HTTP/1.1 200 OK") == answers

"""`mtls-sidecar wait`, against a server that becomes ready, one that does not, one that hangs, and none."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from proxy.cli import wait
from proxy.cli.main import main


class Server(ThreadingHTTPServer):
    """Answers with the statuses in turn, and with the last one from then on; None: not at all."""

    daemon_threads = True

    def __init__(self, statuses: list[int | None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = statuses
        self.paths: list[str] = []
        self.done = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/ready?x=1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.paths.append(self.path)
        status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
        if status is None:
            server.done.wait(10)
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"starting")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def serve() -> Iterator[object]:
    servers: list[Server] = []

    def start(*statuses: int | None) -> Server:
        server = Server(list(statuses))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.done.set()
        server.shutdown()
        server.server_close()


def test_it_waits_until_the_answer_is_200(serve, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    server = serve(503, 503, 200)
    assert main(["wait", server.url]) == 0
    assert server.paths == ["/ready?x=1"] * 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("status", "words"), [(503, "503 starting"), (302, "302 starting"), (None, "timed out")])
def test_it_gives_up_in_time_and_says_the_last_answer(  # type: ignore[no-untyped-def]
    serve, status: int | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wait", "--timeout", "1", serve(status).url]) == 1
    assert words in capsys.readouterr().err


def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "PAUSE_S", 60.0)
    assert main(["wait", "--timeout", "1", "http://127.0.0.1:1/"]) == 1
    assert "Connection refused" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "ready", "http:///x", "http://a:99999/", "http://a/ b"])
def test_what_is_no_url_of_plain_http_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wait", url]) == 2
    assert "no URL to wait for" in capsys.readouterr().err

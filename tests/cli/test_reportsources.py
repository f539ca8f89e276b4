"""Sources are opened and read within bounds, and what cannot be read says why in a clause."""

import gzip
import http.server
import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import reportsources
from proxy.cli.reportsources import SourceFault, Taken, _lines, fetch, is_url, take, take_fetched
from proxy.core.plaintext import Evidence, Grouping
from proxy.ops.plaintextsources import MAX_LINE_BYTES
from tests.ops.test_metrics import make
from tests.ops.test_plaintextsources import connection, line

NOW = 1_795_521_700.0
METRICS = make().expose("")[1]


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers from `pages` of its server: path -> body."""

    def do_GET(self) -> None:
        body = self.server.pages.get(self.path)  # type: ignore[attr-defined]
        self.send_response(200 if body is not None else self.server.otherwise)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        server.pages, server.otherwise = {}, 404  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(endpoint: http.server.HTTPServer, path: str = "") -> str:
    return f"http://127.0.0.1:{endpoint.server_port}{path}"


def taken(source: str) -> tuple[Taken, Evidence]:
    evidence = Evidence(Grouping())
    if is_url(source):
        return take_fetched(source, fetch(source, NOW), evidence), evidence
    return take(source, evidence, NOW, lambda _: None), evidence


def fault(source: str) -> str:
    with pytest.raises(SourceFault) as caught:
        taken(source)
    return str(caught.value)


def test_an_admin_endpoint_gives_sums_and_who_is_open(endpoint: http.server.HTTPServer) -> None:
    endpoint.pages = {"/metrics": METRICS, "/connections": json.dumps([connection()]).encode()}  # type: ignore[attr-defined]
    what, evidence = taken(url(endpoint))
    assert what.kind == "metrics and connections"
    assert [client.client for client in evidence.clients.values()] == ["2001:db8::7"]
    assert [sidecar.name for sidecar in evidence.sidecars.values()] == [f"127.0.0.1:{endpoint.server_port}"]


@pytest.mark.parametrize("path", ["", "/", "/metrics"])
def test_a_health_endpoint_gives_sums(endpoint: http.server.HTTPServer, path: str) -> None:
    endpoint.pages = {"/metrics": METRICS}  # type: ignore[attr-defined]
    what, evidence = taken(url(endpoint, path))
    assert what.kind == "metrics"
    assert list(evidence.listeners) == ["http"]


@pytest.mark.parametrize(("status", "word"), [(404, "404"), (403, "reach it as 127.0.0.1")])
def test_another_status_is_a_fault(endpoint: http.server.HTTPServer, status: int, word: str) -> None:
    endpoint.otherwise = status  # type: ignore[attr-defined]
    assert word in fault(url(endpoint))


def test_a_body_that_is_none_of_ours_is_a_fault(endpoint: http.server.HTTPServer) -> None:
    endpoint.pages = {"/metrics": b"<html>"}  # type: ignore[attr-defined]
    assert "cannot be read as /metrics" in fault(url(endpoint))


def test_a_body_beyond_the_bound_is_a_fault(endpoint: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reportsources, "MAX_BODY_BYTES", 10)
    endpoint.pages = {"/metrics": METRICS}  # type: ignore[attr-defined]
    assert "longer than 10 bytes" in fault(url(endpoint))


@pytest.mark.parametrize("source", ["https://127.0.0.1:1", "http://", "http://127.0.0.1:1/metrics?x=1", "http://a:b/"])
def test_what_is_no_address_of_an_endpoint_is_a_fault(source: str) -> None:
    assert fault(source)


def test_nobody_there_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert fault(f"http://127.0.0.1:{port}") == "Connection refused"


def test_a_unix_socket_is_an_endpoint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short

    class UnixServer(http.server.HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind("admin.sock")
            self.server_name, self.server_port = "localhost", 80

    class UnixEndpoint(Endpoint):
        def address_string(self) -> str:
            return "unix"

    with UnixServer("admin.sock", UnixEndpoint) as server:  # type: ignore[arg-type]
        server.pages, server.otherwise = {"/metrics": METRICS}, 404  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        what, evidence = taken("unix:admin.sock")
        server.shutdown()
        thread.join()
    assert what.kind == "metrics"
    assert list(evidence.listeners) == ["http"]
    assert fault("unix:missing.sock") == "No such file or directory"


def test_an_endpoint_that_says_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reportsources, "ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert fault(f"http://127.0.0.1:{server.getsockname()[1]}") == "timed out"


def test_a_file_is_a_log_or_a_body_by_its_beginning(tmp_path: Path) -> None:
    for name, content in (("log", line() + b"\nnoise\n"), ("metrics", METRICS), ("connections", b"[]")):
        (tmp_path / name).write_bytes(content)
    assert taken(str(tmp_path / "log"))[0] == Taken(str(tmp_path / "log"), "log", 2, 1)
    assert taken(str(tmp_path / "metrics"))[0].kind == "metrics"
    assert taken(str(tmp_path / "connections"))[0].kind == "connections"


def test_a_saved_body_is_as_old_as_its_file(tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    file.write_bytes(METRICS)
    os.utime(file, (NOW - 500, NOW - 500))
    _, evidence = taken(str(file))
    assert [sidecar.last for sidecar in evidence.sidecars.values()] == [NOW - 500]


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "empty"), (b"\n \n", "empty"), (gzip.compress(line()), "zcat"), (b"plain\ntext\n", "none of its 2 lines")],
)
def test_a_file_that_says_nothing_is_a_fault(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert word in fault(str(file))


def test_a_path_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    assert fault(str(tmp_path / "missing")) == "No such file or directory"
    assert fault(str(tmp_path)) == "Is a directory"
    assert "embedded null" in fault("nul\0")


def test_a_pipe_into_which_nobody_writes_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reportsources, "SILENCE_S", 0.05)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR), "wb"):  # a writer that is silent
        assert "nothing came for 0.05 s" in fault(str(fifo))


@given(st.lists(st.binary(max_size=12)), st.integers(1, 5))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], size: int) -> None:
    text = io.BytesIO(b"\n".join(lines))
    expected = [one for one in b"\n".join(lines).split(b"\n") if one.strip()]
    assert list(_lines(iter(lambda: text.read(size), b""))) == expected


def test_of_a_line_that_is_too_long_only_so_much_is_kept() -> None:
    endless = [b"x" * MAX_LINE_BYTES] * 5
    assert [len(one) for one in _lines([*endless, b"\n", b"short"])] == [MAX_LINE_BYTES + 1, 5]

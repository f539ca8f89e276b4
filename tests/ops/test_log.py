"""The lines as an operator reads them."""

import json
import os
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.core.config import LogFormat, LogLevel
from proxy.core.events import Accepted, Closed, Direction, Listener, Reloaded, ReloadResult, Security, TlsFacts
from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from proxy.ops.log import Log, LogRenderer, configure

HTTP = Listener(Direction.INBOUND, "http")
TLS = TlsFacts(
    version="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    group="X25519MLKEM768",
    sni="pay.shop.svc",
    alpn="h2",
    resumed=True,
    peer_spiffe_id="spiffe://example.org/ns/shop/sa/cart",
    peer_serial="ab12",
    peer_not_after="2026-11-24T12:00:00Z",
)
COMPLETED = Closed(
    listener=HTTP,
    start_time=1795521600.25,
    duration_s=0.1234567,
    downstream_remote_address="10.0.0.1:4242",
    downstream_local_address="10.0.0.2:15006",
    upstream_address="127.0.0.1:8080",
    bytes_received=10,
    bytes_sent=20,
    security=Security.MUTUAL_TLS,
    tls=TLS,
    reason=Reason.COMPLETED,
    detail="",
)
FAILED = Reloaded(
    what="identity", result=ReloadResult.FAILED, reason=Reason.KEY_MISMATCH, detail="tls.key", generation=3
)


class Terminal:
    """A pipe that can say it is a terminal."""

    def __init__(self, tty: bool) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.tty = tty

    def fileno(self) -> int:
        return self.writer

    def isatty(self) -> bool:
        return self.tty

    def text(self) -> str:
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""


Make = Callable[..., tuple[Log, Terminal]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Log, Terminal]] = []

    def build(level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.JSON, tty: bool = False) -> object:
        terminal = Terminal(tty)
        made.append((configure(level, form, terminal), terminal))
        return made[-1]

    yield build  # type: ignore[misc]
    for log, terminal in made:
        log.close()
        os.close(terminal.reader)
        os.close(terminal.writer)


def test_a_connection_is_one_json_line_with_the_contracts_fields(make: Make) -> None:
    log, terminal = make()
    LogRenderer(log).emit(COMPLETED)
    text = terminal.text()
    assert text.count("\n") == 1
    line = json.loads(text)
    line.pop("timestamp")
    assert line == {
        "level": "info",
        "event": "connection",
        "start_time": "2026-11-24T12:00:00.250000Z",
        "duration_s": 0.123457,
        "direction": "inbound",
        "listener": "http",
        "downstream_remote_address": "10.0.0.1:4242",
        "downstream_local_address": "10.0.0.2:15006",
        "upstream_address": "127.0.0.1:8080",
        "bytes_received": 10,
        "bytes_sent": 20,
        "security": "mutual_tls",
        "reason": "COMPLETED",
        "detail": "",
        "tls": {
            "version": "TLSv1.3",
            "cipher": "TLS_AES_256_GCM_SHA384",
            "group": "X25519MLKEM768",
            "sni": "pay.shop.svc",
            "alpn": "h2",
            "resumed": True,
            "peer_spiffe_id": "spiffe://example.org/ns/shop/sa/cart",
            "peer_serial": "ab12",
            "peer_not_after": "2026-11-24T12:00:00Z",
        },
    }


@pytest.mark.parametrize("reason", [word for word, it in EXPLANATIONS.items() if it.kind is not Kind.RELOAD])
def test_refusals_are_warnings_with_an_advice_and_ends_are_not(make: Make, reason: Reason) -> None:
    log, terminal = make()
    LogRenderer(log).emit(msgspec.structs.replace(COMPLETED, reason=reason, tls=None))
    line = json.loads(terminal.text())
    if EXPLANATIONS[reason].kind is Kind.REJECTED:
        assert (line["level"], line["advice"]) == ("warning", EXPLANATIONS[reason].advice)
    else:
        assert line["level"] == "info"
        assert "advice" not in line
    assert line["tls"] is None


def test_other_facts_make_no_line(make: Make) -> None:
    log, terminal = make(LogLevel.DEBUG)
    LogRenderer(log).emit(Accepted(HTTP))
    assert terminal.text() == ""


def test_a_failed_reload_is_a_warning_that_says_what_to_do(make: Make) -> None:
    log, terminal = make()
    LogRenderer(log).emit(FAILED)
    line = json.loads(terminal.text())
    assert (line["event"], line["level"], line["result"]) == ("reload", "warning", "failed")
    assert line["advice"] == EXPLANATIONS[Reason.KEY_MISMATCH].advice


def test_a_reload_that_changed_nothing_is_only_seen_at_debug(make: Make) -> None:
    log, terminal = make()
    same = msgspec.structs.replace(FAILED, result=ReloadResult.UNCHANGED, reason=Reason.RELOADED)
    LogRenderer(log).emit(same)
    assert terminal.text() == ""
    log.set_level(LogLevel.DEBUG)
    LogRenderer(log).emit(same)
    assert json.loads(terminal.text())["level"] == "debug"


def test_the_level_changes_for_whoever_holds_the_log(make: Make) -> None:
    log, terminal = make(LogLevel.WARNING)
    renderer = LogRenderer(log)
    renderer.emit(COMPLETED)
    assert terminal.text() == ""
    log.set_level(LogLevel.INFO)
    assert log.level is LogLevel.INFO
    renderer.emit(COMPLETED)
    assert json.loads(terminal.text())["reason"] == "COMPLETED"
    log.set_level(LogLevel.ERROR)
    renderer.emit(msgspec.structs.replace(COMPLETED, reason=Reason.DENIED))
    log.warning("not seen")
    log.error("seen", path="/a/\udc80")
    assert json.loads(terminal.text())["event"] == "seen"


def test_the_console_shows_what_is_known_on_one_line_without_colour(make: Make) -> None:
    log, terminal = make(form=LogFormat.CONSOLE)
    LogRenderer(log).emit(COMPLETED)
    text = terminal.text()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "tls.peer_spiffe_id=spiffe://example.org/ns/shop/sa/cart" in text
    assert "reason=COMPLETED" in text
    assert "detail" not in text


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_the_console_has_colour_on_a_terminal_that_wants_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    for name, value in {"NO_COLOR": "", "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    log, terminal = make(form=LogFormat.CONSOLE, tty=True)
    log.info("listening")
    assert ("\x1b[" in terminal.text()) == coloured


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(alphabet=st.characters(), max_size=200), form=st.sampled_from(LogFormat))
def test_no_peers_text_can_begin_a_line_or_move_a_cursor(make: Make, text: str, form: LogFormat) -> None:
    log, terminal = make(form=form)
    hostile = msgspec.structs.replace(COMPLETED, detail=text, tls=TlsFacts(sni=text))
    LogRenderer(log).emit(hostile)
    written = terminal.text()
    assert written.endswith("\n")
    assert written.count("\n") == 1
    assert not any(letter < " " or letter == "\x9b" for letter in written[:-1])


def test_dropped_lines_are_announced_in_the_same_form(make: Make) -> None:
    log, terminal = make()
    while not log.dropped:
        log.info("x" * 1000)
    os.read(terminal.reader, 1 << 20)
    log.info("again")
    lost, again = map(json.loads, terminal.text().splitlines())
    assert (lost["event"], lost["lines"]) == ("log lines were dropped", 1)
    assert again["event"] == "again"

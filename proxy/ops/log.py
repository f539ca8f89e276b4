"""
The log: one line per connection, one per reload, and the few words of the program itself.

`Log` is what the rest of the program says its own sentences to; `LogRenderer` turns the facts of a connection into
lines of it. Both stand on structlog without its global configuration: a logger is a value that is passed on. Lines go
to stderr as JSON (msgspec) or, for people, as structlog's console form; ops/linewriter.py keeps a stalled reader from
stalling the proxy.

This is on the path of every connection, so there are two processors and no more, and a line below the level costs one
comparison. Peers choose some of what is logged (server names, what a certificate says): JSON escapes it, and in the
console form everything unprintable is escaped before it can move a cursor or begin a line.
"""

import logging
import os
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from proxy.core.config import LogFormat, LogLevel
from proxy.core.events import Closed, Event, Reloaded, ReloadResult, Saturated
from proxy.core.reasons import EXPLANATIONS, Kind
from proxy.ops.linewriter import LineWriter
from proxy.ops.printable import printable, printable_json, wants_colour

_SEVERITY = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

# Only refusals carry an advice: what ended well needs none, and the line stays short.
_ADVICE = {reason: word.advice for reason, word in EXPLANATIONS.items() if word.kind is Kind.REJECTED}

_Render = Callable[[Any, str, MutableMapping[str, Any]], bytes]


class Stream(Protocol):
    """What stderr is to the log: a descriptor, and whether a person looks at it."""

    def fileno(self) -> int:
        """The open descriptor."""
        ...

    def isatty(self) -> bool:
        """Whether colour would be seen as colour."""
        ...


class Log:
    """
    The one place where lines are made; the level can change while it is in use.

    Fields are keyword arguments; what is neither text nor a number is written as its `str`.
    """

    def __init__(self, level: LogLevel, writer: LineWriter, render: _Render, fixed: Mapping[str, object]) -> None:
        self._writer = writer
        self._render = render
        self._fixed = fixed
        self.set_level(level)

    @property
    def level(self) -> LogLevel:
        """The least severity that is written."""
        return self._level

    @property
    def dropped(self) -> int:
        """How many lines were lost because stderr did not take them at once."""
        return self._writer.dropped

    def set_level(self, level: LogLevel) -> None:
        """Write from this severity on, from the next line on (PUT /log-level, a reloaded configuration)."""
        self._level, self._severity = level, _SEVERITY[level]
        self._logger = structlog.wrap_logger(
            _Lines(self._writer),
            processors=[self._render],
            wrapper_class=structlog.make_filtering_bound_logger(_SEVERITY[level]),
            context_class=dict,
            cache_logger_on_first_use=True,
        ).bind(**self._fixed)

    def writes(self, level: LogLevel) -> bool:
        """Whether a line of this severity would be written: asked before building a costly one."""
        return _SEVERITY[level] >= self._severity

    def write(self, level: LogLevel, event: str, fields: dict[str, object]) -> None:
        """
        Write a line, whatever the level: straight to the renderer at which structlog would arrive.

        For the line of every connection, whose fields are a dict of their own already; who calls has asked `writes`.
        """
        self._writer.write(self._render(None, level, {"event": event, **self._fixed, **fields}))

    def debug(self, event: str, **fields: object) -> None:
        """Say what only a developer needs."""
        self._logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Say what went as it should."""
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what an operator should look at."""
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what does not work."""
        self._logger.error(event, **fields)

    def bug(self, error: BaseException) -> None:
        """Say that an exception of ours came up: where it happened, without any data of a connection."""
        trace = traceback.walk_tb(error.__traceback__)
        places = [f"{os.path.basename(frame.f_code.co_filename)}:{line}" for frame, line in trace]
        self.error("internal error", fault=type(error).__name__, detail=str(error), at=" ".join(places[-4:]))

    def close(self) -> None:
        """Give the descriptor back; later lines count as dropped."""
        self._writer.close()


class LogRenderer:
    """The observer that writes the `connection` and `reload` lines; other facts only count (ops/metrics.py)."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.handlers: dict[type, Callable[[Any], None]] = {
            Closed: self._connection,
            Reloaded: self._reload,
            Saturated: self._saturated,
        }

    def emit(self, event: Event) -> None:
        """Take one fact; never raises, never waits."""
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _connection(self, closed: Closed) -> None:
        advice = _ADVICE.get(closed.reason)
        level = LogLevel.INFO if advice is None else LogLevel.WARNING
        if not self._log.writes(level):
            return  # most lines, where the level is above info: nothing is built for them
        fields: dict[str, object] = {
            "start_time": datetime.fromtimestamp(closed.start_time, UTC),
            "duration_s": round(closed.duration_s, 6),
            "direction": closed.listener.direction,
            "listener": closed.listener.name,
            "downstream_remote_address": closed.downstream_remote_address,
            "downstream_local_address": closed.downstream_local_address,
            "upstream_address": closed.upstream_address,
            "bytes_received": closed.bytes_received,
            "bytes_sent": closed.bytes_sent,
            "security": closed.security,
            "reason": closed.reason,
            "detail": closed.detail,
            "tls": closed.tls,
        }
        if advice is not None:
            fields = {"advice": advice, **fields}
        self._log.write(level, "connection", fields)

    def _saturated(self, saturated: Saturated) -> None:
        self._log.warning(
            "saturated",
            direction=saturated.listener.direction,
            listener=saturated.listener.name,
            detail=f"limits.handshakes is reached ({saturated.handshakes}): clients wait in the backlog; "
            f"{saturated.silent} of the places are held by clients that have not begun a handshake",
            advice="If they are real, raise limits.handshakes. If they are silent, lower timeouts.handshake_s or set "
            "limits.handshakes_per_s_per_source, and look at who they are in /connections.",
        )

    def _reload(self, reloaded: Reloaded) -> None:
        fields: dict[str, object] = {
            "what": reloaded.what,
            "result": reloaded.result,
            "reason": reloaded.reason,
            "detail": reloaded.detail,
            "generation": reloaded.generation,
        }
        if reloaded.result is ReloadResult.FAILED:
            self._log.warning("reload", advice=EXPLANATIONS[reloaded.reason].advice, **fields)
        elif reloaded.result is ReloadResult.PUBLISHED:
            self._log.info("reload", **fields)
        else:
            self._log.debug("reload", **fields)  # every poll that found the same bytes


def configure(level: LogLevel, form: LogFormat, stream: Stream, **fixed: object) -> Log:
    """
    Set up the log.

    stream:  where lines go, usually sys.stderr; its own buffer is passed by, so flush what was printed there before
    fixed:   fields of every line, e.g. which worker it is from
    Returns: the Log to hand on
    Raises:  OSError where the stream has no open descriptor
    """
    render = _json if form is LogFormat.JSON else _Console(colours=wants_colour(stream))
    writer = LineWriter(stream.fileno(), lambda lines: render(None, "warning", _lost(lines)))
    return Log(level, writer, render, fixed)


class _Lines:
    """The logger beneath structlog's: takes what the renderer made."""

    def __init__(self, writer: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = writer.write


def _lost(lines: int) -> dict[str, Any]:
    return {
        "event": "log lines were dropped",
        "lines": lines,
        "advice": "Whatever reads stderr of the proxy is too slow.",
    }


_encoder = msgspec.json.Encoder(enc_hook=str)


def _json(_logger: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
    """Render one object: time, level and event first, as a person reads it."""
    line = {"timestamp": datetime.now(UTC), "level": level, "event": fields.pop("event"), **fields}
    try:
        text = _encoder.encode(line)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        # A lone surrogate (a path that is not UTF-8) or a number beyond 64 bits must not cost the line.
        text = _encoder.encode({key: printable(str(value)) for key, value in line.items()})
    return printable_json(text) + b"\n"


class _Console:
    """Render a line for a person: structlog's console form, colour on a terminal only, `tls` flattened."""

    def __init__(self, *, colours: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False, pad_event_to=0)

    def __call__(self, logger: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
        line: dict[str, Any] = {
            "timestamp": _rfc3339(datetime.now(UTC)),
            "level": level,
            "event": printable(str(fields.pop("event"))),
        }
        for key, value in fields.items():
            inner = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else None
            if inner is None:
                _put(line, key, value)
            else:
                for name, part in inner.items():
                    _put(line, f"{key}.{name}", part)
        return self._render(logger, level, line).encode("utf-8", "backslashreplace") + b"\n"


def _put(line: dict[str, Any], key: str, value: object) -> None:
    """Add a value that is known; numbers stay numbers, everything else becomes printable text."""
    if value is None or value == "":
        return
    if isinstance(value, datetime):
        line[key] = _rfc3339(value)
    else:
        line[key] = value if isinstance(value, int | float) else printable(str(value))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

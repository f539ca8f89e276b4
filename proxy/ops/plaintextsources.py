"""
Logs, /metrics and /connections of sidecars, read as evidence about plaintext (core/plaintext.py).

A log comes as `kubectl logs` or a container runtime gives it: with a prefix or a time before the line's own JSON, in
the wrapping of Docker's json-file, with lines of other programs in between. Whatever is no line of ours is counted and
skipped; it never ends the reading. No line is longer than MAX_LINE_BYTES here, because ours are not.
"""

import math
import re
from collections.abc import Iterable
from datetime import datetime

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.events import Direction, Security
from proxy.core.plaintext import NO_MODE, Evidence, Kind, Listener, Sidecar, Speaks
from proxy.core.reasons import Reason
from proxy.ops.metricfamilies import PREFIX

MAX_LINE_BYTES = 64 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024  # of /metrics or /connections; a sidecar with 10 000 open connections has 5 MiB

_POD = re.compile(rb"\[pod/([^/\]\s]{1,253})/")  # kubectl logs --prefix
_COMPOSE = re.compile(rb"^([\w.-]{1,253})\s+\| ")  # docker compose logs
_LEVEL_RAISED = re.compile(r"^log level \w+ -> (?:warning|error)\b")
_SPEAKS = {Security.PLAINTEXT.value: Speaks.PLAINTEXT, Security.APP_TLS.value: Speaks.APP_TLS}


class _Line(msgspec.Struct):
    """What of a line of our log matters here; other keys are skipped without being read."""

    timestamp: datetime
    level: str
    event: str
    direction: str | None = None
    listener: str | None = None
    address: str | None = None
    start_time: datetime | None = None
    duration_s: float = 0.0
    downstream_remote_address: str = ""
    downstream_local_address: str = ""
    security: str | None = None
    reason: str | None = None
    detail: str | None = None
    lines: int = 0


class _Docker(msgspec.Struct):
    """A line of Docker's json-file driver."""

    log: str


class _Open(msgspec.Struct):
    """One object of /connections."""

    direction: str
    listener: str
    phase: str
    start_time: datetime
    downstream_remote_address: str
    downstream_local_address: str
    security: str | None = None


class LogCount(msgspec.Struct):
    """How many lines there were, and how many of them were not a sidecar's."""

    lines: int = 0
    skipped: int = 0


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_docker = msgspec.json.Decoder(_Docker).decode
_decode_open = msgspec.json.Decoder(list[_Open]).decode


def read_log(lines: Iterable[bytes], source: str, evidence: Evidence, count: LogCount) -> None:
    """
    Take a log as evidence.

    lines:  each at most MAX_LINE_BYTES + 1 bytes; what is longer is cut by the caller, and skipped here
    source: the sidecar's name where the lines do not say which Pod or container they are from
    count:  is kept up to date while lines are read
    """
    for raw in lines:
        count.lines += 1
        begin = raw.find(b"{")
        line = _parse(raw[begin:]) if begin >= 0 and len(raw) <= MAX_LINE_BYTES else None
        if line is None:
            count.skipped += 1
        else:
            _take_line(line, evidence.sidecar(Kind.LOG, _name(raw[:begin]) or source), evidence)


def read_metrics(text: str, source: str, at: float, evidence: Evidence) -> None:
    """
    Take the body of /metrics, scraped at this moment, as evidence; or that of Prometheus' /federate.

    Raises: ValueError where it is no exposition of a sidecar's metrics
    """
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    ours = [(one.name.removeprefix(PREFIX), one.labels, one.value) for one in samples if one.name.startswith(PREFIX)]
    if not ours:
        raise ValueError(f"it has no metric whose name begins with {PREFIX}")
    for name, labels, value in ours:
        if not math.isfinite(value):
            continue
        # Prometheus' /federate has many sidecars in one body, told apart by the labels that it has given them.
        sidecar = evidence.sidecar(Kind.METRICS, labels.get("pod") or labels.get("instance") or source)
        sidecar.saw(at)  # one that does not say since when it serves has covered no time
        if name == "serving_since_timestamp_seconds" and 0 < value < at:
            sidecar.saw(value)
        if labels.get("direction") == Direction.INBOUND and "listener" in labels:
            _take_sample(name, labels, value, evidence.listener(labels["listener"], sidecar))


def read_connections(body: bytes, source: str, at: float, evidence: Evidence) -> None:
    """
    Take the body of /connections as evidence: who has plaintext open at this moment.

    Raises: ValueError where it is not that
    """
    try:
        connections = _decode_open(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is not what /connections shows: {error}") from None
    sidecar = evidence.sidecar(Kind.METRICS, source)
    sidecar.saw(at)
    for one in connections:
        speaks = _SPEAKS.get(one.security or "")
        if one.direction == Direction.INBOUND and speaks is not None:
            listener = evidence.listener(one.listener, sidecar)
            port = _port(one.downstream_local_address)
            begun = one.start_time.timestamp()
            evidence.add_client(listener, one.downstream_remote_address, port, speaks, begun, at, is_open=True)


def _parse(text: bytes) -> _Line | None:
    try:
        return _decode_line(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return _decode_line(_decode_docker(text).log.encode())
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _name(before: bytes) -> str | None:
    found = _POD.search(before) or _COMPOSE.match(before)
    return found.group(1).decode("ascii", "replace") if found else None


def _take_line(line: _Line, sidecar: Sidecar, evidence: Evidence) -> None:
    sidecar.saw(line.timestamp.timestamp())
    if line.level == "info" and sidecar.hides is None:
        sidecar.hides = False
    if line.event == "notice" and _LEVEL_RAISED.match(line.detail or ""):
        sidecar.hides = True
    elif line.event == "log lines were dropped":
        sidecar.dropped += max(0, line.lines)
    if line.direction != Direction.INBOUND or line.listener is None:
        return
    if line.event == "listening" and line.address:
        evidence.listener(line.listener, sidecar).addresses.add(line.address)
    elif line.event == "connection" and line.start_time is not None:
        _take_connection(line, line.start_time.timestamp(), evidence.listener(line.listener, sidecar), evidence)


def _take_connection(line: _Line, begun: float, listener: Listener, evidence: Evidence) -> None:
    if line.level == "info":
        listener.count(listener.relayed, Kind.LOG, line.security or "unknown")
    else:
        listener.count(listener.refused, Kind.LOG, line.reason or "unknown")
    speaks = Speaks.REFUSED if line.reason == Reason.PLAINTEXT_REFUSED else _SPEAKS.get(line.security or "")
    if speaks is not None:
        ended = begun + max(0.0, line.duration_s)
        port = _port(line.downstream_local_address)
        evidence.add_client(listener, line.downstream_remote_address, port, speaks, begun, ended, is_open=False)


def _take_sample(name: str, labels: dict[str, str], value: float, listener: Listener) -> None:
    if name == "connections_total":
        listener.count(listener.relayed, Kind.METRICS, labels.get("security", "unknown"), int(value))
    elif name == "rejected_total" and value:
        listener.count(listener.refused, Kind.METRICS, labels.get("reason", "unknown"), int(value))
    elif name == "plaintext_active":
        listener.open_plaintext += int(value)
    elif name == "last_plaintext_timestamp_seconds":
        listener.last_plaintext = max(listener.last_plaintext, value)
    elif name == "listener_info":
        listener.modes.add(labels.get("mode") or NO_MODE)
        listener.addresses.add(labels.get("listen", ""))


def _port(address: str) -> int | None:
    port = address.rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None


def is_metrics(text: bytes) -> bool:
    """Whether the beginning of a file is an exposition rather than a log."""
    return text.lstrip().startswith((b"# HELP ", b"# TYPE ", b"# EOF", PREFIX.encode()))


def is_connections(text: bytes) -> bool:
    """Whether the beginning of a file is what /connections shows."""
    return text.lstrip().startswith(b"[") and not text.lstrip().startswith(b"[pod/")


def names_of(text: str) -> dict[str, str]:
    """Read "ADDRESS NAME..." lines (as /etc/hosts, or kubectl with custom columns) into address -> name."""
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[0]: " ".join(pair[1].split()) for pair in pairs if len(pair) == 2}

"""
The result document of the laboratory: what a run measured, and everything needed to repeat it, as versioned JSON.

A document has rows; a row is one scenario (what was asked) and its rounds (what happened, once for each repetition).
Rounds hold sums and histograms, never rates or percentiles: sums of many rounds and of many generators can be added
exactly, and every figure is computed from them afterwards (lab/measures.py). What could not be measured is null, which
is not zero.

The reader is strict: an unknown key, a negative count, a histogram that holds other than the counted successes, or two
rows of one scenario are refused with a sentence, for a report that guesses is worse than none. It is bounded too: a
file comes from somewhere else.
"""

import errno
import os
import uuid
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.core.reasons import Reason
from proxy.lab.latencies import MOST_ENCODED, Latencies
from proxy.ops.boundedread import read_bounded

FORMAT = "mtls-sidecar bench result"
SCHEMA = 1  # raised whenever a reader of the version before could misread the file
MOST_BYTES = 64 << 20
MOST_ROWS = 5_000
MOST_ROUNDS = 1_000

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[float, Meta(ge=0)]  # seconds, or a rate
Text = Annotated[str, Meta(max_length=4_096)]
Name = Annotated[str, Meta(max_length=200)]
Setting = str | int | float | bool | None | list[str]

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises for bytes of any kind


class Kind(StrEnum):
    """Which command wrote it."""

    HANDSHAKE = "handshake"
    RELAY = "relay"
    COMPARE = "compare"


class Workload(StrEnum):
    """What one success is: a handshake, a request with its response, a bulk transfer, an open idle connection."""

    HANDSHAKE = "handshake"
    REQUEST = "request"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    IDLE = "idle"


class Security(StrEnum):
    """What is spoken on the measured connection."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    MUTUAL_TLS = "mutual_tls"


class Mode(StrEnum):
    """Full or resumed: resumed as read from the connection, for every counted handshake."""

    FULL = "full"
    RESUMED = "resumed"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Environment(_Strict, frozen=True, kw_only=True):
    """
    Where a generator ran, and every server that it started itself.

    engine, openssl:  of the sidecar here; stdlib_openssl: of Python's own ssl module
    python_optimised: whether Python was optimised by a profile; python_shared: whether it is in a shared library; None:
                      it could not be told, or the file is of before this was asked
    """

    package: Name
    python: Name
    kernel: Name
    machine: Name
    cpu_model: Name
    cpus: Count
    engine: Name
    openssl: Name
    stdlib_openssl: Name
    load_average: Amount
    python_optimised: bool | None = None
    python_shared: bool | None = None


class Certificate(_Strict, frozen=True, kw_only=True):
    """A kind of certificate in use. whose: "server" or "client"; chain_bytes: DER, as sent, without the root."""

    whose: Name
    key: Name
    signature: Name
    chain_length: Count
    chain_bytes: Count


class Scenario(_Strict, frozen=True, kw_only=True):
    """
    What was asked of a row; two rows of a document never have the same.

    side:          who served: "sidecar", the name of a peer, "openssl in memory", or "target"
    version:       "1.2" or "1.3"; key, group, cipher: as the tables name them; None where the server chose
    concurrency:   in flight (closed loop); rate: arrivals a second (open loop); the other one is None
    rtt_s:         what the delay line added to a round trip
    message_bytes: of one request and one response
    chain_length:  certificates that each end sends; 0 where it is not known
    """

    side: Name
    workload: Workload
    security: Security = Security.MUTUAL_TLS
    version: Name | None = None
    key: Name | None = None
    group: Name | None = None
    cipher: Name | None = None
    mode: Mode | None = None
    client_certificate: bool = True
    chain_length: Count = 1
    concurrency: Count | None = None
    rate: Amount | None = None
    rtt_s: Amount = 0.0
    message_bytes: Count | None = None


class Round(_Strict, frozen=True, kw_only=True):
    """
    What happened in one repetition: sums over it, of successes unless said otherwise.

    count:            successes: what the server accepted, seen by a first byte or a ticket
    seconds:          wall time of measuring, warm-up excluded
    server_cpu_s:     of the server's process tree alone, failures' share included; None: could not be read
    client_cpu_s:     of all client processes
    failures:         by Reason; never in latency
    bytes_sent, bytes_received: on the wire, as the client counts them
    payload_bytes:    inside TLS, both ways
    round_trips:      network round trips until the success, summed
    memory_bytes:     what the server's memory grew by while `count` connections were open and idle (Workload.IDLE)
    latency:          Latencies.encode() of exactly `count` latencies; None where none was taken
    client_limited:   whether the client, not the server, was the bottleneck; None: not known
    client_processes: how many generators took part
    """

    count: Count
    seconds: Amount
    server_cpu_s: Amount | None = None
    client_cpu_s: Amount | None = None
    failures: dict[Reason, Count] = {}
    bytes_sent: Count | None = None
    bytes_received: Count | None = None
    payload_bytes: Count | None = None
    round_trips: Count | None = None
    memory_bytes: Count | None = None
    latency: Annotated[str, Meta(max_length=MOST_ENCODED)] | None = None
    client_limited: bool | None = None
    client_processes: Count = 1


class Row(_Strict, frozen=True, kw_only=True):
    """
    One scenario and its rounds.

    negotiated_group, negotiated_cipher: as read from the connections; None where they could not be or differed
    fault: one sentence saying why the row was not measured, or not whole; None if all is well
    """

    scenario: Scenario
    rounds: Annotated[tuple[Round, ...], Meta(max_length=MOST_ROUNDS)] = ()
    negotiated_group: Name | None = None
    negotiated_cipher: Name | None = None
    fault: Text | None = None


class Maximum(_Strict, frozen=True, kw_only=True):
    """What a search for the knee found. slo: as it was asked, e.g. "p99=20ms"; rate: the highest that kept it."""

    scenario: Scenario
    slo: Name
    rate: Amount | None


class Source(_Strict, frozen=True, kw_only=True):
    """One generator of a merged document, as it called itself."""

    run: Name
    started_at: Name
    seed: Count
    environment: Environment


class Result(_Strict, frozen=True, kw_only=True):
    """
    A whole document.

    run:           a name that no other run has, so that none is counted twice
    started_at:    RFC 3339, UTC
    command:       the words to type to have it again
    target:        HOST:PORT that was loaded; None where the command started the servers itself
    sides:         what each side of the rows is, e.g. {"haproxy": "HAProxy 2.6.12"}
    configuration: every option of the run by its name, defaults included
    notes:         sentences that a reader of the figures should know
    merged_from:   one for each generator, where `bench merge` added several up
    """

    format: str = FORMAT
    schema: int = SCHEMA
    kind: Kind
    run: Name = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    started_at: Name
    environment: Environment
    seed: Count
    command: Text
    rows: Annotated[tuple[Row, ...], Meta(max_length=MOST_ROWS)]
    configuration: Annotated[dict[Name, Setting], Meta(max_length=200)] = {}
    certificates: Annotated[tuple[Certificate, ...], Meta(max_length=100)] = ()
    sides: Annotated[dict[Name, Text], Meta(max_length=100)] = {}
    target: Name | None = None
    maxima: Annotated[tuple[Maximum, ...], Meta(max_length=MOST_ROWS)] = ()
    notes: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()
    merged_from: Annotated[tuple[Source, ...], Meta(max_length=10_000)] = ()


class _Header(msgspec.Struct):
    format: str
    schema: int


class BadResult(Exception):  # noqa: N818  # the file's fault, not ours
    """A file is no result document that this version reads; str() is a whole sentence that names the file."""


def encode(result: Result) -> bytes:
    """As indented JSON, proven to be readable: what is written wrong is found where it is written."""
    data = msgspec.json.format(msgspec.json.encode(result)) + b"\n"
    decode(data, "the result")
    return data


def decode(data: bytes, name: str) -> Result:
    """
    Read a document whole.

    name:   how to call it in a complaint, usually the path
    Raises: BadResult
    """
    if len(data) > MOST_BYTES:
        raise BadResult(f"{name} is longer than {MOST_BYTES >> 20} MiB: it is no result of `mtls-sidecar bench`")
    try:
        header = msgspec.json.decode(data, type=_Header)
    except _UNREADABLE as error:
        raise BadResult(f"{name} is no result of `mtls-sidecar bench --json`: {_clause(error)}") from error
    if header.format != FORMAT:
        raise BadResult(f"{name} is no result of `mtls-sidecar bench`: its format is {header.format[:80]!r}")
    if header.schema != SCHEMA:
        raise BadResult(
            f"{name} has version {header.schema} of the result format, and this mtls-sidecar reads version {SCHEMA}: "
            "read it with the version that wrote it, or measure again"
        )
    try:
        result = msgspec.json.decode(data, type=Result)
    except _UNREADABLE as error:
        raise BadResult(f"{name} is damaged: {_clause(error)}") from error
    _check(result, name)
    return result


def read(path: str) -> Result:
    """Read the document of a file; Raises: BadResult."""
    try:
        data = read_bounded(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadResult(f"{path} cannot be read: {why}") from error
    return decode(data, path)


def try_place(path: str) -> None:
    """
    Try with an empty file whether `write` can put a result there: what was measured for an hour is not to be lost.

    Raises: OSError with the path
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not place.exists() or place.is_file():
        aside = _aside(place)
        aside.touch()
        aside.unlink()


def write(path: str, result: Result) -> None:
    """
    Write the document: whole or not at all, by renaming, where the path is a file's or new.

    A device or a pipe (/dev/stdout, /dev/null) is written to as it is: renaming would put a file in its place.

    Raises: OSError with the path
    """
    data = encode(result)
    place = Path(os.path.realpath(path))  # what a symbolic link leads to, so that the link stays one
    if place.exists() and not place.is_file():
        place.write_bytes(data)
        return
    aside = _aside(place)
    try:
        aside.write_bytes(data)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}")


def latencies(round_: Round) -> Latencies | None:
    """The latencies of a round, ready to be added up; None where none were taken."""
    return None if round_.latency is None else Latencies.decode(round_.latency)


def _check(result: Result, name: str) -> None:
    scenarios = Counter(row.scenario for row in result.rows)
    twice = next((at for at, row in enumerate(result.rows) if scenarios[row.scenario] > 1), None)
    if twice is not None:
        raise BadResult(f"{name} is damaged: the scenario of rows[{twice}] is there twice")
    for at, row in enumerate(result.rows):
        for number, round_ in enumerate(row.rounds):
            where = f"{name} is damaged: rows[{at}].rounds[{number}]"
            try:
                held = latencies(round_)
            except ValueError as error:
                raise BadResult(f"{where}.latency: {error}") from error
            if held is not None and held.count != round_.count:
                raise BadResult(f"{where}.latency holds {held.count} latencies of {round_.count} successes")


def _clause(error: Exception) -> str:
    """msgspec's words name the path already; the input is not quoted in them."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)

"""Options that the measuring subcommands of `bench` share, and how their values are read."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from proxy.core.addresses import AddressFault, parse_upstream
from proxy.core.clockwords import rfc3339
from proxy.core.config import TcpAddress
from proxy.lab.results import Setting, try_place
from proxy.ops.cores import usable_cores
from proxy.ops.printable import printable

MOST_SECONDS = 86_400.0
MOST_PROCESSES = 256
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)?")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_RANGE = re.compile(r"([0-9.]+):([0-9.]+):([0-9.]+)")
MOST_RATES = 100


def span_s(text: str) -> float:
    """Read "20ms", "250us", "1.5s", "10m" or plain seconds; up to a day."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time: write 20ms, 1.5s, 10m, 1h, or seconds")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is longer than a day")
    return seconds


def positive_span_s(text: str) -> float:
    """As span_s, and longer than nothing."""
    seconds = span_s(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time at all")
    return seconds


def spans_s(text: str) -> tuple[float, ...]:
    """Read "1ms,20ms,80ms"."""
    return tuple(dict.fromkeys(span_s(part.strip()) for part in text.split(",")))


def rates(text: str) -> tuple[float, ...]:
    """Read arrivals a second: "200", "100,200,400", or FROM:TO:STEP for a ramp in steps."""
    ramp = _RANGE.fullmatch(text)
    try:
        if ramp is not None:
            first, last, step = (float(part) for part in ramp.groups())
            steps = 0 if step <= 0 else int(min((last - first) / step + 1e-9, MOST_RATES) + 1)
            found = [first + step * at for at in range(steps)]
        else:
            found = [float(part) for part in text.split(",")]
    except (ValueError, OverflowError):
        found = []
    if not found or not all(0.01 <= rate <= 1_000_000 for rate in found) or len(found) > MOST_RATES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no rate: write arrivals a second (0.01 to 1000000), e.g. 500, or 100,200,400, or a ramp in "
            f"steps FROM:TO:STEP like 100:1000:100; at most {MOST_RATES} of them"
        )
    return tuple(dict.fromkeys(found))


def whole(least: int, most: int) -> Callable[[str], int]:
    """A type that reads a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return read


def processes(text: str) -> int:
    """How many generator processes; "auto": one for each core that the server does not have."""
    return max(1, min(8, usable_cores() - 1)) if text == "auto" else whole(1, MOST_PROCESSES)(text)


def tcp_address(text: str) -> tuple[str, int]:
    """Read HOST:PORT or [v6]:PORT."""
    try:
        address = parse_upstream(text)
    except AddressFault as fault:
        raise argparse.ArgumentTypeError(f"{text!r}: {fault}") from None
    if not isinstance(address, TcpAddress):
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT")
    return address.host, address.port


def add_measuring(
    parser: argparse.ArgumentParser, *, rounds: int, seconds: float, is_by_generators: bool = True
) -> None:
    """
    Declare what every measuring subcommand has: rounds, seconds, seed, --json; and --processes.

    is_by_generators: whether there is use for more than one process that makes handshakes
    """
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--rounds",
        type=whole(1, 1000),
        default=rounds,
        metavar="N",
        help=f"interleaved repetitions; a figure is their median (default {rounds}; 6 and more give 95 %% intervals)",
    )
    group.add_argument(
        "--seconds",
        type=positive_span_s,
        default=seconds,
        metavar="S",
        help=f"how long each measurement lasts (default {seconds:g})",
    )
    if is_by_generators:
        group.add_argument(
            "--processes",
            type=processes,
            default=processes("auto"),
            metavar="N",
            help="generator processes, or auto (default): one for each core that the server does not have",
        )
    else:
        parser.set_defaults(processes=1)
    group.add_argument("--seed", type=whole(0, 999_999_999), default=1, metavar="N", help="of orders and arrivals")
    group.add_argument("--json", metavar="FILE", help="write every number, for `bench report` and `bench merge`")


def can_write(program: str, file: str | None) -> bool:
    """Whether --json can be written, tried before anything is measured; says why not."""
    if file is None:
        return True
    try:
        try_place(file)
    except OSError as error:
        return not_written(program, file, error)
    return True


def not_written(program: str, file: str, error: OSError) -> bool:
    """Say why a result is not in its file; returns False."""
    print(f"{program}: {printable(file)} cannot be written: {error.strerror or error}", file=sys.stderr)
    return False


def configuration(args: argparse.Namespace, leave_out: Sequence[str] = ()) -> dict[str, Setting]:
    """Every option of a run by its name, for the result; secrets are never among them, only paths."""
    hidden = {"command", "subcommand", "run_subcommand", "print_help", "json", *leave_out}
    return {name: _setting(value) for name, value in sorted(vars(args).items()) if name not in hidden}


def typed_command(words: Sequence[str]) -> str:
    """
    What was typed, for the result: with it the run can be had again.

    words: of the command line, without the program. Where --json lay is no part of a result that others read.
    """
    said, is_file = ["mtls-sidecar"], False
    for word in words:
        option, equals, file = word.partition("=")
        if is_file:
            said.append(Path(word).name)
        elif option == "--json" and equals:
            said.append(f"{option}={Path(file).name}")
        else:
            said.append(word)
        is_file = word == "--json"
    return shlex.join(said)[:4096]


def now_text() -> str:
    """The instant as results spell it."""
    return rfc3339(datetime.now(UTC).timestamp())


def _setting(value: object) -> Setting:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    return str(value)

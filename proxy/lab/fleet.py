"""
Many generators as one: who is which share of the load, and the instant at which all of them begin.

They need no service to agree, only the folder that their results go to. Each leaves a file there that says it is ready;
the first of them, once all are, writes down an instant that lies ahead; all of them wait for that instant on their own
clock. So clocks have to agree (NTP: milliseconds), and a network file system may take its time to show a new file, as
long as that is less than the lead. What is not as it should be ends the run with a sentence: a generator that is
missing, a folder that an earlier run has used, an instant that was seen too late. A fleet that is not whole measures
nothing.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from proxy.core.clockwords import rfc3339
from proxy.lab.plan import OpenLoop, Plan
from proxy.ops.boundedread import read_bounded

MOST_GENERATORS = 10_000
LEAD_S = 75.0  # NFS, as it is mounted by default, shows a new file after up to a minute

_LOOK_S = 0.2
_START = "start"
_MOST_BYTES = 64


class FleetFault(Exception):  # noqa: N818  # a finding about the fleet, not a bug
    """The generators cannot begin together; str() is a sentence that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is, in seconds since 1970, and how to wait; a test has its own."""

    now: Callable[[], float] = lambda: datetime.now(UTC).timestamp()
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Fleet:
    """Which of how many generators this one is: index from 0, below size."""

    index: int = 0
    size: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.size}"

    def widen(self, plan: Plan, processes: int) -> tuple[Plan, int, int]:
        """
        The plan of the whole fleet, and this generator's part of it: its first share, and how many shares there are.

        Arrivals of an open loop are one sequence for the fleet, of which each process begins every so-manieth: so they
        are spread as if one generator had begun them all. In a closed loop every generator has its own clients.
        """
        if self.size == 1 or not isinstance(plan.pace, OpenLoop):
            return plan, 0, processes
        pace = msgspec.structs.replace(plan.pace, rate=plan.pace.rate * self.size)
        whole = msgspec.structs.replace(plan, pace=pace, max_open=plan.max_open * self.size)
        return whole, self.index * processes, self.size * processes


def meet(folder: Path, fleet: Fleet, *, within_s: float, lead_s: float = LEAD_S, clock: Clock | None = None) -> float:
    """
    Wait for the whole fleet in a folder that all of it can write to.

    within_s: how long the others may take to come
    lead_s:   from the last one's coming to the instant
    Returns:  the instant, in seconds since 1970, which lies ahead
    Raises:   FleetFault
    """
    clock = clock or Clock()
    deadline = clock.now() + within_s
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sign_in(folder, fleet)
        if fleet.index == 0:
            _wait_for(folder, {_ready(index) for index in range(fleet.size)}, deadline, clock)
            _publish(folder, clock.now() + lead_s)
        _wait_for(folder, {_START}, deadline + lead_s, clock)
        instant = parse_instant(read_bounded(str(folder / _START), _MOST_BYTES).decode("ascii", "replace").strip())
    except OSError as error:
        raise FleetFault(f"{error.filename or folder} cannot be used to meet in: {error.strerror}") from error
    if instant <= clock.now():
        late_s = clock.now() - instant
        raise FleetFault(
            f"the start in {folder} was seen {late_s:.0f} s too late: the file system shows new files slowly, or the "
            "clocks differ. Raise --meet-lead"
        )
    return instant


def parse_instant(text: str) -> float:
    """Read RFC 3339 with its zone, e.g. "2026-11-24T15:00:00Z", as seconds since 1970; Raises: FleetFault."""
    try:
        instant = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise FleetFault(f"{text[:40]!r} is no instant: write it as 2026-11-24T15:00:00Z")
    return instant.timestamp()


def _ready(index: int) -> str:
    return f"generator-{index}.ready"


def _sign_in(folder: Path, fleet: Fleet) -> None:
    path = folder / _ready(fleet.index)
    try:
        path.open("x").close()
    except FileExistsError:
        raise FleetFault(
            f"{path} is there already: a run met in this folder before, or another generator has the number "
            f"{fleet.index}. Name a folder that is new"
        ) from None


def _publish(folder: Path, instant: float) -> None:
    """Whole or not at all: who sees the file sees all of it."""
    aside = folder / f".{_START}.{os.getpid()}"
    aside.write_text(rfc3339(instant), encoding="ascii")
    aside.replace(folder / _START)


def _wait_for(folder: Path, names: set[str], deadline: float, clock: Clock) -> None:
    while missing := names - set(os.listdir(folder)):
        if clock.now() >= deadline:
            few = ", ".join(sorted(missing)[:5])
            raise FleetFault(
                f"not all generators came to {folder} in time; {len(missing)} missing: {few}. "
                "Do all of them run, with the same folder and size?"
            )
        clock.sleep(_LOOK_S)

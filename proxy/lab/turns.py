"""
When each measurement of a run begins, so that every generator of a fleet measures the same at the same time.

A run is a row of turns of equal length, counted from one instant: warm-up, a rest that takes up what one generator
needs longer than another, the measurement, and as much rest again. A turn that a generator cannot begin in time is not
measured late: that row has a fault, and the next turn is in step again.
"""

from dataclasses import dataclass, field

from proxy.lab.fleet import Clock
from proxy.lab.generator import LoadFault

SLACK_S = 3.0
_LATE_S = 0.5  # more than this, and a measurement would not be the same one as the others'


@dataclass(frozen=True, slots=True)
class Turns:
    """
    The timetable.

    start_at: in seconds since 1970; slack_s: the rest before and after a measurement
    """

    start_at: float
    warm_up_s: float
    seconds: float
    slack_s: float = SLACK_S
    clock: Clock = field(default_factory=Clock)

    @property
    def length_s(self) -> float:
        """Of one turn."""
        return self.warm_up_s + self.seconds + 2 * self.slack_s

    def prepare(self, turn: int) -> None:
        """Wait for a turn, counted from 0. Raises: LoadFault when it has begun without us"""
        self._wait(self.start_at + turn * self.length_s)

    def measure(self, turn: int) -> None:
        """Wait for the measurement of a turn. Raises: LoadFault"""
        self._wait(self.start_at + turn * self.length_s + self.warm_up_s + self.slack_s)

    def _wait(self, until: float) -> None:
        ahead_s = until - self.clock.now()
        if ahead_s < -_LATE_S:
            raise LoadFault(
                f"this generator was {-ahead_s:.1f} s late for its turn, and the others measured without it: "
                "raise --slack, or give it more CPU"
            )
        if ahead_s > 0:
            self.clock.sleep(ahead_s)

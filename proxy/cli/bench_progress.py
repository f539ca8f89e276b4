"""A progress bar in time: how far a run of known length is, and how long it still takes. On a terminal only."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

_FORMAT = "{desc} {percentage:3.0f}%|{bar}|"


class Progress:
    """
    A bar on stderr that moves also within a step.

    step_s: how long one step takes as planned; steps: how many there are, None where nobody knows
    """

    def __init__(self, what: str, *, steps: int | None, step_s: float) -> None:
        self._what = what
        self._step_s = step_s
        self._steps = steps
        self._done = 0
        self._began = self._step_began = time.monotonic()
        total = None if steps is None else steps * step_s
        form = _FORMAT if steps is not None else "{desc}"
        self._bar = tqdm(total=total, desc=what, bar_format=form, file=sys.stderr, disable=None, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def tick(self) -> None:
        """Time has passed; never more than the step that is under way."""
        within = min(time.monotonic() - self._step_began, self._step_s)
        self._show(self._done * self._step_s + within)

    def step(self, what: str = "") -> None:
        """A step is done; `what` says which is next, where the steps have names."""
        self._done += 1
        self._step_began = time.monotonic()
        self._show(self._done * self._step_s, what)

    def _show(self, at: float, what: str = "") -> None:
        if self._bar.disable:
            return
        self._bar.n = at
        if self._steps is not None:
            self._bar.set_description_str(f"{self._what}, {self._left(at):.0f} s left", refresh=False)
        elif what:
            self._bar.set_description_str(f"{self._what}: {what}", refresh=False)
        self._bar.refresh()

    def _left(self, at: float) -> float:
        """By the pace so far, once there is one."""
        planned = (self._steps or 0) * self._step_s - at
        elapsed = time.monotonic() - self._began
        return planned * max(1.0, elapsed / at) if at > 0 else planned

"""
What the demo has shown so far: steps, each a claim that held or did not, told to a person as they come or as one JSON.
"""

import json
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TextIO

from proxy.cli.terminal import Colour, paint
from proxy.ops.printable import printable

_WIDTH = 118
_MARGIN = 4
_LABEL = 14
_UNICODE_MARKS = ("✓", "✗")
_ASCII_MARKS = ("ok", "!!")


@dataclass(frozen=True, slots=True)
class Step:
    """
    One thing that was to be shown.

    differed: what was seen instead; empty when it held
    facts:    what it was seen by, label -> words
    """

    act: str
    claim: str
    held: bool
    differed: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class Report:
    """Collects the steps; `as_json` keeps quiet until `finish`."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self.steps: list[Step] = []
        self._stream = stream or sys.stdout
        self._as_json = as_json
        self._act = ""
        self._began = time.monotonic()
        self._marks = _UNICODE_MARKS if _can_write(self._stream, "".join(_UNICODE_MARKS)) else _ASCII_MARKS

    @property
    def all_held(self) -> bool:
        """Whether there were steps, and none differed."""
        return bool(self.steps) and all(step.held for step in self.steps)

    def say(self, text: str) -> None:
        """Tell a person something that is no step."""
        if not self._as_json:
            print(text, file=self._stream, flush=True)

    def begin(self, act: str) -> None:
        """The steps that follow belong to this act."""
        self._act = act
        self.say("\n" + paint(act, Colour.STRONG, self._stream))

    def show(
        self, claim: str, held: bool = True, *, differed: str = "", facts: Mapping[str, str] | None = None
    ) -> None:
        """Add a step. differed: said where it did not hold."""
        step = Step(self._act, claim, held, "" if held else differed or "it did not", dict(facts or {}))
        self.steps.append(step)
        if self._as_json:
            return
        mark = (
            paint(self._marks[0], Colour.GOOD, self._stream)
            if held
            else paint(self._marks[1], Colour.BAD, self._stream)
        )
        print(f"  {mark} {self._fold(claim, ' ' * _MARGIN)}", file=self._stream)
        if not held:
            self._print_fact("but", step.differed)
        for label, words in step.facts.items():
            self._print_fact(label, words)
        self._stream.flush()

    def finish(self, kept: str | None) -> None:
        """The last words. kept: the folder that stays."""
        seconds = time.monotonic() - self._began
        failed = [step for step in self.steps if not step.held]
        if self._as_json:
            steps = [asdict(step) for step in self.steps]
            document = {"held": self.all_held, "seconds": round(seconds, 3), "kept": kept, "steps": steps}
            print(json.dumps(document, indent=2), file=self._stream)
            return
        if kept is not None:
            self.say(f"\nConfigurations, certificates and logs are in {kept}")
        if self.all_held:
            verdict = paint(f"All {len(self.steps)} steps held", Colour.GOOD, self._stream)
        else:
            verdict = paint(f"{len(failed)} of {len(self.steps)} steps did not hold", Colour.BAD, self._stream)
        self.say(f"\n{verdict}, in {seconds:.1f} s.")
        for step in failed:
            self.say(f"  {self._marks[1]} {printable(step.claim)}: {printable(step.differed)}")

    def _print_fact(self, label: str, words: str) -> None:
        indent = " " * (_MARGIN + 2)
        print(f"{indent}{label:<{_LABEL}}{self._fold(words, indent + ' ' * _LABEL)}", file=self._stream)

    def _fold(self, text: str, indent: str) -> str:
        # What a log line says may come from a peer: it must not move the cursor of the terminal that shows it.
        lines = textwrap.wrap(printable(text), _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
        return f"\n{indent}".join(lines) or "-"


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

"""
What is measured and what the project promises about it: pure values, no process, no clock.

A measure gives one number a round; the median over the rounds is the figure. A target is a bound on the product's
figure: a factor of a yardstick's figure from the same run, or an absolute number.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

SLACK = 1.15  # --check lets a target be missed by 15 % before it fails: shared machines are noisy
OPENSSL_3_5 = (3, 5)


class Kind(StrEnum):
    """Which job of the load makes the number."""

    FULL = "full"
    RESUMED = "resumed"
    REQUESTS = "requests"
    UPLOAD = "upload"
    DOWNLOAD = "download"


class Verdict(StrEnum):
    """What a target says about a figure."""

    PASS = "PASS"
    MISS = "MISS"
    NONE = "-"  # nothing to judge: no target, or a figure is missing


@dataclass(frozen=True, slots=True)
class Measure:
    """One row. unit: what one number is; tls: the version that the client offers."""

    key: str
    title: str
    unit: str
    kind: Kind
    tls: str


MEASURES = (
    Measure("full_1_3", "full handshake TLS 1.3", "us/conn", Kind.FULL, "1.3"),
    Measure("full_1_2", "full handshake TLS 1.2", "us/conn", Kind.FULL, "1.2"),
    Measure("resumed_1_3", "resumed handshake TLS 1.3", "us/conn", Kind.RESUMED, "1.3"),
    Measure("resumed_1_2", "resumed handshake TLS 1.2", "us/conn", Kind.RESUMED, "1.2"),
    Measure("requests", "1 KiB request/response, 64 conns", "us/request", Kind.REQUESTS, "1.3"),
    Measure("upload", "bulk client -> server", "ms/GB", Kind.UPLOAD, "1.3"),
    Measure("download", "bulk server -> client", "ms/GB", Kind.DOWNLOAD, "1.3"),
)

MEMORY_TITLES = {
    "start_s": "start to ready, s",
    "idle_mib": "idle PSS, MiB",
    "idle_rss_mib": "idle RSS, MiB",
    "connection_kib": "KiB per idle connection at 1,000",
    "second_wave_kib": "second wave of 1,000 adds, KiB per connection",
    "kept_share": "kept after both waves closed, share of the growth",
}


@dataclass(frozen=True, slots=True)
class Target:
    """An upper bound. yardstick: whose figure the bound is a factor of, or None for an absolute bound."""

    yardstick: str | None
    bound: float

    def limit(self, figures: Mapping[str, float]) -> float | None:
        """The bound as a number in the row's unit; None where the yardstick was not measured."""
        if self.yardstick is None:
            return self.bound
        return figures[self.yardstick] * self.bound if self.yardstick in figures else None

    def __str__(self) -> str:
        return f"<= {self.bound:g}" if self.yardstick is None else f"<= {self.bound:g}x {self.yardstick}"


def targets(stdlib_openssl: tuple[int, ...]) -> dict[str, tuple[Target, ...]]:
    """
    The promises, by measure.

    stdlib_openssl: ssl.OPENSSL_VERSION_INFO of the Python that runs the ordinary way. From 3.5 on OpenSSL is itself
    much faster at handshakes than 3.0, so less is left to gain over it.
    """
    ordinary = 0.85 if stdlib_openssl >= OPENSSL_3_5 else 0.65
    full = (Target("bare", 1.2), Target("ordinary", ordinary))
    resumed = (Target("bare", 1.3),)
    bulk = (Target("bare", 1.1),)
    return {
        "full_1_3": full,
        "full_1_2": full,
        "resumed_1_3": resumed,
        "resumed_1_2": resumed,
        "requests": (Target("bare", 1.15),),
        "upload": bulk,
        "download": bulk,
        "start_s": (Target(None, 1.0),),
        "idle_mib": (Target(None, 45.0),),
        "connection_kib": (Target(None, 38.0),),
        "second_wave_kib": (
            Target(None, 2.0),
        ),  # "adds nothing": a bare engine's heap differs by this much from run to run
        "kept_share": (Target(None, 0.5),),  # "most of it goes back to the system"
    }


def medians(rounds: Mapping[str, Iterable[float]]) -> dict[str, float]:
    """Figure by side; a side without a number has none."""
    return {side: statistics.median(values) for side, numbers in rounds.items() if (values := list(numbers))}


def spread(numbers: Iterable[float]) -> float:
    """Half the distance between the lowest and the highest round, as a share of the median; 0 for fewer than two."""
    values = list(numbers)
    middle = statistics.median(values) if values else 0.0
    return (max(values) - min(values)) / 2 / middle if len(values) > 1 and middle else 0.0


def judge(bounds: Iterable[Target], figures: Mapping[str, float], side: str, slack: float = 1.0) -> Verdict:
    """PASS only if every bound is kept and could be judged. slack: factor by which each bound may be exceeded."""
    limits = [bound.limit(figures) for bound in bounds]
    if not limits or side not in figures or None in limits:
        return Verdict.NONE
    kept = all(limit is not None and figures[side] <= limit * slack for limit in limits)
    return Verdict.PASS if kept else Verdict.MISS

"""
Figures and scenarios in words for people, the same on a terminal, in Markdown, in HTML and beside a plot.

Three significant digits are more than the noise of a shared machine leaves. What is not known is a dash, never a zero.
"""

from collections.abc import Iterable, Sequence

from proxy.lab.measures import Unit
from proxy.lab.results import Environment, Row, Scenario, Security
from proxy.lab.stats import Estimate
from proxy.ops.printable import printable

UNKNOWN = "–"

_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    Unit.SECONDS: ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    Unit.BYTES: ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    Unit.BYTES_PER_SECOND: ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")),
    Unit.PER_SECOND: ((1.0, "/s"),),
    Unit.SHARE: ((0.01, "%"),),
    Unit.NUMBER: ((1.0, ""),),
}
_SECURITY = {Security.PLAINTEXT: "plaintext", Security.TLS: "TLS", Security.MUTUAL_TLS: "mutual TLS"}
_ALWAYS = ("version", "mode")  # what a row is called by even where all rows share it


def scale(value: float, unit: Unit) -> tuple[float, str]:
    """The factor and the name of the unit in which a value is best read."""
    steps = _SCALES[unit]
    return next((step for step in steps if abs(value) >= step[0]), steps[-1])


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 9.995 else f"{value:.3g}" if value else "0"


def amount(value: float | None, unit: Unit) -> str:
    """A figure with its unit, e.g. "742 µs"; a dash where there is none."""
    if value is None:
        return UNKNOWN
    factor, name = scale(value, unit)
    separator = "" if name in ("", "/s") else " "
    return f"{number(value / factor)}{separator}{name}"


def spread(estimate: Estimate | None) -> str:
    """The interval as "±4 %"; nothing where a single round has none."""
    if estimate is None or not estimate.coverage:
        return ""
    percent = estimate.relative * 100
    if percent < 0.05:
        return ""  # a count that is the same in every round
    return f"±{percent:.0f} %" if percent >= 9.95 else f"±{percent:.1f} %"


def change(factor: float) -> str:
    """A ratio as a change: 1.25 is "+25 %"."""
    percent = (factor - 1) * 100
    if abs(percent) < 0.05:
        return "±0 %"
    return f"{percent:+.0f} %" if abs(percent) >= 9.95 else f"{percent:+.1f} %"


def python_words(environment: Environment) -> str:
    """How Python was built, as far as that could be told."""
    answers = {True: "yes", False: "no", None: "unknown"}
    optimised, shared = answers[environment.python_optimised], answers[environment.python_shared]
    return f"profile-guided optimisation: {optimised}; shared library (libpython): {shared}"


def aspects(scenario: Scenario) -> dict[str, str]:
    """
    Every aspect of a scenario that has something to say, by its field, in the order in which a row is called by them.

    What goes without saying is left out: a client certificate in mutual TLS and none without it, a chain of one.
    """
    named = {
        "side": scenario.side,
        "workload": scenario.workload.value,
        "security": _SECURITY[scenario.security],
        "version": f"TLS {scenario.version}" if scenario.version else "",
        "key": scenario.key or "",
        "mode": scenario.mode.value if scenario.mode else "",
        "group": scenario.group or "",
        "cipher": scenario.cipher or "",
        "client_certificate": "no client certificate" if _lacks_certificate(scenario) else "",
        "chain_length": {0: "chain not known", 1: ""}.get(scenario.chain_length, f"chain of {scenario.chain_length}"),
        "rtt_s": f"RTT +{amount(scenario.rtt_s, Unit.SECONDS)}" if scenario.rtt_s else "RTT +0",
        "concurrency": "" if scenario.concurrency is None else f"{scenario.concurrency:,} in flight",
        "rate": "" if scenario.rate is None else f"{number(scenario.rate)}/s offered",
        "message_bytes": "" if scenario.message_bytes is None else amount(scenario.message_bytes, Unit.BYTES),
    }
    return {field: printable(word) for field, word in named.items() if word}


def _lacks_certificate(scenario: Scenario) -> bool:
    return scenario.security is Security.MUTUAL_TLS and not scenario.client_certificate


def labels(scenarios: Sequence[Scenario], without: Iterable[str] = ()) -> list[str]:
    """
    A short name for each, of the aspects that tell them apart. Different scenarios get different names.

    without: aspects that need not be told apart, because the sentence around has them
    """
    hidden = set(without)
    named = [{f: word for f, word in aspects(scenario).items() if f not in hidden} for scenario in scenarios]
    fields = list(dict.fromkeys(field for names in named for field in names))
    telling: list[str] = []
    for field in fields:
        # What follows from the aspects before it (no client certificate, where it is TLS and not mutual TLS) adds none.
        always = field in _ALWAYS and "security" not in telling
        if always or _distinct(named, [*telling, field]) > _distinct(named, telling):
            telling.append(field)
    texts = [", ".join(names[field] for field in telling if field in names) for names in named]
    return [text or scenario.side for text, scenario in zip(texts, scenarios, strict=True)]


def _distinct(named: Sequence[dict[str, str]], fields: Sequence[str]) -> int:
    return len({tuple(names.get(field) for field in fields) for names in named})


def shared(rows: Iterable[Row]) -> str:
    """The aspects that all rows have in common, for a caption."""
    named = [aspects(row.scenario) for row in rows]
    if not named:
        return ""
    common = [
        word
        for field, word in named[0].items()
        if field not in _ALWAYS and all(names.get(field) == word for names in named)
    ]
    return ", ".join(word for word in common if word != "RTT +0")

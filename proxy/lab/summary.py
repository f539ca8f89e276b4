"""
What a result means, in plain sentences: the top of every report.

A sentence is made only of what was measured, says "no difference beyond noise" where the rounds cannot tell two figures
apart, and says first what makes the figures worth less: failures, rows that are not whole, a client at its limit.
"""

from collections import Counter
from collections.abc import Sequence

from proxy.core.reasons import EXPLANATIONS, Reason
from proxy.lab.contrasts import Contrast, by_rtt, contrasts, cost_measure, nearest
from proxy.lab.difference import Change, Difference
from proxy.lab.measures import BY_KEY, Measure, Unit
from proxy.lab.results import Kind, Mode, Result, Row, Security, Workload
from proxy.lab.words import amount, aspects, change, labels, number

_SUBJECTS = {
    Workload.HANDSHAKE: "A full handshake",
    Workload.REQUEST: "A request with its response",
    Workload.UPLOAD: "Bulk from the client",
    Workload.DOWNLOAD: "Bulk from the server",
    Workload.IDLE: "An idle connection",
}
_MOST_SENTENCES = 4  # of one kind; the tables have the rest


def summary(result: Result) -> list[str]:
    """The sentences about one document, caveats last."""
    sentences: list[str] = []
    for workload in Workload:
        rows = [row for row in result.rows if row.scenario.workload is workload]
        measure = cost_measure(rows)
        if measure is not None:
            near = nearest(rows)
            sentences += [*_costs(near, measure, result.kind), *_contrast_sentences(near, measure), *_network(rows)]
    maxima = [
        f"The highest rate that kept {found.slo}: {_found(found.rate)} ({labels([found.scenario])[0]})."
        for found in result.maxima
    ]
    return [*sentences, *maxima[:_MOST_SENTENCES], *caveats(result)]


def comparison(difference: Difference) -> list[str]:
    """The sentences about two documents: what got worse, what got better, how much was noise."""
    changes = difference.changes()
    worse = [one for one in changes if one.is_worse]
    better = [one for one in changes if one.is_better]
    judged = [one for one in changes if one.factor is not None]
    sentences = []
    for word, found in (("Worse", worse), ("Better", better)):
        by_measure: dict[str, list[Change]] = {}
        for one in found:
            by_measure.setdefault(one.measure.key, []).append(one)
        sentences += [f"{word}: {_changes_words(group, len(difference.rows))}." for group in by_measure.values()]
    if judged and not worse and not better:
        sentences.append(f"Nothing changed by more than noise ({len(judged)} figures compared).")
    if difference.missing:
        gone = "; ".join(label for label, _ in difference.missing[:_MOST_SENTENCES])
        sentences.append(f"Rows that only the first file has, {len(difference.missing)}: {gone}.")
    if difference.added:
        new = "; ".join(label for label, _ in difference.added[:_MOST_SENTENCES])
        sentences.append(f"Rows that only the second file has, {len(difference.added)}: {new}.")
    return sentences


def caveats(result: Result) -> list[str]:
    """What a reader has to know before believing a figure."""
    rows = list(zip(labels([row.scenario for row in result.rows]), result.rows, strict=True))
    sentences = [
        f"Not whole: {label}: {row.fault}" + ("" if row.fault.endswith(".") else ".")
        for label, row in rows
        if row.fault
    ]
    failures: Counter[Reason] = Counter()
    for row in result.rows:
        for round_ in row.rounds:
            failures.update(round_.failures)
    if failures:
        total = sum(round_.count for row in result.rows for round_ in row.rounds) + failures.total()
        sentences.append(f"{failures.total():,} of {total:,} attempts failed; they are in no latency.")
        sentences += [
            f"{reason}, {count:,} times: {EXPLANATIONS[reason].sentence} {EXPLANATIONS[reason].advice}"
            for reason, count in failures.most_common(_MOST_SENTENCES)
        ]
    limited = [label for label, row in rows if any(round_.client_limited for round_ in row.rounds)]
    if limited:
        sentences.append(
            f"In {len(limited)} of {len(rows)} rows the client, not the server, was the bottleneck: their rates are "
            "the least that the server can do, and their latencies the client's."
        )
    if any(row.rounds for row in result.rows) and not any(
        round_.server_cpu_s is not None for row in result.rows for round_ in row.rounds
    ):
        sentences.append("The server's CPU time is unknown: nobody could read it from where the load was made.")
    return [*sentences, *result.notes]


def _costs(rows: Sequence[Row], measure: Measure, kind: Kind) -> list[str]:
    """What the cheapest and the dearest full row cost; of the first side alone where there are several."""
    ours = rows[0].scenario.side
    plain = [
        (row, figure.value)
        for row in rows
        if row.scenario.mode is not Mode.RESUMED and row.scenario.side == ours and not row.fault
        if (figure := measure.figure(row)) is not None
    ]
    several = len({row.scenario.side for row in rows}) > 1
    if not plain or (several and kind is Kind.RELAY):  # its sides are not alike: its own notes say what each adds
        return []
    subject = _SUBJECTS[rows[0].scenario.workload] + (f" on {ours}" if several else "")
    named = dict(zip((id(row) for row, _ in plain), labels([row.scenario for row, _ in plain]), strict=True))
    cheapest, dearest = min(plain, key=lambda one: one[1]), max(plain, key=lambda one: one[1])
    words = f"{amount(cheapest[1], measure.unit)} ({named[id(cheapest[0])]})"
    if dearest[0] is not cheapest[0]:
        words += f" to {amount(dearest[1], measure.unit)} ({named[id(dearest[0])]})"
    sentence = f"{subject}: {measure.title} {words}."
    if measure.key == "cpu_per_handshake" and cheapest[1]:
        least, most = number(1 / dearest[1]), number(1 / cheapest[1])
        sentence += f" One core accepts {most if least == most else f'{least} to {most}'} a second."
    return [sentence]


def _contrast_sentences(rows: Sequence[Row], measure: Measure) -> list[str]:
    """One sentence for each aspect in which the rows differ, and each value of it; one for all sides."""
    bases = {"security": Security.PLAINTEXT, "version": "1.2", "mode": Mode.FULL, "key": None}
    sentences = []
    for field, base in bases.items():
        groups = _by_value(contrasts(rows, field, measure, base), field)
        sentences += [f"{_subject(field, group)}: {_span(field, group)}." for group in groups[:_MOST_SENTENCES]]
    sides = _by_value(contrasts(rows, "side", measure), "side")
    if sides:
        said = "; ".join(f"{group[0].other.scenario.side} {_span('side', group)}" for group in sides)
        sentences.append(f"Against {sides[0][0].base.scenario.side}, {measure.title}: {said}.")
    return sentences


def _by_value(found: Sequence[Contrast], field: str) -> list[list[Contrast]]:
    groups: dict[object, list[Contrast]] = {}
    for one in found:
        groups.setdefault(getattr(one.other.scenario, field), []).append(one)
    return list(groups.values())


def _subject(field: str, group: Sequence[Contrast]) -> str:
    new, old = (aspects(row.scenario)[field] for row in (group[0].other, group[0].base))
    return f"{new[0].upper()}{new[1:]} against {old}, {group[0].measure.title}"


def _span(field: str, group: Sequence[Contrast]) -> str:
    """From the least to the most that the pairs of a group differ by."""
    if all(one.is_noise for one in group):
        return "no difference beyond noise"
    ordered = sorted(group, key=lambda one: one.factor.value)
    least, most = ordered[0], ordered[-1]
    if _how_much(least) == _how_much(most):
        return _how_much(least)
    names = labels([one.other.scenario for one in ordered], (field,))
    return f"{_how_much(least)} ({names[0]}) to {_how_much(most)} ({names[-1]})"


def _how_much(contrast: Contrast) -> str:
    factor = contrast.factor.value
    if contrast.is_noise:
        return "the same within noise"
    if factor >= 1.95:
        return f"{factor:.1f} times as much"
    return f"{abs(factor - 1) * 100:.0f} % {'more' if factor >= 1 else 'less'}"


def _network(rows: Sequence[Row]) -> list[str]:
    """At the longest round trip: what the versions take, and how many round trips lie between them."""
    longest = [series[-1] for series in by_rtt(rows)]
    of_mode: dict[Mode | None, Contrast] = {}  # keys and groups make no difference to how often a handshake crosses
    for pair in contrasts(longest, "version", BY_KEY["p50"], "1.2"):
        of_mode.setdefault(pair.other.scenario.mode, pair)
    return [_network_sentence(mode, pair) for mode, pair in of_mode.items()]


def _network_sentence(mode: Mode | None, pair: Contrast) -> str:
    rtt_s = pair.other.scenario.rtt_s
    older, newer = (amount(figure.value, Unit.SECONDS) for figure in (pair.base_figure, pair.other_figure))
    trips = BY_KEY["round_trips"]
    counted = trips.figure(pair.base), trips.figure(pair.other)
    if counted[0] is not None and counted[1] is not None:  # seen, flight by flight: a busy machine does not blur it
        apart = counted[0].value - counted[1].value
    else:
        apart = round((pair.base_figure.value - pair.other_figure.value) / rtt_s, 1)
    saved = "saves one round trip" if apart == 1 else f"saves {apart:g} round trips" if apart >= 0.2 else "saves none"
    handshake = f"{mode} handshake" if mode else "handshake"
    return (
        f"With {amount(rtt_s, Unit.SECONDS)} of network round trip the median {handshake} takes {older} over "
        f"TLS 1.2 and {newer} over TLS 1.3: TLS 1.3 {saved}."
    )


def _found(rate: float | None) -> str:
    return "none of those tried" if rate is None else f"{number(rate)}/s"


def _size(one: Change) -> float:
    assert one.factor is not None
    return max(one.factor.value, 1 / one.factor.value)


def _changes_words(group: Sequence[Change], rows: int) -> str:
    """One measure: where it changed most, and in how many rows."""
    most = max(group, key=_size)
    assert most.factor is not None
    assert most.before is not None
    assert most.after is not None
    unit = most.measure.unit
    figures = f"{amount(most.before.value, unit)} before, {amount(most.after.value, unit)} after"
    where = f"in {len(group)} of {rows} rows, most in" if len(group) > 1 else "in one row,"
    return f"{most.measure.title}, {where} {most.label}: {change(most.factor.value)} ({figures})"

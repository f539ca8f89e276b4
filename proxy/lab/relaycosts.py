"""
`bench relay`: the same bytes through no proxy, through one that does not look at them, and through TLS and mutual TLS.

The price of mutual TLS is what lies between two sides of one program: the sidecar in DISABLE and in STRICT. TLS without
a client certificate is no mode of the sidecar. A yardstick stands in for it, once without and once with client
certificates: the ordinary asyncio relay. On an open connection the two do not differ, since the certificate is a matter
of the handshake; what it costs there is seen best where nothing else is, in OpenSSL alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from proxy.lab.comparison import CONNECTIONS, FLOOR_WORDS, Field
from proxy.lab.contest import Entry, by_kind
from proxy.lab.floor import Floor, Work
from proxy.lab.generator import LoadFault
from proxy.lab.measures import BY_KEY, Measure
from proxy.lab.results import Row, Security, Workload
from proxy.lab.sides import Side, Stranger, check, direct, ordinary, sidecar, two_sidecars
from proxy.lab.stats import cannot_tell, paired_ratio, ratio
from proxy.lab.testbed import Testbed
from proxy.lab.words import amount
from proxy.lab.workloads import CONNECTING, FLOOR, Bench, bulk, connects, floor, idle, requests

DIRECT, DISABLED = "direct", "sidecar, DISABLE"
MEASURED = ("connection", "request", "bulk", "idle")
NO_TLS_MODE = (
    "TLS without a client certificate is no mode of the sidecar: `asyncio, TLS` stands in for it, beside the same "
    "program with client certificates."
)


def line_up(
    bed: Testbed,
    bench: Bench,
    engines: Sequence[str],
    measured: Sequence[str],
    stack: ExitStack,
    progress: Callable[[str], None],
) -> Field:
    """
    Start all sides, and try those that require a client certificate.

    measured: of MEASURED; stack: ends the floor's process. Raises: LoadFault
    """
    starts: dict[str, Callable[[], Side]] = {
        DIRECT: partial(direct, bed),
        DISABLED: partial(sidecar, bed, bench.key, engines[0], mode="DISABLE"),
        "asyncio, TLS": partial(ordinary, bed, bench.key, mutual=False),
        "asyncio, mutual TLS": partial(ordinary, bed, bench.key, mutual=True),
        **{f"sidecar ({name})": partial(sidecar, bed, bench.key, name) for name in engines},
        "two sidecars": partial(two_sidecars, bed, bench.key, engines[0]),
    }
    stranger = Stranger(bed.folder / "stranger", bench.key)
    entries, words, notes, ours = list[Entry](), dict[str, str](), [NO_TLS_MODE], list[int]()
    failed = list[str]()
    for name, start in starts.items():
        progress(f"starting {name}")
        try:
            side = start()
            seen = ""
            if side.credentials is not None and side.credentials.cert is not None:
                seen = f"; {check(side, stranger, bench.key, (bench.version,))}"
        except LoadFault as fault:
            failed.append(f"{name} is not measured: {fault}")
            continue
        words[name] = side.words + seen
        entries += _entries(bed, bench, side, start, measured)
        ours += side.pids if name.startswith("sidecar") else ()
    if "connection" in measured:
        words[FLOOR] = FLOOR_WORDS
        bottom = stack.enter_context(Floor(bed.cores.server))
        entries += [
            floor(bench, bottom, bed.identities(bench.key), Work.FULL, mutual=mutual) for mutual in (False, True)
        ]
    return Field(entries, words, notes, failed, ours)


def meaning(rows: Sequence[Row]) -> list[str]:
    """What mutual TLS costs here, in sentences made of what was measured."""
    kinds = by_kind(rows)
    said = [*_requests(kinds.get("request, one connection", ())), *_cpu(kinds.get("requests", ()))]
    return [*said, *_bottom(kinds.get("new connections", ()))]


def _entries(
    bed: Testbed, bench: Bench, side: Side, start: Callable[[], Side], measured: Sequence[str]
) -> Iterator[Entry]:
    if "connection" in measured:
        yield connects(bench, side, 1)
        yield connects(bench, side, CONNECTING)
    if "request" in measured:
        yield requests(bench, side, 1)
        yield requests(bench, side, CONNECTIONS)
    if "bulk" in measured:
        yield bulk(bench, side, Workload.UPLOAD)
        yield bulk(bench, side, Workload.DOWNLOAD)
    if "idle" in measured and side.pids:
        yield idle(bench, side.name, side.security, start, partial(_stop, bed))


def _stop(bed: Testbed, side: Side) -> None:
    for pid in side.pids:
        bed.stop(pid)


def _ours(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.scenario.side.startswith("sidecar (")), None)


def _named(rows: Sequence[Row], name: str) -> Row | None:
    return next((row for row in rows if row.scenario.side == name), None)


def _requests(rows: Sequence[Row]) -> Iterator[str]:
    p50, straight, plain, ours = BY_KEY["p50"], _named(rows, DIRECT), _named(rows, DISABLED), _ours(rows)
    base, cheap, dear = (None if row is None else p50.figure(row) for row in (straight, plain, ours))
    if base is None or cheap is None or dear is None:
        return
    pairs = {
        "DISABLE from no proxy": (plain, straight),
        "mutual TLS from no proxy": (ours, straight),
        "mutual TLS from DISABLE": (ours, plain),
    }
    yield (
        f"A 1 KiB request takes {amount(base.value, p50.unit)} without a proxy (median). The sidecar adds "
        f"{amount(max(0.0, cheap.value - base.value), p50.unit)} in DISABLE, and "
        f"{amount(max(0.0, dear.value - base.value), p50.unit)} with mutual TLS{_doubt(pairs, p50)}."
    )


def _cpu(rows: Sequence[Row]) -> Iterator[str]:
    cpu, ours, plain = BY_KEY["cpu_per_request"], _ours(rows), _named(rows, DISABLED)
    dear, cheap = (None if row is None else cpu.figure(row) for row in (ours, plain))
    if dear is not None and cheap is not None and cheap.value:
        yield (
            f"It costs {amount(cheap.value, cpu.unit)} of the sidecar's CPU in DISABLE and "
            f"{amount(dear.value, cpu.unit)} with mutual TLS: {dear.value / cheap.value:.2f} times as much"
            f"{_doubt({'the two apart': (ours, plain)}, cpu)}."
        )


def _bottom(rows: Sequence[Row]) -> Iterator[str]:
    cpu = BY_KEY["cpu_per_handshake"]
    floors = {row.scenario.security: row for row in rows if row.scenario.side == FLOOR}
    tls, mutual = floors.get(Security.TLS), floors.get(Security.MUTUAL_TLS)
    without, with_one = (None if row is None else cpu.figure(row) for row in (tls, mutual))
    if without is not None and with_one is not None:
        yield (
            f"The client certificate costs the server {amount(max(0.0, with_one.value - without.value), cpu.unit)} of "
            f"each full handshake, nothing later ({FLOOR}: {amount(without.value, cpu.unit)} without, "
            f"{amount(with_one.value, cpu.unit)} with it{_doubt({'the two apart': (mutual, tls)}, cpu)})."
        )


def _doubt(pairs: Mapping[str, tuple[Row | None, Row | None]], measure: Measure) -> str:
    """What the rounds leave open, as a clause: of which pairs nobody knows that they differ. Empty where they do."""
    values = {
        name: (measure.values(one), measure.values(other))
        for name, (one, other) in pairs.items()
        if one is not None and other is not None
    }
    if any(len(each) == 1 for both in values.values() for each in both):
        return "; one round cannot tell how much of that is noise"
    factors = {name: paired_ratio(*both) or ratio(*both) for name, both in values.items()}
    open_ = [name for name, factor in factors.items() if factor is None or cannot_tell(factor)]
    return f"; the rounds cannot tell {', nor '.join(open_)}" if open_ else ""

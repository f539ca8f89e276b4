"""
`bench relay`: the same bytes through no proxy, through one that does not look at them, and through TLS and mutual TLS.

The price of mutual TLS is what lies between two sides of one program: the sidecar in DISABLE and in STRICT. TLS without
a client certificate is no mode of the sidecar. A yardstick stands in for it, once without and once with client
certificates: the ordinary asyncio relay. On an open connection the two do not differ, since the certificate is a matter
of the handshake; what it costs there is seen best where nothing else is, in OpenSSL alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from proxy.lab.comparison import CONNECTIONS, FLOOR_WORDS, Field
from proxy.lab.contest import Entry, by_kind
from proxy.lab.floor import Floor, Work
from proxy.lab.generator import LoadFault
from proxy.lab.measures import BY_KEY
from proxy.lab.results import Row, Workload
from proxy.lab.sides import Side, Stranger, check, direct, ordinary, sidecar, two_sidecars
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
    p50 = BY_KEY["p50"]
    figures = [None if row is None else p50.figure(row) for row in (_ours(rows), _named(rows, DISABLED))]
    straight = _named(rows, DIRECT)
    base = None if straight is None else p50.figure(straight)
    ours, plain = figures
    if ours is not None and plain is not None and base is not None:
        yield (
            f"A 1 KiB request takes {amount(base.value, p50.unit)} without a proxy (median). The sidecar adds "
            f"{amount(max(0.0, plain.value - base.value), p50.unit)} in DISABLE, and "
            f"{amount(max(0.0, ours.value - base.value), p50.unit)} with mutual TLS."
        )


def _cpu(rows: Sequence[Row]) -> Iterator[str]:
    cpu, ours, plain = BY_KEY["cpu_per_request"], _ours(rows), _named(rows, DISABLED)
    dear = None if ours is None else cpu.figure(ours)
    cheap = None if plain is None else cpu.figure(plain)
    if dear is not None and cheap is not None and cheap.value:
        yield (
            f"It costs {amount(cheap.value, cpu.unit)} of the sidecar's CPU in DISABLE and "
            f"{amount(dear.value, cpu.unit)} with mutual TLS: {dear.value / cheap.value:.2f} times as much."
        )


def _bottom(rows: Sequence[Row]) -> Iterator[str]:
    cpu = BY_KEY["cpu_per_handshake"]
    found = {
        row.scenario.security: figure.value
        for row in rows
        if row.scenario.side == FLOOR and (figure := cpu.figure(row))
    }
    if len(found) == 2:
        without, with_one = sorted(found.values())
        yield (
            f"The client certificate costs the server {amount(with_one - without, cpu.unit)} of each full handshake, "
            f"nothing later ({FLOOR}: {amount(without, cpu.unit)} without, {amount(with_one, cpu.unit)} with it)."
        )

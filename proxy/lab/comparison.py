"""
`bench compare`: the sidecar on each of its engines, the proxies of other people, and OpenSSL alone, in one contest.

Each side has an app of its own behind it, all have the servers' core, and each is tried (`sides.check`) before it may
take part. What is missing, does not start or serves whom it must not is named, with what to do, and left out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from proxy.lab.contest import Entry, by_kind
from proxy.lab.floor import Floor, Work
from proxy.lab.generator import LoadFault
from proxy.lab.measures import BY_KEY
from proxy.lab.peers import Peer
from proxy.lab.results import Mode, Row, Security, Workload
from proxy.lab.sides import VERSIONS, Side, Stranger, check, peer, sidecar
from proxy.lab.stats import cannot_tell, median, paired_ratio
from proxy.lab.testbed import Testbed
from proxy.lab.words import amount
from proxy.lab.workloads import FLOOR, Bench, bulk, floor, handshakes, idle, requests

CONNECTIONS = 64  # with a request in flight on each

MEASURED = ("handshake", "request", "bulk", "idle")
FLOOR_WORDS = "server and client of the sidecar's OpenSSL in one process, the server's calls alone; no network"
OPENSSL = "sidecar (openssl)"
CPU = BY_KEY["cpu_per_handshake"]

Start = Callable[[], Side]


class Field(NamedTuple):
    """
    Who takes part.

    words:  what each side is, by its name; ours: the pids of sidecars
    notes:  what a reader has to know; failed: who does not take part although it is here, and why
    """

    entries: list[Entry]
    words: dict[str, str]
    notes: list[str]
    failed: list[str]
    ours: list[int]


def line_up(
    bed: Testbed,
    bench: Bench,
    engines: Sequence[str],
    peers: Sequence[Peer],
    measured: Sequence[str],
    stack: ExitStack,
    progress: Callable[[str], None],
) -> Field:
    """
    Start and try all sides.

    measured: of MEASURED; stack: ends the floor's process
    Raises:   LoadFault when not even a sidecar can be had
    """
    ours_with = partial(sidecar, bed, bench.key, verdict_cache=bench.verdict_cache)
    starts: dict[str, Start] = {f"sidecar ({name})": partial(ours_with, name) for name in engines}
    starts |= {each.name: partial(peer, bed, each, bench.key) for each in peers if each.program() is not None}
    stranger = Stranger(bed.folder / "stranger", bench.key)
    entries, words, notes, ours = list[Entry](), dict[str, str](), list[str](), list[int]()
    failed = list[str]()
    for name, start in starts.items():
        progress(f"starting and trying {name}")
        try:
            side = start()
            seen = check(side, stranger, bench.key)
        except LoadFault as fault:
            failed.append(f"{name} is not measured: {fault}")
            continue
        words[name] = f"{side.words}; {seen}"
        entries += _entries(bed, bench, side, start, measured)
        ours += side.pids if name.startswith("sidecar") else ()
    if not any(name.startswith("sidecar") for name in words):
        raise LoadFault("no sidecar takes part, so there is nothing to compare with: " + " ".join(failed))
    words[FLOOR] = FLOOR_WORDS
    entries += _floor(bench, bed, stack.enter_context(Floor(bed.cores.server)), measured)
    missing = [f"{each.title} ({each.install})" for each in peers if each.program() is None]
    if missing:
        notes.append(f"Not installed here, so not compared: {', '.join(missing)}")
    return Field(entries, words, notes, failed, ours)


def _entries(bed: Testbed, bench: Bench, side: Side, start: Start, measured: Sequence[str]) -> Iterator[Entry]:
    if "handshake" in measured:
        for mode in Mode:
            for version in VERSIONS:
                yield handshakes(bench, side, version, mode)
    if "request" in measured:
        yield requests(bench, side, CONNECTIONS)
    if "bulk" in measured:
        yield bulk(bench, side, Workload.UPLOAD)
        yield bulk(bench, side, Workload.DOWNLOAD)
    if "idle" in measured:
        yield idle(bench, side.name, Security.MUTUAL_TLS, start, lambda fresh: bed.stop(fresh.pids[0]))


def _floor(bench: Bench, bed: Testbed, bottom: Floor, measured: Sequence[str]) -> Iterator[Entry]:
    identities = bed.identities(bench.key)
    if "handshake" in measured:
        for mode in Mode:
            for version in VERSIONS:
                yield floor(bench, bottom, identities, Work(mode.value), version=version, mode=mode)
    if "request" in measured:
        yield floor(bench, bottom, identities, Work.REQUEST)
    if "bulk" in measured:
        yield floor(bench, bottom, identities, Work.UPLOAD)
        yield floor(bench, bottom, identities, Work.DOWNLOAD)


def meaning(rows: Sequence[Row]) -> list[str]:
    """What part of a handshake is TLS itself, on the engine that the floor is made of; and who needs least."""
    said = list[str]()
    for kind, found in by_kind(rows).items():
        figures = {row.scenario.side: figure.value for row in found if (figure := CPU.figure(row)) is not None}
        bottom, ours = figures.pop(FLOOR, None), figures.get(OPENSSL)
        if bottom is not None and ours is not None:
            said.append(
                f"Of the {amount(ours, CPU.unit)} of a {kind} on {OPENSSL}, {amount(bottom, CPU.unit)} are OpenSSL's "
                "own; sockets, the way to the app, identity, policy and Python are the rest."
            )
        if len(figures) > 1:
            said.append(_least(kind, [row for row in found if row.scenario.side in figures]))
    return said


def _least(kind: str, rows: Sequence[Row]) -> str:
    """Who needs least, and whom the rounds cannot tell from it."""
    figures = {row.scenario.side: CPU.values(row) for row in rows}
    least = min(figures, key=lambda side: median(figures[side]).value)
    level = [
        side
        for side, values in figures.items()
        if side != least and (factor := paired_ratio(values, figures[least])) is not None and cannot_tell(factor)
    ]
    also = f"; the rounds cannot tell {', '.join(level)} from it" if level else ""
    return f"A {kind} costs least on {least}: {amount(median(figures[least]).value, CPU.unit)}{also}."

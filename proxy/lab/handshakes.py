"""
From what was asked of `bench handshake` to contenders: cells of the matrix, times network delays, times rates.

Sidecars and delay lines are started once for each kind and shared by all contenders that go through them; they end with
the Testbed and the DelayLines that the caller gives.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from proxy.core.config import DEFAULT_GROUPS, GROUPS, Engine, TlsConfig
from proxy.core.reasons import Rejected
from proxy.lab.delayline import DelayLines
from proxy.lab.generator import LoadFault
from proxy.lab.matrix import Cell
from proxy.lab.plan import Arrivals, ClosedLoop, OpenLoop, Plan
from proxy.lab.results import Certificate, Mode, Scenario, Security, Workload
from proxy.lab.rounds import Contender
from proxy.lab.servercpu import ProcessCpu, ServerCpu
from proxy.lab.testbed import KEY_WORDS, Sidecar, Testbed
from proxy.tls.engine import find_engine
from proxy.tls.loadcontext import Credentials, Offer

SIDECAR, TARGET = "sidecar", "target"
_OWN_REQUEST = b"P"  # the app of the testbed answers it with one byte
_CURVES = ("P-256", "P-384")  # of the certificates: TLS 1.2 reads the list of groups for them too


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What holds for all contenders.

    rates: of open loops; empty: closed ones with each cell's concurrency
    rtts_s: what delay lines add; 0 is none
    max_open: connections of an open loop at once
    """

    seconds: float
    warm_up_s: float
    timeout_s: float
    rates: tuple[float, ...] = ()
    arrivals: Arrivals = Arrivals.CONSTANT
    rtts_s: tuple[float, ...] = (0.0,)
    seed: int = 1
    max_open: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    A server that is somebody's own.

    request:  what is sent after the handshake, empty for nothing; alpn: application protocols to offer
    farewell: as Plan's
    """

    address: tuple[str, int]
    credentials: Credentials
    server: ServerCpu | None = None
    request: bytes = b""
    alpn: tuple[str, ...] = ()
    farewell: bool = False


def sidecar_contenders(
    cells: Sequence[Cell], asked: Asked, bed: Testbed, lines: DelayLines
) -> tuple[list[Contender], tuple[Certificate, ...]]:
    """Start the sidecars for the cells; returns the contenders, and the kinds of certificates. Raises: LoadFault"""
    for cell in cells:
        _check_sidecar(cell)
    sidecars: dict[tuple[str, int, tuple[str, ...], str], tuple[Sidecar, ServerCpu]] = {}
    contenders: list[Contender] = []
    for cell in cells:
        assert cell.key is not None
        groups, engine = _groups(cell), cell.engine or "auto"
        kind = (cell.key, cell.chain_length, groups, engine)
        if kind not in sidecars:
            started = bed.sidecar(cell.key, chain_length=cell.chain_length, groups=groups, engine=engine)
            sidecars[kind] = started, ProcessCpu([started.pid])
        sidecar, server = sidecars[kind]
        target = Target(
            address=sidecar.address,
            credentials=sidecar.identities.credentials,
            server=server,
            request=_OWN_REQUEST,
        )
        side = f"{SIDECAR} ({cell.engine})" if cell.engine else SIDECAR
        contenders += _contenders(side, cell, asked, target, lines)
    return contenders, _kinds(sidecar for sidecar, _ in sidecars.values())


def engine_of(cell: Cell) -> str:
    """The engine that the sidecar for a cell runs on, which is its own choice where none was asked for."""
    if cell.engine is not None:
        return cell.engine
    return find_engine(TlsConfig(groups=_groups(cell) or DEFAULT_GROUPS)).name


def target_contenders(cells: Sequence[Cell], asked: Asked, target: Target, lines: DelayLines) -> list[Contender]:
    """The contenders of a server that runs already. Raises: LoadFault"""
    return [contender for cell in cells for contender in _contenders(TARGET, cell, asked, target, lines)]


def plan_of(cell: Cell, asked: Asked, target: Target) -> Plan:
    """The closed loop of a cell, straight to its target."""
    credentials = target.credentials
    if not cell.client_certificate:
        credentials = msgspec.structs.replace(credentials, cert=None, key=None)
    return Plan(
        address=target.address,
        credentials=credentials,
        offer=Offer(version=cell.version, group=cell.group, cipher=cell.suites, alpn=target.alpn),
        resumed=cell.mode == "resumed",
        pace=ClosedLoop(in_flight=cell.concurrency),
        request=target.request,
        farewell=target.farewell,
        seconds=asked.seconds,
        warm_up_s=asked.warm_up_s,
        timeout_s=asked.timeout_s,
        max_open=asked.max_open,
    )


def with_rate(contender: Contender, rate: float) -> Contender:
    """The same contender at another rate of an open loop."""
    pace = contender.plan.pace
    open_loop = OpenLoop(rate=rate) if isinstance(pace, ClosedLoop) else msgspec.structs.replace(pace, rate=rate)
    return Contender(
        scenario=msgspec.structs.replace(contender.scenario, rate=rate, concurrency=None),
        plan=msgspec.structs.replace(contender.plan, pace=open_loop),
        server=contender.server,
        group=contender.group,
    )


def _contenders(side: str, cell: Cell, asked: Asked, target: Target, lines: DelayLines) -> Iterator[Contender]:
    plan = plan_of(cell, asked, target)
    for rtt_s in asked.rtts_s:
        scenario = Scenario(
            side=side,
            workload=Workload.HANDSHAKE,
            security=Security.MUTUAL_TLS if cell.client_certificate else Security.TLS,
            version=cell.version,
            key=KEY_WORDS[cell.key] if cell.key else None,
            group=cell.group,
            cipher=cell.cipher,
            mode=Mode(cell.mode),
            client_certificate=cell.client_certificate,
            chain_length=cell.chain_length,
            concurrency=cell.concurrency,
            rtt_s=rtt_s,
        )
        through = msgspec.structs.replace(plan, address=lines.address(target.address, rtt_s))
        closed = Contender(scenario, through, target.server, cell.group)
        if not asked.rates:
            yield closed
        for rate in asked.rates:
            pace = OpenLoop(rate=rate, arrivals=asked.arrivals, seed=asked.seed)
            opened = msgspec.structs.replace(through, pace=pace)
            yield with_rate(Contender(scenario, opened, target.server, cell.group), rate)


def _check_sidecar(cell: Cell) -> None:
    """Say before anything is started that a sidecar of this kind cannot be. Raises: LoadFault"""
    groups = _groups(cell)
    if cell.group is not None and cell.group not in GROUPS:
        raise LoadFault(
            f"a sidecar has no group {cell.group}: choose of {', '.join(GROUPS)}, or load a --target of yours"
        )
    try:
        engine = find_engine(TlsConfig(engine=Engine(cell.engine or Engine.AUTO), groups=groups or DEFAULT_GROUPS))
    except Rejected as rejected:
        raise LoadFault(rejected.detail) from None
    if cell.group is not None and cell.group not in engine.groups:
        raise LoadFault(
            f"the engine {engine.name} has no group {cell.group}: choose of {', '.join(sorted(engine.groups))}"
        )


def _groups(cell: Cell) -> tuple[str, ...]:
    """The sidecar's `tls.groups` for a cell: the one that is measured first, since a server prefers its own order."""
    if cell.group is None:
        return ()
    return tuple(dict.fromkeys((cell.group, *_CURVES)))


def _kinds(sidecars: Iterable[Sidecar]) -> tuple[Certificate, ...]:
    found = [certificate for sidecar in sidecars for certificate in sidecar.identities.certificates]
    return tuple(dict.fromkeys(found))

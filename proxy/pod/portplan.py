"""
Which of the Pod's ports the sidecar stands in front of, and who may come in there: settings to the sections `inbound`
and `intercept.inbound` of the configuration.

With interception every port is the sidecar's but the ones that are left out, and a rule for each differs from the
default. Without, each port of the app has a listener of its own beside it, on a port that its clients have to know.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.core.config import Mode
from proxy.pod.names import ADMIN_PORT, HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT
from proxy.pod.podshape import Json, containers_of
from proxy.pod.redirect import PortRange
from proxy.pod.refusal import Refused
from proxy.pod.settings import PREFIX, Settings
from proxy.pod.settingwords import Ports

MAX_LISTENERS = 64  # a range that is written by mistake must not open a thousand ports


@dataclass(frozen=True, slots=True)
class PortPlan:
    """
    What is inbound.

    intercepted: whether packet rules bring it; ranges: which ports then, empty for all
    pairs:       without interception, (port to listen on, port of the app)
    modes:       the mode of a port that has its own; default: of all others, None where nothing comes in
    """

    intercepted: bool
    ranges: tuple[PortRange, ...]
    excluded: tuple[PortRange, ...]
    pairs: tuple[tuple[int, int], ...]
    modes: Mapping[int, str]
    default: str | None

    def catches_kubelet(self, port: int) -> bool:
        """Whether kubelet's plaintext to a port of the app would come to the sidecar and be refused, or count there."""
        if not self.intercepted or self.default is None or _within(port, self.excluded):
            return False
        if self.ranges and not _within(port, self.ranges):
            return False
        return self.modes.get(port, self.default) != Mode.DISABLE


def plan_ports(settings: Settings, spec: Json) -> PortPlan:
    """Decide. Raises: Refused where nobody was named who may come in, or where there is no port to stand before."""
    wanted = settings.ports
    is_none = wanted is not None and not wanted
    modes = {port: str(keys.get("mode", settings.mode)) for port, keys in settings.inbound}
    if is_none:
        return PortPlan(False, (), (), (), {}, None)
    if settings.mode is not Mode.DISABLE and not settings.allow:
        raise Refused(
            [
                "Nobody is named who may connect: set `allow` to SPIFFE IDs or patterns (e.g. "
                f"spiffe://{settings.trust_domain or 'example.org'}/ns/shop/**), or `ports` to none where nothing "
                "comes in."
            ]
        )
    if settings.intercept:
        if wanted is not None and wanted.pairs:
            raise Refused(
                ["`ports` gives the sidecar ports to listen on (LISTEN:PORT), which is for `intercept` false."]
            )
        ranges = wanted.ranges if wanted is not None else ()
        return PortPlan(True, ranges, settings.exclude_inbound_ports, (), modes, str(settings.mode))
    pairs = tuple(_pairs(wanted, spec))
    strangers = modes.keys() - {port for _, port in pairs}
    if strangers:
        raise Refused(
            [f"`inbound` has a rule for port {port}, which is not among `ports`." for port in sorted(strangers)]
        )
    return PortPlan(False, (), (), pairs, modes, str(settings.mode))


def inbound_sections(settings: Settings, plan: PortPlan) -> Json:
    """The sections of the configuration that the plan asks for: `inbound`, or `intercept` with its `inbound`."""
    own = dict(settings.inbound)
    if plan.intercepted:
        section: Json = {"listen": f"{any_address(settings)}:{INBOUND_PORT}"}
        if own:
            section["ports"] = {port: _rule(settings, keys) for port, keys in own.items()}
        section["default"] = _rule(settings, {})
        return {"intercept": {"inbound": section}}
    listeners = [
        {
            "name": f"port-{port}",
            "listen": f"{any_address(settings)}:{listen}",
            "upstream": f"127.0.0.1:{port}",
            **_rule(settings, own.get(port, {})),
        }
        for listen, port in plan.pairs
    ]
    return {"inbound": listeners} if listeners else {}


def any_address(settings: Settings) -> str:
    """Every interface, as an address of the configuration."""
    return "[::]" if settings.ipv6 else "0.0.0.0"  # noqa: S104  in a Pod that is the Pod


def _rule(settings: Settings, keys: Mapping[str, object]) -> Json:
    rule: Json = {"mode": str(keys.get("mode", settings.mode))}
    if rule["mode"] != Mode.DISABLE:
        rule["allow"] = list(settings.allow)
        if settings.deny:
            rule["deny"] = list(settings.deny)
    return rule | dict(keys)


def _pairs(wanted: Ports | None, spec: Json) -> Iterator[tuple[int, int]]:
    declared = [
        one["containerPort"]
        for _, _, container in containers_of(spec)
        for one in container.get("ports") or ()
        if (one.get("protocol") or "TCP") == "TCP" and isinstance(one.get("containerPort"), int)
    ]
    pairs = wanted.pairs if wanted is not None else ()
    ranges = wanted.ranges if wanted is not None else tuple(PortRange(port, port) for port in dict.fromkeys(declared))
    count = len(pairs) + sum(one.last - one.first + 1 for one in ranges)
    if count == 0:
        raise Refused(
            [f"No container declares a TCP port: name the app's ports in {PREFIX}ports, or `none` if there is none."]
        )
    if count > MAX_LISTENERS:
        raise Refused([f"`ports` asks for {count} listeners; without interception the most is {MAX_LISTENERS}."])
    taken = {listen for listen, _ in pairs} | set(declared) | {ADMIN_PORT, OUTBOUND_PORT, HEALTH_PORT}
    taken |= {port for one in ranges for port in range(one.first, one.last + 1)}
    yield from pairs
    listen = INBOUND_PORT
    for one in ranges:
        for port in range(one.first, one.last + 1):
            while listen in taken:
                listen += 1
            yield listen, port
            listen += 1


def _within(port: int, ranges: tuple[PortRange, ...]) -> bool:
    return any(one.first <= port <= one.last for one in ranges)

"""
The rules as `nft -f` reads them: one table of our own for each IP family, replaced as a whole in one transaction.

A table that is declared, deleted and declared again ends up new whether it was there or not, and the kernel switches
over at once. Nothing outside our tables is touched, so nothing has to be read first.
"""

from collections.abc import Iterator, Sequence

from proxy.core.events import Direction
from proxy.pod.redirect import Family, Plan, PortRange, Rule

TABLE = "MTLS_SIDECAR"
# -100 is `dstnat` (nft(8), Standard priority names); in the output hook older versions know no name for it.
HOOKS = {
    Direction.INBOUND: ("PREROUTING", "type nat hook prerouting priority -100; policy accept;"),
    Direction.OUTBOUND: ("OUTPUT", "type nat hook output priority -100; policy accept;"),
}
FAMILIES = {Family.IPV4: "ip", Family.IPV6: "ip6"}


def render(plans: Sequence[Plan], gone: Sequence[Family] = ()) -> str:
    """
    The input of `nft -f` that puts these plans in force, whatever of ours there was.

    gone: families of which nothing of ours is to be left
    """
    lines: list[str] = []
    for family in gone:
        lines += _removal(family)
    for one in plans:
        lines += [*_removal(one.family), *_table(one)]
    return "\n".join(lines) + "\n"


def _removal(family: Family) -> list[str]:
    """Deleting what is not there is an error, so it is there first."""
    return [f"table {FAMILIES[family]} {TABLE}", f"delete table {FAMILIES[family]} {TABLE}"]


def _table(plan: Plan) -> Iterator[str]:
    yield f"table {FAMILIES[plan.family]} {TABLE} {{"
    for direction, rules in plan.chains.items():
        yield f"\tchain {direction.name} {{"
        for rule in rules:
            yield f"\t\t{_rule(rule, direction, plan.family)}"
        yield "\t}"
    for direction in plan.chains:
        name, hook = HOOKS[direction]
        yield f"\tchain {name} {{"
        yield f"\t\t{hook}"
        yield f"\t\tmeta l4proto tcp jump {direction.name}"
        yield "\t}"
    yield "}"


def _rule(rule: Rule, direction: Direction, family: Family) -> str:
    words = []
    if rule.interface:
        words.append(f'{"iifname" if direction is Direction.INBOUND else "oifname"} "{rule.interface}"')
    if rule.cidr is not None:
        words.append(f"{FAMILIES[family]} daddr {rule.cidr}")
    if rule.uid is not None:
        words.append(f"meta skuid {rule.uid}")
    if rule.gid is not None:
        words.append(f"meta skgid {rule.gid}")
    if rule.ports:
        words.append(f"tcp dport {{ {', '.join(_range(one) for one in rule.ports)} }}")
    if rule.to_chain is not None:
        words.append(f"jump {rule.to_chain.name}")
    elif rule.to_port is None:
        words.append("return")
    else:
        words.append(f"meta l4proto tcp redirect to :{rule.to_port}")
    return f'{" ".join(words)} comment "{rule.why}"'


def _range(ports: PortRange) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"

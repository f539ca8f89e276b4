"""
The rules as iptables-restore reads them: one table, one transaction, for each IP family.

`--noflush` leaves the chains of others alone; naming one of ours in the input empties it. So the same input makes a Pod
without rules, with our rules or with older rules of ours into the same Pod, and the kernel switches over at COMMIT. The
two rules outside our chains, the jumps into them, are what has to be known first: `parse_installed` reads them from
what `iptables -t nat -S` prints.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.core.events import Direction
from proxy.pod.redirect import Plan, PortRange, Rule

PREFIX = "MTLS_SIDECAR_"
MULTIPORT_SLOTS = 15  # iptables-extensions(8), multiport; a range takes two
HOOKS = {Direction.INBOUND: "PREROUTING", Direction.OUTBOUND: "OUTPUT"}


@dataclass(frozen=True, slots=True)
class Installed:
    """What of ours is in a nat table. jumps: the rules of other chains that lead into ours, as `-S` prints them."""

    chains: tuple[str, ...] = ()
    jumps: tuple[str, ...] = ()


def chain_name(direction: Direction) -> str:
    """MTLS_SIDECAR_INBOUND or MTLS_SIDECAR_OUTBOUND."""
    return f"{PREFIX}{direction.name}"


def parse_installed(listing: str) -> Installed:
    """Find what is ours in the output of `iptables -t nat -S`."""
    chains, jumps = [], []
    for line in listing.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "-N" and words[1].startswith(PREFIX):
            chains.append(words[1])
        elif _is_a_jump(words):
            jumps.append(line.strip())
    return Installed(tuple(chains), tuple(jumps))


def _is_a_jump(words: list[str]) -> bool:
    """Whether a rule of somebody else's chain leads into one of ours."""
    begins = len(words) >= 4 and words[0] == "-A" and not words[1].startswith(PREFIX)
    return begins and words[-2] in ("-j", "-g") and words[-1].startswith(PREFIX)


def render(plan: Plan | None, installed: Installed) -> str:
    """
    The input of `iptables-restore --noflush` that puts a plan in force, whatever of ours there was.

    plan: None: nothing of ours is to be left
    """
    return "\n".join(_lines(plan, installed)) + "\n"


def _lines(plan: Plan | None, installed: Installed) -> Iterator[str]:
    chains = plan.chains if plan is not None else {}
    names = {chain_name(direction): direction for direction in chains}
    jumps = {chain_name(d): f"-A {HOOKS[d]} -p tcp -j {chain_name(d)}" for d in chains}
    yield "*nat"
    for name in dict.fromkeys([*names, *installed.chains]):
        yield f":{name} - [0:0]"
    kept = set()
    for jump in installed.jumps:
        if jump in jumps.values() and jump not in kept:
            kept.add(jump)  # once is enough, and where it stands it stays
        else:
            yield f"-D{jump[2:]}"
    for name, jump in jumps.items():
        if jump not in kept:
            yield jump
        for rule in chains[names[name]]:
            yield f"# {rule.why}"
            for words in _rule(rule, names[name]):
                yield f"-A {name} {words}"
    for name in installed.chains:
        if name not in names:
            yield f"-X {name}"
    yield "COMMIT"


def _rule(rule: Rule, direction: Direction) -> Iterator[str]:
    """One rule, or several where its ports are too many for one."""
    words = []
    if rule.interface:
        words.append(f"-{'i' if direction is Direction.INBOUND else 'o'} {rule.interface}")
    if rule.cidr is not None:
        words.append(f"-d {rule.cidr}")
    if rule.uid is not None:
        words.append(f"-m owner --uid-owner {rule.uid}")
    if rule.gid is not None:
        words.append(f"-m owner --gid-owner {rule.gid}")
    if rule.to_chain is not None:
        target = f"-j {chain_name(rule.to_chain)}"
    else:
        target = "-j RETURN" if rule.to_port is None else f"-j REDIRECT --to-ports {rule.to_port}"
    for ports in _slots(rule.ports):
        tcp = ["-p tcp", *([_ports(ports)] if ports else [])] if ports or rule.to_port is not None else []
        yield " ".join([*words, *tcp, target])


def _ports(ports: list[PortRange]) -> str:
    texts = [str(one.first) if one.first == one.last else f"{one.first}:{one.last}" for one in ports]
    return f"--dport {texts[0]}" if len(texts) == 1 else f"-m multiport --dports {','.join(texts)}"


def _slots(ports: tuple[PortRange, ...]) -> Iterator[list[PortRange]]:
    """The ports in groups that fit one rule; one empty group where there are none."""
    group: list[PortRange] = []
    used = 0
    for one in ports:
        need = 1 if one.first == one.last else 2
        if used + need > MULTIPORT_SLOTS:
            yield group
            group, used = [], 0
        group.append(one)
        used += need
    yield group

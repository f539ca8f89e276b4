"""The rules as data: what is let through before what is caught, for each option and each family."""

from ipaddress import ip_network

import pytest

from proxy.core.events import Direction
from proxy.pod.redirect import Family, PortRange, Redirect, Rule, merge_ports, parse_cidrs, parse_ports, plan

OWN = (PortRange(15000, 15001), PortRange(15006, 15006), PortRange(15021, 15021))


def short(rule: Rule) -> tuple[object, ...]:
    """What a rule looks at, and where it leads."""
    conditions = (rule.interface, rule.uid, rule.gid, rule.cidr and str(rule.cidr), rule.ports)
    return (*(one for one in conditions if one not in (None, "", ())), rule.to_port or rule.to_chain or "RETURN")


def rules(direction: Direction, family: Family = Family.IPV4, **options: object) -> list[tuple[object, ...]]:
    return [short(rule) for rule in plan(Redirect(**options), family).chains[direction]]  # type: ignore[arg-type]


def test_by_default_everything_is_caught_but_loopback_and_the_sidecar() -> None:
    assert rules(Direction.INBOUND) == [("lo", "RETURN"), (OWN, "RETURN"), (15006,)]
    assert rules(Direction.OUTBOUND) == [("lo", "RETURN"), (1337, "RETURN"), (1337, "RETURN"), (15001,)]


def test_the_sidecars_connections_are_known_by_uid_and_by_gid() -> None:
    found = plan(Redirect(proxy_uid=7, proxy_gid=8), Family.IPV4).chains[Direction.OUTBOUND]
    assert [(rule.uid, rule.gid) for rule in found] == [(None, None), (7, None), (None, 8), (None, None)]


def test_included_inbound_ports_leave_the_others_alone() -> None:
    ports = parse_ports("8080,9090")
    assert rules(Direction.INBOUND, include_inbound_ports=ports)[2:] == [(ports, 15006)]


def test_an_exclude_stands_before_an_include() -> None:
    ports = parse_ports("22")
    found = rules(Direction.INBOUND, exclude_inbound_ports=ports, include_inbound_ports=ports)
    assert found[2:] == [(ports, "RETURN"), (ports, 15006)]
    found = rules(Direction.OUTBOUND, exclude_outbound_ports=ports, include_outbound_ports=ports)
    assert found[3:] == [(ports, "RETURN"), (ports, 15001)]


def test_outbound_is_included_by_port_or_by_address() -> None:
    found = rules(
        Direction.OUTBOUND,
        include_outbound_ports=parse_ports("5432"),
        include_outbound_cidrs=parse_cidrs("10.0.0.0/8,fd00::/8"),
        exclude_outbound_cidrs=parse_cidrs("10.9.0.0/16"),
    )
    assert found[3:] == [("10.9.0.0/16", "RETURN"), ((PortRange(5432, 5432),), 15001), ("10.0.0.0/8", 15001)]


def test_each_family_has_its_own_networks() -> None:
    cidrs = parse_cidrs("10.0.0.0/8,fd00::/8")
    assert rules(Direction.OUTBOUND, Family.IPV6, exclude_outbound_cidrs=cidrs)[3:] == [
        ("fd00::/8", "RETURN"),
        (15001,),
    ]
    only_v4 = rules(Direction.OUTBOUND, Family.IPV6, include_outbound_cidrs=parse_cidrs("10.0.0.0/8"))
    assert [rule for rule in only_v4 if rule[-1] != "RETURN"] == []


@pytest.mark.parametrize(("left_alone", "other"), [("inbound", Direction.OUTBOUND), ("outbound", Direction.INBOUND)])
def test_a_direction_that_is_left_alone_has_no_chain(left_alone: str, other: Direction) -> None:
    redirect = Redirect(inbound_port=None) if left_alone == "inbound" else Redirect(outbound_port=None)
    assert list(plan(redirect, Family.IPV4).chains) == [other]


def test_redirect_ports_of_the_operators_choice_are_the_sidecars_own_too() -> None:
    assert rules(Direction.INBOUND, inbound_port=4143, outbound_port=4140)[1] == (
        (PortRange(4140, 4140), PortRange(4143, 4143), *OWN),
        "RETURN",
    )


def test_the_probe_comes_before_the_loopback_rule_and_leads_into_the_inbound_chain() -> None:
    found = plan(Redirect(outbound_port=None), Family.IPV4, probe_port=15002).chains[Direction.OUTBOUND]
    assert [short(rule) for rule in found] == [("lo", (PortRange(15002, 15002),), Direction.INBOUND)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("*", []),
        ("80", [(80, 80)]),
        (" 80 , 443 ", [(80, 80), (443, 443)]),
        ("443,80,80", [(80, 80), (443, 443)]),
        ("8000-8080,8050-9000,9001", [(8000, 9001)]),
        ("1-65535", [(1, 65535)]),
    ],
)
def test_ports_are_read(text: str, expected: list[tuple[int, int]]) -> None:
    assert [(one.first, one.last) for one in parse_ports(text)] == expected


@pytest.mark.parametrize("text", ["0", "65536", "80-", "-80", "a", "80,,90", "90-80", "80 90", "٨٠", "999999", "80:90"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|range"):
        parse_ports(text)


def test_networks_are_read() -> None:
    assert parse_cidrs("10.0.0.0/8, fd00::/8,10.0.0.0/8,192.0.2.1") == (
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
        ip_network("192.0.2.1/32"),
    )
    assert parse_cidrs("*") == parse_cidrs("") == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("10.1.1.1/8", "write 10.0.0.0/8"), ("example.org", "a network is"), ("10.0.0.0/33", "a network is")],
)
def test_what_is_no_network_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_cidrs(text)


def test_ranges_that_touch_become_one() -> None:
    assert merge_ports([PortRange(5, 9), PortRange(1, 4), PortRange(11, 12)]) == (PortRange(1, 9), PortRange(11, 12))

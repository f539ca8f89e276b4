"""What iptables-restore is given: from any state of ours to the wanted one, and not a word about others' rules."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.pod.iptables import Installed, parse_installed, render
from proxy.pod.redirect import Family, Plan, PortRange, Redirect, parse_cidrs, parse_ports, plan

LISTING = """\
-P PREROUTING ACCEPT
-P OUTPUT ACCEPT
-N KUBE-SERVICES
-N MTLS_SIDECAR_INBOUND
-N MTLS_SIDECAR_OUTBOUND
-A PREROUTING -m comment --comment "for MTLS_SIDECAR_INBOUND" -j KUBE-SERVICES
-A PREROUTING -p tcp -j MTLS_SIDECAR_INBOUND
-A OUTPUT -p tcp -j MTLS_SIDECAR_OUTBOUND
-A MTLS_SIDECAR_OUTBOUND -o lo -p tcp -m tcp --dport 15002 -j MTLS_SIDECAR_INBOUND
-A MTLS_SIDECAR_INBOUND -p tcp -j REDIRECT --to-ports 15006
"""
JUMPS = ("-A PREROUTING -p tcp -j MTLS_SIDECAR_INBOUND", "-A OUTPUT -p tcp -j MTLS_SIDECAR_OUTBOUND")
NOTHING = Installed()
CHAINS = ("MTLS_SIDECAR_INBOUND", "MTLS_SIDECAR_OUTBOUND")


def lines(wanted: Plan | None, installed: Installed = NOTHING) -> list[str]:
    return [line for line in render(wanted, installed).splitlines() if not line.startswith("#")]


def default(**options: object) -> Plan:
    return plan(Redirect(**options), Family.IPV4)  # type: ignore[arg-type]


def test_the_whole_input_for_a_pod_without_rules() -> None:
    assert lines(default()) == [
        "*nat",
        ":MTLS_SIDECAR_INBOUND - [0:0]",
        ":MTLS_SIDECAR_OUTBOUND - [0:0]",
        "-A PREROUTING -p tcp -j MTLS_SIDECAR_INBOUND",
        "-A MTLS_SIDECAR_INBOUND -i lo -j RETURN",
        "-A MTLS_SIDECAR_INBOUND -p tcp -m multiport --dports 15000:15001,15006,15021 -j RETURN",
        "-A MTLS_SIDECAR_INBOUND -p tcp -j REDIRECT --to-ports 15006",
        "-A OUTPUT -p tcp -j MTLS_SIDECAR_OUTBOUND",
        "-A MTLS_SIDECAR_OUTBOUND -o lo -j RETURN",
        "-A MTLS_SIDECAR_OUTBOUND -m owner --uid-owner 1337 -j RETURN",
        "-A MTLS_SIDECAR_OUTBOUND -m owner --gid-owner 1337 -j RETURN",
        "-A MTLS_SIDECAR_OUTBOUND -p tcp -j REDIRECT --to-ports 15001",
        "COMMIT",
    ]


def test_what_is_ours_is_found_in_a_listing() -> None:
    assert parse_installed(LISTING) == Installed(CHAINS, JUMPS)
    assert parse_installed("") == parse_installed("-N\n-A\n-A PREROUTING\n\n-j -j") == Installed()


def test_a_jump_that_is_there_stays_where_it_is() -> None:
    written = lines(default(), Installed(CHAINS, JUMPS))
    assert [line for line in written if line in JUMPS or line.startswith("-D")] == []


def test_a_jump_that_is_there_twice_or_differs_is_taken_back() -> None:
    old = "-A OUTPUT -p tcp -m tcp -j MTLS_SIDECAR_OUTBOUND"
    written = lines(default(), Installed(CHAINS, (JUMPS[0], JUMPS[0], old)))
    assert [line for line in written if line.startswith("-D") or line in JUMPS] == [
        "-D PREROUTING -p tcp -j MTLS_SIDECAR_INBOUND",
        "-D OUTPUT -p tcp -m tcp -j MTLS_SIDECAR_OUTBOUND",
        JUMPS[1],
    ]


def test_a_direction_that_is_no_longer_wanted_goes_with_its_jump() -> None:
    written = lines(default(outbound_port=None), Installed(CHAINS, JUMPS))
    assert "-D OUTPUT -p tcp -j MTLS_SIDECAR_OUTBOUND" in written
    assert written[-2:] == ["-X MTLS_SIDECAR_OUTBOUND", "COMMIT"]


def test_clean_takes_the_jumps_then_the_chains_and_nothing_else() -> None:
    assert lines(None, Installed(CHAINS, JUMPS)) == [
        "*nat",
        ":MTLS_SIDECAR_INBOUND - [0:0]",
        ":MTLS_SIDECAR_OUTBOUND - [0:0]",
        "-D PREROUTING -p tcp -j MTLS_SIDECAR_INBOUND",
        "-D OUTPUT -p tcp -j MTLS_SIDECAR_OUTBOUND",
        "-X MTLS_SIDECAR_INBOUND",
        "-X MTLS_SIDECAR_OUTBOUND",
        "COMMIT",
    ]


def test_ports_that_are_too_many_for_one_rule_become_several() -> None:
    odd = ",".join(str(port) for port in range(1, 35, 2))  # 17 ports: 15 and 2
    written = lines(default(include_inbound_ports=parse_ports(odd)))
    assert written[6:8] == [
        "-A MTLS_SIDECAR_INBOUND -p tcp -m multiport --dports 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29 "
        "-j REDIRECT --to-ports 15006",
        "-A MTLS_SIDECAR_INBOUND -p tcp -m multiport --dports 31,33 -j REDIRECT --to-ports 15006",
    ]


def test_a_range_counts_twice_and_one_port_needs_no_multiport() -> None:
    ranges = ",".join(f"{port}-{port + 1}" for port in range(1, 25, 3))  # 8 ranges: 7 and 1
    written = lines(default(exclude_inbound_ports=parse_ports(ranges)))
    assert written[6].count(":") == 7
    assert written[7] == "-A MTLS_SIDECAR_INBOUND -p tcp --dport 22:23 -j RETURN"


def test_an_address_stands_in_its_rule() -> None:
    written = lines(default(include_outbound_cidrs=parse_cidrs("10.0.0.0/8")))
    assert "-A MTLS_SIDECAR_OUTBOUND -d 10.0.0.0/8 -p tcp -j REDIRECT --to-ports 15001" in written


RANGES = st.tuples(st.integers(1, 65535), st.integers(0, 3)).map(lambda two: PortRange(two[0], min(65535, sum(two))))


@given(st.lists(RANGES, min_size=1, max_size=60))
def test_every_port_stands_in_one_rule_and_no_rule_has_too_many(ports: list[PortRange]) -> None:
    written = [line for line in lines(default(include_inbound_ports=tuple(ports))) if line.endswith("--to-ports 15006")]
    found: list[int] = []
    for line in written:
        words = line.split()
        texts = words[next(at for at, word in enumerate(words) if word.startswith("--dport")) + 1].split(",")
        assert sum(2 if ":" in text else 1 for text in texts) <= 15
        for text in texts:
            first, _, last = text.partition(":")
            found += range(int(first), int(last or first) + 1)
    assert found == sorted({port for one in ports for port in range(one.first, one.last + 1)})

"""What `nft -f` is given: tables of our own, replaced as a whole."""

from proxy.pod.nftables import render
from proxy.pod.redirect import Family, Redirect, parse_cidrs, parse_ports, plan


def test_the_whole_input_of_one_family() -> None:
    assert render([plan(Redirect(), Family.IPV4)]) == (
        """\
table ip MTLS_SIDECAR
delete table ip MTLS_SIDECAR
table ip MTLS_SIDECAR {
	chain INBOUND {
		iifname "lo" return comment "what the Pod sends to itself"
		tcp dport { 15000-15001, 15006, 15021 } return comment "the sidecar's own ports"
		meta l4proto tcp redirect to :15006 comment "everything else"
	}
	chain OUTBOUND {
		oifname "lo" return comment "what the Pod sends to itself"
		meta skuid 1337 return comment "the sidecar"
		meta skgid 1337 return comment "the sidecar"
		meta l4proto tcp redirect to :15001 comment "everything else"
	}
	chain PREROUTING {
		type nat hook prerouting priority -100; policy accept;
		meta l4proto tcp jump INBOUND
	}
	chain OUTPUT {
		type nat hook output priority -100; policy accept;
		meta l4proto tcp jump OUTBOUND
	}
}
"""
    )


def test_both_families_are_one_input() -> None:
    written = render([plan(Redirect(), family) for family in Family])
    assert [line for line in written.splitlines() if line.startswith("table") and line.endswith("{")] == [
        "table ip MTLS_SIDECAR {",
        "table ip6 MTLS_SIDECAR {",
    ]


def test_addresses_and_ports_stand_in_their_rules() -> None:
    redirect = Redirect(exclude_outbound_cidrs=parse_cidrs("fd00::/8"), include_outbound_ports=parse_ports("80,90-99"))
    written = render([plan(redirect, Family.IPV6)])
    assert '\t\tip6 daddr fd00::/8 return comment "excluded"\n' in written
    assert '\t\ttcp dport { 80, 90-99 } meta l4proto tcp redirect to :15001 comment "included"\n' in written


def test_what_is_gone_is_deleted() -> None:
    assert render([], [Family.IPV6]) == "table ip6 MTLS_SIDECAR\ndelete table ip6 MTLS_SIDECAR\n"

"""Where connections come in, and the bounded set of names that they are counted under."""

import dataclasses

from proxy.core.config import InboundConfig, InboundPolicy
from proxy.core.entrances import entrances, listeners
from tests.configtexts import GOOD, read

INTERCEPT = """\
intercept:
  inbound: {listen: "[::]:15007", ports: {8080: {mode: DISABLE}}, default: {mode: DISABLE}}
  outbound:
    listen: 127.0.0.1:15001
    routes:
      - {to: 10.0.0.0/8, ports: [80, 443], server_ids: ["spiffe://example.org/a"]}
      - {to: fd00::/8, server_ids: ["spiffe://example.org/a"]}
      - {to: 11.0.0.0/8, server_ids: ["spiffe://example.org/a"], name: payments}
    default: passthrough
"""


def names(found: object) -> list[str]:
    return [f"{one.direction} {one.name}" for one in found]  # type: ignore[attr-defined]


def test_every_address_has_the_listener_that_accepts_there() -> None:
    found = entrances(read(GOOD + INTERCEPT))
    assert [str(address) for address in found] == ["0.0.0.0:15006", "[::]:15007", "127.0.0.1:15001"]
    assert names(found.values()) == ["inbound http", "inbound intercept", "outbound intercept"]


def test_each_port_and_each_route_is_a_listener_of_its_own() -> None:
    assert names(listeners(read(GOOD + INTERCEPT))) == [
        "inbound http",
        "inbound intercept",
        "outbound intercept",
        "inbound intercept-8080",
        "outbound intercept-10.0.0.0/8:80,443",
        "outbound intercept-fd00::/8",
        "outbound payments",
    ]


def test_without_interception_there_are_the_listeners_alone() -> None:
    config = read(GOOD)
    assert names(listeners(config)) == names(entrances(config).values()) == ["inbound http"]


def test_the_policy_of_a_port_has_the_keys_and_defaults_of_a_listeners() -> None:
    listener = {row.name: row.default for row in dataclasses.fields(InboundConfig)}
    policy = {row.name: row.default for row in dataclasses.fields(InboundPolicy)}
    assert policy == {name: listener[name] for name in listener if name not in ("name", "listen", "upstream")}

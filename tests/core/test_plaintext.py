"""Connections become rows: one for each group of clients, listener, port and way of speaking."""

import ipaddress

import pytest

from proxy.core import plaintext
from proxy.core.plaintext import OTHERS, Evidence, Grouping, Kind, Speaks


@pytest.mark.parametrize(
    ("grouping", "address", "group"),
    [
        (Grouping(), "10.1.2.3:4242", "10.1.2.3"),
        (Grouping(), "[2001:db8::7]:4242", "2001:db8::7"),
        (Grouping(), "[::ffff:10.1.2.3]:4242", "10.1.2.3"),
        (Grouping(), "[fe80::1%eth0]:4242", "fe80::1"),
        (Grouping(24, 64), "10.1.2.3:4242", "10.1.2.0/24"),
        (Grouping(24, 64), "[2001:db8:0:1::7]:4242", "2001:db8:0:1::/64"),
        (Grouping(0, 0), "10.1.2.3:4242", "0.0.0.0/0"),
        (Grouping(), "unix:/run/app.sock", "unix:/run/app.sock"),
        (Grouping(), "", "unknown"),
        (Grouping(), "1.2.3.4.5:1", "1.2.3.4.5:1"),
    ],
)
def test_an_address_belongs_to_a_group(grouping: Grouping, address: str, group: str) -> None:
    assert grouping.of(address)[0] == group


def add(evidence: Evidence, address: str, at: float, *, port: int = 8080, is_open: bool = False) -> None:
    listener = evidence.listener("http", evidence.sidecar(Kind.LOG, "a"))
    evidence.add_client(listener, address, port, Speaks.PLAINTEXT, at, at + 1, is_open)


def test_connections_of_one_client_are_one_row_with_its_first_and_last_time() -> None:
    evidence = Evidence(Grouping())
    for at in (50.0, 10.0, 30.0):
        add(evidence, "10.0.0.1:1000", at)
    add(evidence, "10.0.0.1:1001", 60.0, is_open=True)
    (client,) = evidence.clients.values()
    assert (client.connections, client.open, client.first_seen, client.last_seen) == (3, 1, 10.0, 61.0)


def test_ports_are_told_apart() -> None:
    evidence = Evidence(Grouping())
    add(evidence, "10.0.0.1:1000", 1.0, port=8080)
    add(evidence, "10.0.0.1:1000", 1.0, port=9090)
    assert {client.port for client in evidence.clients.values()} == {8080, 9090}


@pytest.mark.parametrize("address", ["10.0.0.9:1", "[2001:db8::9]:1"])
def test_an_ignored_network_makes_no_row_and_is_counted(address: str) -> None:
    ignored = [ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("2001:db8::/32")]
    evidence = Evidence(Grouping(), ignored)
    add(evidence, address, 7.0)
    assert evidence.clients == {}
    assert evidence.ignored_connections == 1
    assert evidence.listeners["http"].ignored == {Speaks.PLAINTEXT: 8.0}


def test_a_group_that_reaches_beyond_an_ignored_network_is_not_ignored() -> None:
    evidence = Evidence(Grouping(16, 64), [ipaddress.ip_network("10.0.0.0/24")])
    add(evidence, "10.0.0.9:1", 7.0)
    assert [client.client for client in evidence.clients.values()] == ["10.0.0.0/16"]


def test_clients_beyond_the_bound_become_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plaintext, "MAX_CLIENTS", 3)
    evidence = Evidence(Grouping())
    for number in range(9):
        add(evidence, f"10.0.0.{number}:1", float(number))
    assert evidence.overflowed
    assert len(evidence.clients) == 4
    assert next(one.connections for one in evidence.clients.values() if one.client == OTHERS) == 6


def test_log_and_metrics_of_one_sidecar_are_not_added_up() -> None:
    evidence = Evidence(Grouping())
    listener = evidence.listener("http", evidence.sidecar(Kind.LOG, "a"))
    listener.count(listener.relayed, Kind.LOG, "plaintext", 3)
    listener.count(listener.relayed, Kind.METRICS, "plaintext", 5)
    listener.count(listener.relayed, Kind.METRICS, "mutual_tls", 9)
    assert listener.words(listener.relayed) == {"mutual_tls": 9, "plaintext": 5}

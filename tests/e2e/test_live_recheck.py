"""
Connections that are open when trust or policy changes: exactly those that would not be let in now end, each with its
own reason, and nobody else notices.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

import pytest

from proxy.tls.authority import Authority
from tests import minting
from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Line, Sidecar, inbound, outbound
from tests.e2e.tlspeers import ask, client_context, connect, end_of, is_served, over_tls
from tests.e2e.waiting import PATIENCE_S, Address, until

Start = Callable[..., Sidecar]
Held = Mapping[str, socket.socket]

PLAINTEXT = "plaintext"


@pytest.fixture
def web(pki: Pki) -> Identity:
    """The sidecar's own identity; it trusts the CA and, for now, the stranger."""
    identity = pki.identity("web")
    identity.bundle.write_bytes(pki.authority.bundle_pem + pki.stranger.bundle_pem)
    return identity


@pytest.fixture
def sidecar(start_sidecar: Start, web: Identity, app: App) -> Sidecar:
    return start_sidecar(web, inbound=[inbound("in", app.address, mode="PERMISSIVE", detection_timeout_s=0.1)])


@contextlib.contextmanager
def holding(address: Address, *, trust: Identity, clients: Mapping[str, Identity]) -> Iterator[Held]:
    """A connection of each client by its name, and one in plaintext; all have carried bytes."""
    with contextlib.ExitStack() as stack:
        held: dict[str, socket.socket] = {}
        for name, identity in clients.items():
            held[name] = stack.enter_context(connect(address, client_context(identity, trust=trust.bundle)))
        held[PLAINTEXT] = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
        for sock in held.values():
            ask(sock)
        yield held


def only(doomed: str, held: Held, sidecar: Sidecar) -> Line:
    """Wait until this one ends by a reset, see that all others are served. Returns: its line."""
    assert end_of(held[doomed]) == "reset"
    assert {name: is_served(sock) for name, sock in held.items() if name != doomed} == {
        name: True for name in held if name != doomed
    }
    (line,) = sidecar.closed(1)
    assert len(sidecar.show("/connections")) == len(held) - 1
    return line


def reload(sidecar: Sidecar) -> None:
    sidecar.write()
    assert sidecar.reload()["result"] != "failed"


def test_a_ca_that_leaves_the_bundle_takes_its_peers_along(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    clients = {"cart": pki.identity("cart"), "guest": pki.identity("guest", issuer=pki.stranger)}
    with holding(sidecar.at("in"), trust=web, clients=clients) as held:
        web.bundle.write_bytes(pki.authority.bundle_pem)
        line = only("guest", held, sidecar)
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("TRUST_WITHDRAWN", clients["guest"].spiffe_id)


def test_a_narrower_policy_ends_whom_it_leaves_out(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    clients = {name: pki.identity(name) for name in ("cart", "payments")}
    with holding(sidecar.at("in"), trust=web, clients=clients) as held:
        sidecar.config["inbound"][0]["allow"] = [clients["payments"].spiffe_id]
        reload(sidecar)
        line = only("cart", held, sidecar)
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("POLICY_CHANGED", clients["cart"].spiffe_id)
    assert sidecar.metric("closed_total", reason="POLICY_CHANGED") == 1
    assert sidecar.metric("rejected_total") == 0


def test_a_chain_that_lapses_ends_its_connection_alone(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    short = pki.write(minting.svid(pki.authority, lifetime_s=4))
    with holding(sidecar.at("in"), trust=web, clients={"short": short, "cart": pki.identity("cart")}) as held:
        line = only("short", held, sidecar)
    assert line["reason"] == "CERTIFICATE_LAPSED"
    assert "our clock says" in line["detail"]


def test_an_intermediate_that_lapses_ends_the_connections_above_it(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    intermediate = pki.authority.intermediate(now=minting.clock(), lifetime_s=3)
    leaf = minting.forge(intermediate, not_after=minting.clock() + timedelta(hours=1))
    with holding(sidecar.at("in"), trust=web, clients={"below": pki.write(leaf)}) as held:
        line = only("below", held, sidecar)
    assert line["reason"] == "CERTIFICATE_LAPSED"


def test_plaintext_ends_when_a_port_becomes_strict(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    with holding(sidecar.at("in"), trust=web, clients={"cart": pki.identity("cart")}) as held:
        sidecar.config["inbound"][0]["mode"] = "STRICT"
        reload(sidecar)
        line = only(PLAINTEXT, held, sidecar)
    assert (line["reason"], line["security"]) == ("POLICY_CHANGED", "plaintext")


def test_a_port_that_opens_up_ends_nobody(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    with holding(sidecar.at("in"), trust=web, clients={"cart": pki.identity("cart")}) as held:
        sidecar.config["inbound"][0] |= {"mode": "DISABLE"}
        for key in ("allow", "detection_timeout_s"):
            del sidecar.config["inbound"][0][key]
        reload(sidecar)
        assert [is_served(sock) for sock in held.values()] == [True, True]


def test_a_rotation_of_our_own_certificate_ends_nobody(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    with holding(sidecar.at("in"), trust=web, clients={"cart": pki.identity("cart")}) as held:
        minting.write_identity(
            web.cert.parent,
            minting.svid(pki.authority, web.spiffe_id),
            {minting.DOMAIN: pki.authority.bundle_pem + pki.stranger.bundle_pem},
        )
        until(lambda: sidecar.show("/certs")["generation"] == 2, "it has rotated")
        assert [is_served(sock) for sock in held.values()] == [True, True]
        assert {row["generation"] for row in sidecar.show("/connections")} == {2}


def test_a_ca_that_is_renewed_with_its_key_ends_nobody(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    renewed = Authority.create(minting.DOMAIN, now=minting.clock(), lifetime_s=7200, key=pki.authority.key)
    with holding(sidecar.at("in"), trust=web, clients={"cart": pki.identity("cart")}) as held:
        web.bundle.write_bytes(renewed.bundle_pem)
        until(lambda: sidecar.show("/certs")["generation"] == 2, "it has rotated")
        assert [is_served(sock) for sock in held.values()] == [True, True]


def test_the_apps_own_tls_ends_when_its_name_leaves_the_list(
    start_sidecar: Start, start_app: Callable[[Serve], App], web: Identity, pki: Pki
) -> None:
    theirs = pki.identity("theirs")
    names = {"mode": "PERMISSIVE", "app_tls": "passthrough", "app_tls_server_names": ["one.test", "two.test"]}
    sidecar = start_sidecar(web, inbound=[inbound("in", start_app(over_tls(theirs, echo)).address, **names)])
    client = client_context(pki.identity("cart"), trust=theirs.bundle)
    with (
        connect(sidecar.at("in"), client, sni="one.test") as one,
        connect(sidecar.at("in"), client, sni="two.test") as two,
    ):
        assert [is_served(one), is_served(two)] == [True, True]
        sidecar.config["inbound"][0]["app_tls_server_names"] = ["two.test"]
        reload(sidecar)
        assert end_of(one) == "reset"
        assert is_served(two)
    assert sidecar.closed()[0]["reason"] == "POLICY_CHANGED"


# Outbound: the server is the peer that is judged again.


@pytest.mark.parametrize("reason", ["TRUST_WITHDRAWN", "POLICY_CHANGED", "CERTIFICATE_LAPSED"])
def test_an_upstream_is_judged_again_too(
    start_sidecar: Start, start_app: Callable[[Serve], App], web: Identity, pki: Pki, reason: str
) -> None:
    payments, orders = pki.identity("payments"), pki.identity("orders", issuer=pki.stranger)
    if reason == "CERTIFICATE_LAPSED":
        orders = pki.write(minting.svid(pki.stranger, orders.spiffe_id, lifetime_s=4))
    apps = [start_app(over_tls(each, echo, trust=payments.bundle)).address for each in (payments, orders)]
    sidecar = start_sidecar(web, outbound=[outbound("kept", apps[0]), outbound("doomed", apps[1])])
    with (
        socket.create_connection(sidecar.at("kept"), timeout=PATIENCE_S) as kept,
        socket.create_connection(sidecar.at("doomed"), timeout=PATIENCE_S) as doomed,
    ):
        assert [is_served(kept), is_served(doomed)] == [True, True]
        if reason == "TRUST_WITHDRAWN":
            web.bundle.write_bytes(pki.authority.bundle_pem)
        elif reason == "POLICY_CHANGED":
            sidecar.config["outbound"][1]["server_ids"] = [payments.spiffe_id]
            reload(sidecar)
        assert end_of(doomed) == "reset"
        assert is_served(kept)
    line = sidecar.closed()[0]
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == (reason, orders.spiffe_id)

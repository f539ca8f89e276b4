"""
Two trust domains whose bundles are never merged: each CA vouches for the names of its own domain alone, in both
directions, and nothing is relayed before that is settled.
"""

import socket
from collections.abc import Callable

import pytest

from proxy.tls.authority import Authority
from tests import minting
from tests.e2e.apps import App, Serve, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.tlspeers import HELLO, client_context, over_tls, what_is_seen
from tests.engines import policy_alert

PARTNER = "partner.example"
PARTNERS_STOCK = f"spiffe://{PARTNER}/edge/stock"
ALL = ["spiffe://example.org/**", f"spiffe://{PARTNER}/**"]

Start = Callable[..., Sidecar]


@pytest.fixture
def partner() -> Authority:
    """The CA of the partner's domain."""
    return minting.authority(PARTNER)


@pytest.fixture
def web(pki: Pki, partner: Authority) -> Identity:
    """The sidecar's own identity, with the partner's bundle beside it."""
    identity = pki.identity("web")
    identity.bundle.with_name(f"{PARTNER}.crt").write_bytes(partner.bundle_pem)
    return identity


def federated(identity: Identity) -> dict[str, object]:
    bundles = {minting.DOMAIN: str(identity.bundle), PARTNER: str(identity.bundle.with_name(f"{PARTNER}.crt"))}
    return {**identity.section(), "bundles": bundles}


def forged(issuer: Authority, spiffe_id: str) -> minting.Svid:
    """A leaf of a name that its issuer has no say in."""
    return minting.forge(issuer, spiffe_id)


def test_each_domain_is_let_in_by_its_own_ca(
    start_sidecar: Start, web: Identity, app: App, pki: Pki, partner: Authority
) -> None:
    sidecar = start_sidecar(federated(web), inbound=[inbound("in", app.address, allow=ALL)])
    clients = [pki.identity("cart"), pki.write(minting.svid(partner, PARTNERS_STOCK))]
    for client in clients:
        assert what_is_seen(sidecar.at("in"), client_context(client, trust=web.bundle)) == "served"
    assert [line["tls"]["peer_spiffe_id"] for line in sidecar.closed(2)] == [each.spiffe_id for each in clients]


def test_no_pattern_of_one_domain_covers_another(
    start_sidecar: Start, web: Identity, app: App, pki: Pki, partner: Authority
) -> None:
    sidecar = start_sidecar(federated(web), inbound=[inbound("in", app.address)])
    client = pki.write(minting.svid(partner, f"spiffe://{PARTNER}/ns/shop/sa/cart"))
    assert what_is_seen(sidecar.at("in"), client_context(client, trust=web.bundle)) == policy_alert()
    assert (sidecar.closed()[0]["reason"], app.accepted) == ("NOT_ALLOWED", 0)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("claims", [minting.CART, PARTNERS_STOCK])
def test_a_client_that_claims_a_name_of_the_other_domain_is_refused(
    start_sidecar: Start, web: Identity, app: App, pki: Pki, partner: Authority, claims: str, version: str
) -> None:
    sidecar = start_sidecar(federated(web), inbound=[inbound("in", app.address, allow=ALL)])
    client = pki.write(forged(pki.authority if PARTNER in claims else partner, claims))
    context = client_context(client, trust=web.bundle, version=version)
    assert what_is_seen(sidecar.at("in"), context) == "UNKNOWN_CA"
    (line,) = sidecar.closed()
    assert (line["reason"], line["tls"]["peer_spiffe_id"], line["bytes_received"]) == ("UNKNOWN_AUTHORITY", claims, 0)
    assert app.accepted == 0


@pytest.mark.parametrize("claims", [minting.CART, PARTNERS_STOCK])
def test_a_server_that_claims_a_name_of_the_other_domain_gets_not_one_byte(
    start_sidecar: Start, start_app: Callable[[Serve], App], web: Identity, pki: Pki, partner: Authority, claims: str
) -> None:
    received: list[bytes] = []
    server = pki.write(forged(pki.authority if PARTNER in claims else partner, claims))

    def keep(sock: socket.socket) -> None:
        received.append(sock.recv(100))

    upstream = start_app(over_tls(server, keep)).address
    sidecar = start_sidecar(federated(web), outbound=[outbound("out", upstream, server_ids=ALL)])
    assert exchange(sidecar.at("out"), HELLO) == b""
    (line,) = sidecar.closed()
    assert (line["reason"], line["tls"]["peer_spiffe_id"], received) == ("UNKNOWN_AUTHORITY", claims, [])


def test_two_bundles_in_one_file_are_no_bundle(
    start_sidecar: Start, web: Identity, app: App, pki: Pki, partner: Authority
) -> None:
    """What spiffe-helper's include_federated_domains writes."""
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)])
    web.bundle.write_bytes(pki.authority.bundle_pem + partner.bundle_pem)
    failure = sidecar.reload()["identity_failure"]
    assert (failure["reason"], PARTNER in failure["detail"]) == ("CERTIFICATE_INVALID", True), failure
    client = pki.write(minting.svid(partner, PARTNERS_STOCK))
    assert what_is_seen(sidecar.at("in"), client_context(client, trust=web.bundle)) == "UNKNOWN_CA"
    assert sidecar.closed()[0]["reason"] == "WRONG_TRUST_DOMAIN"


def test_a_domain_that_leaves_the_configuration_is_trusted_no_more(
    start_sidecar: Start, web: Identity, app: App, pki: Pki, partner: Authority
) -> None:
    sidecar = start_sidecar(federated(web), inbound=[inbound("in", app.address, allow=ALL)])
    client = client_context(pki.write(minting.svid(partner, PARTNERS_STOCK)), trust=web.bundle)
    assert what_is_seen(sidecar.at("in"), client) == "served"
    del sidecar.config["identity"]["bundles"][PARTNER]
    sidecar.write()
    assert sidecar.reload()["result"] != "failed"
    assert what_is_seen(sidecar.at("in"), client) == "UNKNOWN_CA"
    assert sidecar.closed(2)[1]["reason"] == "WRONG_TRUST_DOMAIN"


def test_a_common_name_is_never_an_identity(start_sidecar: Start, web: Identity, app: App, pki: Pki) -> None:
    sidecar = start_sidecar(federated(web), inbound=[inbound("in", app.address, allow=[minting.CART])])
    nameless = pki.write(minting.without_san(pki.authority, subject=minting.CART))
    other = f"{minting.CART}-other"
    disguised = pki.write(minting.forge(pki.authority, other, subject=minting.CART))
    seen = [what_is_seen(sidecar.at("in"), client_context(each, trust=web.bundle)) for each in (nameless, disguised)]
    assert seen == ["UNSUPPORTED_CERTIFICATE", policy_alert()]
    lines = sidecar.closed(2)
    assert [line["reason"] for line in lines] == ["NOT_AN_SVID", "NOT_ALLOWED"]
    assert [line["tls"]["peer_spiffe_id"] for line in lines] == [None, other]
    assert app.accepted == 0

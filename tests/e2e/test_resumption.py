"""
Sessions save handshakes and nothing else: whoever resumes is judged as in a full handshake, over TLS 1.2 and 1.3, and
tickets die with every rotation and every change of policy.

The client is the standard library's, with an OpenSSL of its own; it would resume wherever it is let.
"""

import ssl
from collections.abc import Callable
from typing import NamedTuple

import pytest

from proxy.core.config import Engine
from tests import minting
from tests.e2e.apps import App, exchange
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Line, Sidecar, inbound, outbound
from tests.e2e.tlspeers import HELLO, ask, client_context, connect, what_is_seen
from tests.e2e.waiting import Address, until
from tests.e2e.workers import kill, only, pids
from tests.engines import policy_alert

Start = Callable[..., Sidecar]

each_version = pytest.mark.parametrize("version", ["1.2", "1.3"])


class Met(NamedTuple):
    """A conversation that is over: whether it was resumed, and what the client may resume with."""

    resumed: bool
    session: ssl.SSLSession


def meet(address: Address, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Met:
    """Connect, exchange bytes and end in order."""
    with connect(address, context, session=session) as sock:
        ask(sock)
        met = Met(bool(sock.session_reused), sock.session)  # type: ignore[arg-type]
        sock.unwrap().close()
    return met


@pytest.fixture
def sidecar(start_sidecar: Start, web: Identity, app: App) -> Sidecar:
    """Two listeners with other rules: `in` for everybody, `narrow` for payments alone."""
    narrow = inbound("narrow", app.address, allow=["spiffe://example.org/ns/shop/sa/payments"])
    return start_sidecar(web, inbound=[inbound("in", app.address), narrow])


def rotate(pki: Pki, identity: Identity, sidecar: Sidecar) -> None:
    """A new certificate for it, and wait until it is in force."""
    before = sidecar.show("/certs")["generation"]
    minting.write_identity(
        identity.cert.parent, minting.svid(pki.authority, identity.spiffe_id), {minting.DOMAIN: pki.authority}
    )
    until(lambda: sidecar.show("/certs")["generation"] > before, "the certificate has rotated")


def set_policy(sidecar: Sidecar, **keys: object) -> None:
    sidecar.config["inbound"][0] |= keys
    sidecar.write()
    assert sidecar.reload()["result"] != "failed"


def last(sidecar: Sidecar, count: int) -> Line:
    return sidecar.closed(count)[-1]


@each_version
def test_a_known_client_resumes_and_is_named_as_before(sidecar: Sidecar, pki: Pki, web: Identity, version: str) -> None:
    cart = pki.identity("cart")
    client = client_context(cart, trust=web.bundle, version=version)
    first = meet(sidecar.at("in"), client)
    second = meet(sidecar.at("in"), client, first.session)
    third = meet(sidecar.at("in"), client, second.session)
    assert [first.resumed, second.resumed, third.resumed] == [False, True, True]
    for line, resumed in zip(sidecar.closed(3), [False, True, True], strict=True):
        tls = line["tls"]
        assert (tls["resumed"], tls["peer_spiffe_id"], tls["version"]) == (resumed, cart.spiffe_id, f"TLSv{version}")
    assert sidecar.metric("handshakes_total", resumed="true") == 2


@each_version
def test_a_client_whose_certificate_has_expired_does_not_resume(
    sidecar: Sidecar, app: App, pki: Pki, web: Identity, version: str
) -> None:
    svid = minting.svid(pki.authority, lifetime_s=3)
    client = client_context(pki.write(svid), trust=web.bundle, version=version)
    met = meet(sidecar.at("in"), client)
    served = app.accepted
    until(lambda: minting.clock() > svid.leaf.not_valid_after_utc, "the certificate has expired")
    assert what_is_seen(sidecar.at("in"), client, session=met.session) == "CERTIFICATE_EXPIRED"
    line = last(sidecar, 2)
    assert (line["reason"], line["tls"]["peer_spiffe_id"], app.accepted) == (
        "CERTIFICATE_EXPIRED",
        minting.CART,
        served,
    )
    assert "our clock says" in line["detail"]


@each_version
def test_tickets_die_with_a_rotation(sidecar: Sidecar, pki: Pki, web: Identity, version: str) -> None:
    client = client_context(pki.identity("cart"), trust=web.bundle, version=version)
    met = meet(sidecar.at("in"), client)
    rotate(pki, web, sidecar)
    again = meet(sidecar.at("in"), client, met.session)
    assert (again.resumed, meet(sidecar.at("in"), client, again.session).resumed) == (False, True)


@each_version
def test_a_ticket_gets_nobody_past_a_new_policy(sidecar: Sidecar, pki: Pki, web: Identity, version: str) -> None:
    cart, other = pki.identity("cart"), pki.identity("other")
    clients = [client_context(each, trust=web.bundle, version=version) for each in (cart, other)]
    mets = [meet(sidecar.at("in"), client) for client in clients]
    set_policy(sidecar, deny=[cart.spiffe_id])
    assert what_is_seen(sidecar.at("in"), clients[0], session=mets[0].session) == policy_alert()
    assert meet(sidecar.at("in"), clients[1], mets[1].session).resumed is False
    assert {line["reason"] for line in sidecar.closed(4)} == {"COMPLETED", "DENIED"}


@each_version
def test_a_ticket_gets_nobody_past_a_ca_that_left_the_bundle(
    start_sidecar: Start, app: App, pki: Pki, web: Identity, version: str
) -> None:
    web.bundle.write_bytes(pki.authority.bundle_pem + pki.stranger.bundle_pem)
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)])
    client = client_context(pki.identity("cart", issuer=pki.stranger), trust=web.bundle, version=version)
    met = meet(sidecar.at("in"), client)
    web.bundle.write_bytes(pki.authority.bundle_pem)
    until(lambda: sidecar.show("/certs")["generation"] == 2, "the CA has left")
    assert what_is_seen(sidecar.at("in"), client, session=met.session) == "UNKNOWN_CA"
    assert last(sidecar, 2)["reason"] == "UNKNOWN_AUTHORITY"


@each_version
def test_a_ticket_of_one_listener_gives_nothing_on_another(
    sidecar: Sidecar, pki: Pki, web: Identity, version: str
) -> None:
    cart, payments = pki.identity("cart"), pki.identity("payments")
    client = client_context(cart, trust=web.bundle, version=version)
    met = meet(sidecar.at("in"), client)
    assert what_is_seen(sidecar.at("narrow"), client, session=met.session) == policy_alert()
    client = client_context(payments, trust=web.bundle, version=version)
    met = meet(sidecar.at("in"), client)
    assert meet(sidecar.at("narrow"), client, met.session).resumed is False
    assert [line["reason"] for line in sidecar.closed(4)] == ["COMPLETED", "NOT_ALLOWED", "COMPLETED", "COMPLETED"]


@each_version
def test_a_look_that_finds_nothing_new_costs_no_session(
    sidecar: Sidecar, pki: Pki, web: Identity, version: str
) -> None:
    client = client_context(pki.identity("cart"), trust=web.bundle, version=version)
    met = meet(sidecar.at("in"), client)
    assert sidecar.reload()["result"] == "unchanged"
    assert meet(sidecar.at("in"), client, met.session).resumed is True


# The other direction: our outbound as the client that keeps sessions.


class Pair(NamedTuple):
    """Two sidecars in a row; the second one says in its log what was resumed."""

    ours: Sidecar
    theirs: Sidecar

    def call(self, count: int) -> list[bool]:
        """Call so many times. Returns: whether each was resumed, which both sides say alike."""
        already = int(self.theirs.metric("closed_total"))
        for number in range(1, count + 1):
            assert exchange(self.ours.at("out"), HELLO) == HELLO
            self.ours.closed(already + number)
            self.theirs.closed(already + number)
        both = [[line["tls"]["resumed"] for line in side.closed(already + count)[already:]] for side in self]
        assert both[0] == both[1]
        return both[0]


@pytest.fixture
def start_pair(start_sidecar: Start, app: App, pki: Pki, web: Identity) -> Callable[..., Pair]:
    def start(version: str, identity: Identity, **keys: object) -> Pair:
        theirs = start_sidecar(web, inbound=[inbound("in", app.address)], tls={"max_version": version})
        return Pair(start_sidecar(identity, outbound=[outbound("out", theirs.at("in"), **keys)]), theirs)

    return start


@each_version
def test_our_outbound_keeps_its_session_until_it_rotates(
    start_pair: Callable[..., Pair], pki: Pki, version: str
) -> None:
    cart = pki.identity("cart")
    pair = start_pair(version, cart)
    assert pair.call(3) == [False, True, True]
    rotate(pki, cart, pair.ours)
    assert pair.call(2) == [False, True]


@each_version
def test_our_outbound_gets_on_when_the_upstream_rotates(
    start_pair: Callable[..., Pair], pki: Pki, web: Identity, version: str
) -> None:
    pair = start_pair(version, pki.identity("cart"))
    assert pair.call(2) == [False, True]
    rotate(pki, web, pair.theirs)
    assert pair.call(2) == [False, True]


@each_version
def test_our_outbound_keeps_no_session_when_it_is_not_to(
    start_pair: Callable[..., Pair], pki: Pki, version: str
) -> None:
    assert start_pair(version, pki.identity("cart"), resume=False).call(3) == [False, False, False]


@each_version
def test_our_outbound_judges_a_server_that_it_resumes_with_by_new_rules(
    start_pair: Callable[..., Pair], pki: Pki, version: str
) -> None:
    pair = start_pair(version, pki.identity("cart"))
    assert pair.call(2) == [False, True]
    pair.ours.config["outbound"][0]["server_ids"] = ["spiffe://example.org/ns/shop/sa/payments"]
    pair.ours.write()
    assert pair.ours.reload()["result"] != "failed"
    assert exchange(pair.ours.at("out"), HELLO) == b""
    assert last(pair.ours, 3)["reason"] == "SERVER_ID_MISMATCH"


@each_version
def test_a_ticket_of_one_worker_opens_at_every_other_and_at_one_that_was_started_since(
    start_sidecar: Start, engine: Engine, app: App, pki: Pki, web: Identity, version: str
) -> None:
    sidecar = start_sidecar(web, inbound=[inbound("in", app.address)], workers=2)
    until(lambda: "2 of 2" in sidecar.ask("GET", "/ready")[1], "both workers are ready")
    client = client_context(pki.identity("cart"), trust=web.bundle, version=version)

    with only(sidecar, 1):
        met = meet(sidecar.at("in"), client)
    with only(sidecar, 2):
        elsewhere = meet(sidecar.at("in"), client, met.session)
    kill(pids(sidecar)[1])
    until(lambda: "2 of 2" in sidecar.ask("GET", "/ready")[1], "both workers are ready again")
    with only(sidecar, 1):
        later = meet(sidecar.at("in"), client, elsewhere.session)

    # OpenSSL gives no chain with a session, so what one worker has not verified itself, it lets nobody resume.
    expected = engine is Engine.BORINGSSL
    assert (elsewhere.resumed, later.resumed) == (expected, expected)
    assert [line["worker"] for line in sidecar.closed(3)] == [1, 2, 1]

"""One handshake looked at closely: bytes, flights, and what went wrong in a sentence."""

import ssl
from pathlib import Path

import pytest

from proxy.core.reasons import Reason
from proxy.lab.generator import LoadFault
from proxy.lab.observe import observe, sends_tickets_last
from proxy.tls.loadcontext import Offer
from tests import minting
from tests.lab.tlsserver import (
    SERVER,
    Ends,
    answer,
    late_ticket_server,
    make_ends,
    plan_for,
    server_context,
    tls_server,
)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"), dns_names=("orders.test",))


@pytest.mark.parametrize(
    ("version", "resumed", "round_trips"), [("1.2", False, 4), ("1.2", True, 3), ("1.3", False, 3), ("1.3", True, 3)]
)
def test_round_trips_to_the_first_byte_are_those_of_the_standards(
    ends: Ends, version: str, resumed: bool, round_trips: int
) -> None:
    """TCP has one. Source: RFC 5246 7.3, figures 1 and 2; RFC 8446 2, figures 1 and 3."""
    with tls_server(server_context(ends)) as address:
        observed = observe(plan_for(address, ends.credentials(), version, resumed=resumed))
    assert (observed.round_trips, observed.resumed) == (round_trips, resumed)
    assert observed.negotiated.version == version


def test_a_resumed_handshake_has_no_certificate_in_its_bytes(ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        full = observe(plan_for(address, ends.credentials()))
        resumed = observe(plan_for(address, ends.credentials(), resumed=True))
    assert resumed.bytes_received < full.bytes_received - 300


def test_a_hello_retry_costs_a_round_trip_and_is_seen(ends: Ends) -> None:
    """A client whose key share is of another group than the server wants has to begin again (RFC 8446 4.1.4)."""
    context = server_context(ends, "1.3")
    context.set_ecdh_curve("secp384r1")
    with tls_server(context) as address:
        observed = observe(plan_for(address, ends.credentials()))
    assert observed.round_trips == 4
    assert observed.negotiated.group == "P-384"


def test_the_name_of_a_server_is_enough_where_its_certificate_holds_it(ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        assert observe(plan_for(address, ends.credentials(server_ids=(), server_name="orders.test")))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", ["other.test", "127.0.0.1"])
def test_a_server_of_another_name_is_refused_and_its_names_are_shown(ends: Ends, version: str, name: str) -> None:
    with tls_server(server_context(ends)) as address:
        fault = refused(plan_for(address, ends.credentials(server_ids=(), server_name=name), version))
    assert fault.reason is Reason.SERVER_ID_MISMATCH
    assert f"it is for {SERVER}, orders.test" in str(fault)
    assert "--server-id spiffe://" in str(fault)


def test_a_server_of_another_spiffe_id_is_refused_and_named(ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        fault = refused(plan_for(address, ends.credentials(server_ids=("spiffe://example.org/ns/web/**",))))
    assert fault.reason is Reason.SERVER_ID_MISMATCH
    assert f"the server is {SERVER}, expected was spiffe://example.org/ns/web/**" in str(fault)


def test_a_server_of_another_ca_is_refused_and_the_option_named(ends: Ends, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(minting.authority("other.org").bundle_pem)
    with tls_server(server_context(ends)) as address:
        fault = refused(plan_for(address, ends.credentials(ca=str(other))))
    assert fault.reason is Reason.UNKNOWN_AUTHORITY
    assert str(fault).endswith("Name the CA that issued the server's certificate with --ca")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_without_a_certificate_is_told_how_to_give_one(ends: Ends, version: str) -> None:
    with tls_server(server_context(ends)) as address:
        fault = refused(plan_for(address, ends.credentials(cert=None, key=None), version))
    assert fault.reason is Reason.UPSTREAM_REJECTED_US
    assert "with --cert and --key" in str(fault)


def test_an_unreachable_server_is_said_with_its_address(ends: Ends) -> None:
    with tls_server(None) as address:
        pass
    fault = refused(plan_for(address, ends.credentials()))
    assert str(fault) == (
        f"127.0.0.1 port {address[1]} cannot be reached (connection refused). Does the server listen there? "
        "Check --target"
    )


def test_a_name_without_an_address_is_said(ends: Ends) -> None:
    fault = refused(plan_for(("nobody.invalid", 443), ends.credentials()))
    assert fault.reason is Reason.UPSTREAM_UNRESOLVED
    assert str(fault).startswith("the name nobody.invalid has no address")


def test_a_silent_server_is_given_up_at_the_deadline(ends: Ends) -> None:
    with tls_server(None) as address:
        fault = refused(plan_for(address, ends.credentials(), timeout_s=0.1))
    assert fault.reason is Reason.HANDSHAKE_TIMEOUT


def test_a_ticket_that_comes_with_the_servers_end_is_acceptance_where_the_client_says_its_own(ends: Ends) -> None:
    context = server_context(ends, "1.3")
    with late_ticket_server(context) as address:
        plan = plan_for(address, ends.credentials(), request=b"", timeout_s=0.2)
        assert refused(plan).reason is Reason.HANDSHAKE_TIMEOUT
        assert sends_tickets_last(plan)
        assert observe(plan_for(address, ends.credentials(), request=b"", farewell=True)).round_trips == 3


def test_a_server_that_ends_without_any_ticket_has_not_accepted(ends: Ends) -> None:
    with late_ticket_server(server_context(ends, "1.3"), tickets=False) as address:
        plan = plan_for(address, ends.credentials(), request=b"", timeout_s=0.2)
        assert not sends_tickets_last(plan)
        late = refused(plan_for(address, ends.credentials(), request=b"", farewell=True))
    assert late.reason is Reason.UPSTREAM_REJECTED_US


@pytest.mark.parametrize("trusted", ["itself", "a stranger"])
def test_a_server_with_tickets_of_its_own_accord_or_that_refuses_needs_no_farewell(
    ends: Ends, trusted: str, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(minting.authority("other.org").bundle_pem)
    context = server_context(ends, "1.3", trusted=None if trusted == "itself" else stranger)
    with tls_server(context) as address:
        assert not sends_tickets_last(plan_for(address, ends.credentials(), request=b""))


def test_a_server_that_refuses_is_not_accepted_for_a_farewell(ends: Ends, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(minting.authority("other.org").bundle_pem)
    with tls_server(server_context(ends, "1.3", trusted=stranger)) as address:
        fault = refused(plan_for(address, ends.credentials(), request=b"", farewell=True))
    assert fault.reason is Reason.UPSTREAM_REJECTED_US


def test_protocols_are_offered_to_a_server_that_selects_one(ends: Ends) -> None:
    selected: list[str | None] = []

    def serve(sock: ssl.SSLSocket) -> None:
        selected.append(sock.selected_alpn_protocol())
        answer(sock)

    context = server_context(ends)
    context.set_alpn_protocols(["http/1.1"])
    with tls_server(context, serve) as address:
        observe(plan_for(address, ends.credentials(), offer=Offer(alpn=("h2", "http/1.1"))))
        observe(plan_for(address, ends.credentials()))
    assert selected == ["http/1.1", None]


def refused(plan: object) -> LoadFault:
    with pytest.raises(LoadFault) as caught:
        observe(plan)  # type: ignore[arg-type]
    return caught.value

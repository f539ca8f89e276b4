"""
A configuration that changes while the sidecar runs: in force whole, or not at all and said why. Live connections that
the change does not concern never notice.
"""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.apps import App, Serve, exchange
from tests.e2e.endings import finish_and_stay
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Line, Sidecar, inbound
from tests.e2e.tlspeers import HELLO, ask, client_context, end_of, is_served, what_is_seen
from tests.e2e.waiting import HOST, PATIENCE_S, Address, free_address, is_listening, text_of, until

Start = Callable[..., Sidecar]


@pytest.fixture
def sidecar(start_sidecar: Start, web: Identity, app: App) -> Sidecar:
    """One plaintext listener `in`."""
    return start_sidecar(web, inbound=[plain("in", app)])


def plain(name: str, app: App, **keys: object) -> dict[str, object]:
    return inbound(name, app.address, mode="DISABLE", **keys)


def hold(address: Address) -> socket.socket:
    sock = socket.create_connection(address, timeout=PATIENCE_S)
    ask(sock)
    return sock


def publish(sidecar: Sidecar) -> Line:
    """Write the configuration and have it read. Returns: the outcome, which is good."""
    sidecar.write()
    outcome = sidecar.reload()
    assert outcome["result"] in ("published", "unchanged"), outcome  # the latter where the watch was quicker
    return outcome


def refuse(sidecar: Sidecar) -> Line:
    """Write a configuration that cannot be put in force. Returns: why."""
    sidecar.write()
    outcome = sidecar.reload()
    assert outcome["result"] == "failed", outcome
    failure: Line = outcome["configuration_failure"]
    assert sidecar.show("/certs")["configuration_failure"]["reason"] == failure["reason"]
    return failure


def set_timeouts(sidecar: Sidecar, **timeouts: float) -> None:
    sidecar.config["timeouts"] = timeouts
    publish(sidecar)


def test_a_listener_is_added_and_taken_away_while_others_serve(sidecar: Sidecar, app: App) -> None:
    with hold(sidecar.at("in")) as held:
        sidecar.config["inbound"].append(plain("more", app))
        publish(sidecar)
        assert exchange(sidecar.at("more"), HELLO) == HELLO
        bound = {row["listener"]: row["address"] for row in sidecar.show("/config")["listening"]}
        assert bound == {name: text_of(sidecar.at(name)) for name in ("in", "more")}
        with hold(sidecar.at("more")) as doomed:
            gone = sidecar.at("more")
            del sidecar.config["inbound"][1]
            publish(sidecar)
            assert not is_listening(gone)
            assert end_of(doomed) == "reset"
        assert is_served(held)
    assert {line["reason"] for line in sidecar.closed(3) if line["listener"] == "more"} == {
        "COMPLETED",
        "POLICY_CHANGED",
    }


def test_a_listener_moves_to_another_port(sidecar: Sidecar) -> None:
    before = sidecar.at("in")
    with hold(before) as held:
        sidecar.config["inbound"][0]["listen"] = text_of(free_address())
        publish(sidecar)
        assert exchange(sidecar.at("in"), HELLO) == HELLO
        assert not is_listening(before)
        assert is_served(held)


def test_a_listener_moves_to_another_host_of_the_same_port(sidecar: Sidecar) -> None:
    port = sidecar.at("in")[1]
    with hold(sidecar.at("in")) as held:
        sidecar.config["inbound"][0]["listen"] = f"127.0.0.1:{port}"
        publish(sidecar)
        assert exchange(("127.0.0.1", port), HELLO) == HELLO
        assert not is_listening((HOST, port))
        assert is_served(held)


def test_a_listener_that_would_cover_its_own_address_says_that_it_is_its_own(sidecar: Sidecar) -> None:
    before = sidecar.config["inbound"][0]["listen"]
    sidecar.config["inbound"][0]["listen"] = f"0.0.0.0:{sidecar.at('in')[1]}"
    failure = refuse(sidecar)
    assert (failure["reason"], f"this sidecar itself listens on {before}" in failure["detail"]) == (
        "CONFIG_FAULT",
        True,
    )
    sidecar.config["inbound"][0]["listen"] = before
    assert exchange(sidecar.at("in"), HELLO) == HELLO


def test_a_unix_listener_moves_there_and_back_and_leaves_no_file(
    start_sidecar: Start, web: Identity, app: App, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.sock", tmp_path / "there.sock"
    sidecar = start_sidecar(web, inbound=[{**plain("in", app), "listen": f"unix:{here}"}])
    for path, other in ((there, here), (here, there)) * 3:
        sidecar.config["inbound"][0]["listen"] = f"unix:{path}"
        publish(sidecar)
        assert (path.is_socket(), other.exists()) == (True, False)


def test_words_of_tls_that_our_own_key_cannot_serve_are_refused_as_that(sidecar: Sidecar) -> None:
    sidecar.config["tls"] = {"max_version": "1.2", "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]}
    failure = refuse(sidecar)  # its key is ECDSA
    assert (failure["reason"], "our own certificate" in failure["detail"]) == ("NO_SHARED_CIPHER", True)
    assert exchange(sidecar.at("in"), HELLO) == HELLO


def test_two_listeners_change_places(sidecar: Sidecar, app: App, start_app: Callable[[Serve], App]) -> None:
    other = start_app(lambda sock: sock.sendall(b"other"))
    sidecar.config["inbound"].append(plain("other", other))
    publish(sidecar)
    one, two = sidecar.config["inbound"]
    one["listen"], two["listen"] = two["listen"], one["listen"]
    publish(sidecar)
    assert exchange(sidecar.at("other"), b"", expect=5) == b"other"
    assert exchange(sidecar.at("in"), HELLO) == HELLO


def test_a_listener_takes_a_new_name_on_its_address(sidecar: Sidecar) -> None:
    sidecar.config["inbound"][0]["name"] = "renamed"
    publish(sidecar)
    assert exchange(sidecar.at("renamed"), HELLO) == HELLO
    assert sidecar.closed()[0]["listener"] == "renamed"


def test_another_upstream_is_for_new_connections(sidecar: Sidecar, start_app: Callable[[Serve], App]) -> None:
    other = start_app(lambda sock: sock.sendall(b"other"))
    with hold(sidecar.at("in")) as held:
        sidecar.config["inbound"][0]["upstream"] = text_of(other.address)
        publish(sidecar)
        assert exchange(sidecar.at("in"), b"", expect=5) == b"other"
        assert is_served(held)


def test_a_shorter_idle_time_reaches_live_connections(sidecar: Sidecar) -> None:
    with hold(sidecar.at("in")) as held:
        set_timeouts(sidecar, idle_s=0.3)
        assert end_of(held) == "reset"
    assert sidecar.closed()[0]["reason"] == "IDLE_TIMEOUT"


def test_a_shorter_life_reaches_live_connections(sidecar: Sidecar) -> None:
    with hold(sidecar.at("in")) as held:
        set_timeouts(sidecar, max_lifetime_s=0.1)
        assert end_of(held) == "reset"
    assert sidecar.closed()[0]["reason"] == "LIFETIME_ENDED"


def test_a_shorter_half_close_reaches_live_connections(
    start_sidecar: Start, web: Identity, start_app: Callable[[Serve], App]
) -> None:
    sidecar = start_sidecar(web, inbound=[plain("in", start_app(finish_and_stay))])
    with hold(sidecar.at("in")) as held:
        assert held.recv(1) == b""
        set_timeouts(sidecar, half_close_s=0.2)
        assert sidecar.closed()[0]["reason"] == "HALF_CLOSE_TIMEOUT"


def test_a_lower_limit_holds_from_now_on_and_ends_nobody(sidecar: Sidecar) -> None:
    with hold(sidecar.at("in")) as held:
        sidecar.config["limits"] = {"connections": 1}
        publish(sidecar)
        assert what_is_seen(sidecar.at("in"), None) == "reset"
        assert is_served(held)
        sidecar.config["limits"] = {"connections": 2}
        publish(sidecar)
        assert exchange(sidecar.at("in"), HELLO) == HELLO


def test_the_log_level_follows_the_file_and_the_endpoint(sidecar: Sidecar) -> None:
    sidecar.config["log"] = {"level": "error"}
    publish(sidecar)
    assert exchange(sidecar.at("in"), HELLO) == HELLO
    until(lambda: sidecar.metric("closed_total") == 1, "it is over")
    assert sidecar.ask("PUT", "/log-level", "info")[0] == 200
    assert exchange(sidecar.at("in"), HELLO) == HELLO
    until(lambda: sidecar.metric("closed_total") == 2, "it is over")
    (line,) = sidecar.closed()
    assert sidecar.ask("PUT", "/log-level", "loud")[0] == 400
    assert line["reason"] == "COMPLETED"
    assert [each["event"] for each in map(dict, sidecar.lines("connection"))] == ["connection"]


def test_the_admin_endpoint_moves(sidecar: Sidecar) -> None:
    before, sidecar.admin = sidecar.admin, free_address()
    sidecar.config["admin"] = {"listen": text_of(sidecar.admin)}
    sidecar.write()
    until(lambda: is_listening(sidecar.admin) and not is_listening(before), "it has moved")
    assert sidecar.ask("GET", "/ready")[0] == 200


def test_a_key_of_the_admin_endpoint_changes_on_its_address(sidecar: Sidecar) -> None:
    sidecar.config["admin"]["allow_remote"] = True
    publish(sidecar)
    until(lambda: is_listening(sidecar.admin), "it is there again")
    assert sidecar.ask("GET", "/ready")[0] == 200


def test_a_health_listener_comes_and_goes(sidecar: Sidecar) -> None:
    health = free_address()
    sidecar.config["health"] = {"listen": text_of(health)}
    publish(sidecar)
    assert is_listening(health)
    sidecar.config["health"] = None
    publish(sidecar)
    assert not is_listening(health)


def test_what_cannot_change_in_place_is_said_and_kept(sidecar: Sidecar, app: App) -> None:
    sidecar.config |= {"workers": 2, "log": {"format": "console"}}
    sidecar.config["inbound"].append(plain("more", app))
    publish(sidecar)
    said = {line["detail"].split()[0] for line in sidecar.lines("notice", 2)}
    assert said == {"workers", "log.format"}
    shown = sidecar.show("/config")
    assert (shown["workers"], shown["log"]["format"]) == (1, "json")
    assert exchange(sidecar.at("more"), HELLO) == HELLO


def test_a_port_in_use_keeps_everything_as_it_was(sidecar: Sidecar, app: App) -> None:
    before = sidecar.at("in")
    with hold(before) as held:
        fresh = free_address()
        sidecar.config["inbound"] = [
            {**plain("in", app), "listen": text_of(fresh)},
            {**plain("taken", app), "listen": text_of(app.address)},
        ]
        sidecar.config["timeouts"] = {"max_lifetime_s": 0.1}
        failure = refuse(sidecar)
        assert (failure["reason"], text_of(app.address) in failure["detail"]) == ("CONFIG_FAULT", True)
        assert exchange(before, HELLO) == HELLO
        assert is_served(held)
        assert not is_listening(fresh)
        assert sidecar.show("/config")["timeouts"]["max_lifetime_s"] == 0


def test_a_configuration_with_faults_keeps_certificates_rotating(sidecar: Sidecar, web: Identity, pki: Pki) -> None:
    sidecar.config["inbound"][0]["mode"] = "LAX"
    assert refuse(sidecar)["reason"] == "CONFIG_FAULT"
    fresh = pki.identity("web")
    for ours, theirs in ((web.key, fresh.key), (web.cert, fresh.cert)):
        ours.write_bytes(theirs.read_bytes())
    until(lambda: sidecar.show("/certs")["generation"] == 2, "the certificate has rotated")
    assert sidecar.show("/certs")["configuration_failure"]["reason"] == "CONFIG_FAULT"
    sidecar.config["inbound"][0]["mode"] = "DISABLE"
    publish(sidecar)
    assert "configuration_failure" not in sidecar.show("/certs")


def test_the_identity_moves_to_other_files_which_are_watched_from_then_on(
    start_sidecar: Start, pki: Pki, app: App, tmp_path: Path
) -> None:
    first, second = pki.identity("web"), pki.identity("web2")
    sidecar = start_sidecar(first, inbound=[inbound("in", app.address)])
    sidecar.config["identity"] = second.section(refresh_s=60)
    publish(sidecar)
    assert sidecar.show("/certs")["spiffe_id"] == second.spiffe_id
    third = pki.identity("web2")
    second.key.write_bytes(third.key.read_bytes())
    second.cert.write_bytes(third.cert.read_bytes())
    until(lambda: sidecar.show("/certs")["generation"] == 3, "the new files are watched")
    client = client_context(pki.identity("cart"), trust=first.bundle)
    assert what_is_seen(sidecar.at("in"), client) == "served"


def test_a_configuration_file_that_is_gone_for_a_moment_changes_nothing(sidecar: Sidecar) -> None:
    text = sidecar.file.read_text()
    sidecar.file.unlink()
    until(lambda: "configuration_failure" in sidecar.show("/certs"), "it is missed")
    assert exchange(sidecar.at("in"), HELLO) == HELLO
    sidecar.file.write_text(text)
    until(lambda: "configuration_failure" not in sidecar.show("/certs"), "it is back")
    mended = "the configuration is good again, and the same as the one that stayed in force"
    until(lambda: mended in [line["detail"] for line in map(dict, sidecar.lines("notice"))], "the log says so")
    assert sidecar.show("/certs")["generation"] == 1


def test_a_draining_sidecar_takes_no_new_configuration(sidecar: Sidecar, app: App) -> None:
    with hold(sidecar.at("in")):
        sidecar.ask("POST", "/drain")
        until(lambda: not is_listening(sidecar.at("in")), "it drains")
        sidecar.config["inbound"].append(plain("more", app))
        sidecar.write()
        outcome = sidecar.reload()
        assert (outcome["result"], "draining" in outcome["detail"]) == ("failed", True)
        assert not is_listening(sidecar.at("more"))

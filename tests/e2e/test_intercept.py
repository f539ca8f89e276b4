"""
Transparent mode, end to end: applications that were never configured, in Pods made of network namespaces.

app A (curl) -> A's sidecar by interception -> mutual TLS -> B's sidecar by interception -> app B, and everything that
must not go that way: what is excluded, what the Pod says to itself, what no route is for, what would go in circles.
"""

import socket
import ssl

import pytest

from tests.e2e.apps import echo, http_hello, saying
from tests.e2e.pki import Pki
from tests.e2e.pods import EVERYBODY, Namespace, Node, Pod, PodSidecar, interception
from tests.e2e.tlspeers import HELLO, ask, client_context, over_tls
from tests.e2e.waiting import until

pytestmark = pytest.mark.needs("ip", "iptables", "nft", "nsenter", "setpriv", "unshare", "curl")

PORT = 8080
VIP = "10.96.0.10"
NODE = "10.88.0.1"


def heard(client: Namespace, host: str, port: int) -> bytes:
    """What a plaintext client hears for HELLO: nothing where it is refused, be it before connect(2) has returned."""
    try:
        with client.dial((host, port)) as sock:
            return ask(sock)
    except (ConnectionError, EOFError):
        return b""


def pair(node: Node, pki: Pki, **of_b: object) -> tuple[Pod, PodSidecar, Pod, PodSidecar]:
    """Pods A and B with rules and sidecars. of_b: of B's section `intercept`"""
    a, b = node.pod("a"), node.pod("b")
    a.apply("--no-validate")
    b.apply("--no-validate")
    of_a = a.sidecar(pki.identity("a"), intercept=interception())
    return a, of_a, b, b.sidecar(pki.identity("b"), intercept=interception(**of_b))  # type: ignore[arg-type]


def alone(node: Node, pki: Pki, *options: str, **sections: object) -> tuple[Pod, PodSidecar]:
    """One Pod. options: of `intercept apply`; sections: of the configuration, and the uid of its sidecar"""
    pod = node.pod("pod")
    pod.apply("--no-validate", *options)
    sections.setdefault("intercept", interception())
    return pod, pod.sidecar(pki.identity("pod"), **sections)  # type: ignore[arg-type]


@pytest.mark.parametrize(("backend", "workers"), [("nft", 1), ("iptables-nft", 2), ("iptables-legacy", 1)])
def test_two_apps_that_know_of_nothing_speak_mutual_tls(node: Node, pki: Pki, backend: str, workers: int) -> None:
    a, b = node.pod("a"), node.pod("b")
    said = a.intercept("apply", "--backend", backend)
    if said.returncode == 1 and backend == "iptables-legacy":
        pytest.skip(f"this kernel does without ip_tables: {said.stderr}")
    assert said.returncode == 0, said
    b.apply("--backend", backend)
    app = b.app(http_hello, PORT)
    of_a = a.sidecar(pki.identity("a"), intercept=interception(), workers=workers)
    of_b = b.sidecar(pki.identity("b"), intercept=interception(), workers=workers)
    for family in (4, 6):
        assert a.curl(f"http://{b.host(family)}:{PORT}/") == (0, 200, "hello", "")
    assert app.accepted == 2
    for sidecar, direction, peer in ((of_a, "outbound", "b"), (of_b, "inbound", "a")):
        lines = sidecar.closed(2)
        assert {line["upstream_address"] for line in lines} == {f"{b.host(family)}:{PORT}" for family in (4, 6)}
        assert {line["downstream_remote_address"].rpartition(":")[0] for line in lines} == {a.v4, f"[{a.v6}]"}
        assert {(line["direction"], line["security"], line["reason"]) for line in lines} == {
            (direction, "mutual_tls", "COMPLETED")
        }
        assert {line["tls"]["peer_spiffe_id"] for line in lines} == {f"spiffe://example.org/ns/shop/sa/{peer}"}


def test_a_route_is_by_the_address_that_the_app_dialed(node: Node, pki: Pki) -> None:
    """A Service's address is rewritten on the node, behind the sidecar: the route names the Services' network."""
    a, of_a, b, _ = pair(node, pki)
    b.app(http_hello, PORT)
    node.service(VIP, b)
    of_a.config["intercept"]["outbound"]["routes"] = [
        {"to": "10.96.0.0/12", "ports": [PORT], "server_ids": ["spiffe://example.org/ns/shop/sa/b"], "name": "b"}
    ]
    of_a.write()
    assert of_a.reload()["result"] == "published"
    assert a.curl(f"http://{VIP}:{PORT}/").body == "hello"
    (line,) = of_a.closed()
    assert (line["listener"], line["upstream_address"], line["security"]) == ("b", f"{VIP}:{PORT}", "mutual_tls")
    assert of_a.metric("connections_total", direction="outbound", listener="b", security="mutual_tls") == 1


def test_each_port_has_its_own_mode(node: Node, pki: Pki) -> None:
    ports = {
        PORT: {"mode": "STRICT", "allow": ["spiffe://example.org/ns/shop/sa/nobody"]},
        8081: {"mode": "PERMISSIVE", "allow": EVERYBODY},
        8082: {"mode": "DISABLE"},
    }
    a, _, b, of_b = pair(node, pki, ports=ports)
    for port in ports:
        b.app(echo, port)
    assert [heard(node, b.v4, port) for port in ports] == [b"", HELLO, HELLO]
    assert [heard(a, b.v4, port) for port in (PORT, 8081)] == [b"", HELLO]
    found = {(line["listener"], line["security"], line["reason"]) for line in of_b.closed(5)}
    assert found == {
        ("intercept-8080", None, "PLAINTEXT_REFUSED"),
        ("intercept-8081", "plaintext", "COMPLETED"),
        ("intercept-8082", "plaintext", "COMPLETED"),
        ("intercept-8080", None, "NOT_ALLOWED"),
        ("intercept-8081", "mutual_tls", "COMPLETED"),
    }


def test_a_port_without_a_policy_is_refused_where_there_is_no_default(node: Node, pki: Pki) -> None:
    section = interception(ports={PORT: {"mode": "DISABLE"}})
    del section["inbound"]["default"]  # type: ignore[attr-defined]
    pod, sidecar = alone(node, pki, intercept=section)
    app = pod.app(echo, 9999)
    assert heard(node, pod.v4, 9999) == b""
    (line,) = sidecar.closed()
    assert (line["reason"], line["listener"]) == ("NOT_ALLOWED", "intercept")
    assert "9999 is not in `intercept.inbound.ports`" in line["detail"]
    assert (line["downstream_local_address"], line["upstream_address"]) == (f"{pod.v4}:9999", None)
    assert app.accepted == 0


def test_excluded_ports_and_networks_go_around_the_sidecar(node: Node, pki: Pki) -> None:
    a, b, c = node.pod("a"), node.pod("b"), node.pod("c")
    a.apply("--no-validate", "--exclude-outbound-ports", "9000", "--exclude-outbound-cidrs", f"{c.v4}/32,{c.v6}/128")
    b.apply("--no-validate", "--exclude-inbound-ports", "9000-9001")
    of_a = a.sidecar(pki.identity("a"), intercept=interception(rest="refuse", routes=[]))
    of_b = b.sidecar(pki.identity("b"), intercept=interception())
    for pod in (b, c):
        pod.app(echo, 9000)
    c.app(echo, PORT)
    b.app(echo, 9001)
    assert heard(a, b.v4, 9000) == heard(a, b.v6, 9000) == HELLO
    assert heard(a, c.v4, PORT) == heard(a, c.v6, PORT) == HELLO
    assert heard(a, b.v4, 9001) == b""  # excluded at B alone
    assert heard(node, b.v4, 9001) == HELLO
    assert [line["upstream_address"] for line in of_a.closed()] == [None]
    assert of_b.metric("connections_active") == of_b.metric("closed_total") == 0


def test_what_a_pod_says_to_itself_stays_in_it(node: Node, pki: Pki) -> None:
    """By localhost and by its own addresses; an app on 127.0.0.1 stays unreachable from outside."""
    pod, sidecar = alone(node, pki, intercept=interception(default={"mode": "DISABLE"}))
    pod.app(echo, PORT)
    pod.app(echo, 8081, "127.0.0.1")
    pod.app(echo, 8082, pod.v4)
    mine = [("127.0.0.1", PORT), ("::1", PORT), (pod.v4, PORT), (pod.v6, PORT), ("127.0.0.1", 8081), (pod.v4, 8082)]
    assert [heard(pod, *address) for address in mine] == [HELLO] * len(mine)
    assert sidecar.metric("closed_total") == 0
    assert [heard(node, pod.v4, port) for port in (PORT, 8081, 8082)] == [HELLO, b"", HELLO]
    assert {line["downstream_local_address"]: line["reason"] for line in sidecar.closed(3)} == {
        f"{pod.v4}:{PORT}": "COMPLETED",
        f"{pod.v4}:8081": "UPSTREAM_REFUSED",
        f"{pod.v4}:8082": "COMPLETED",
    }


def test_what_no_route_covers_passes_as_it_is(node: Node, pki: Pki) -> None:
    pod, sidecar = alone(node, pki, intercept=interception(routes=[]))
    legacy = node.pod("legacy")  # no rules and no sidecar
    legacy.app(saying(b"220 mail"), 25)  # and it speaks first
    with pod.dial((legacy.v4, 25)) as sock:
        assert sock.recv(64) == b"220 mail"
        (open_now,) = sidecar.show("/connections")
        assert (open_now["listener"], open_now["upstream_address"]) == ("intercept", f"{legacy.v4}:25")
    (line,) = sidecar.closed()
    assert (line["direction"], line["security"], line["reason"]) == ("outbound", "plaintext", "COMPLETED")
    assert (line["bytes_received"], line["bytes_sent"], line["tls"]) == (0, 8, None)


def test_what_no_route_covers_is_refused_where_the_default_says_so(node: Node, pki: Pki) -> None:
    pod, sidecar = alone(node, pki, intercept=interception(routes=[], rest="refuse"))
    legacy = node.pod("legacy")
    app = legacy.app(echo, PORT)
    assert heard(pod, legacy.v4, PORT) == b""
    (line,) = sidecar.closed()
    assert line["reason"] == "NOT_ALLOWED"
    assert f"no route of `intercept.outbound` covers {legacy.v4}:{PORT}" in line["detail"]
    assert app.accepted == 0


def test_labels_do_not_grow_with_destinations(node: Node, pki: Pki) -> None:
    pod, sidecar = alone(node, pki, intercept=interception(routes=[]))
    legacy = node.pod("legacy")
    for port in range(7000, 7005):
        legacy.app(echo, port)
        assert heard(pod, legacy.v4, port) == HELLO
    assert {line["upstream_address"] for line in sidecar.closed(5)} == {f"{legacy.v4}:{p}" for p in range(7000, 7005)}
    assert sidecar.metric("connections_total", direction="outbound", listener="intercept", security="plaintext") == 5
    assert legacy.v4 not in sidecar.ask("GET", "/metrics")[1]


def test_a_server_that_speaks_first_is_heard_by_both_kinds_of_client(node: Node, pki: Pki) -> None:
    policy = {"mode": "PERMISSIVE", "allow": EVERYBODY, "server_first": True}
    a, _, b, of_b = pair(node, pki, ports={3306: policy})
    b.app(saying(b"5.7 greetings"), 3306)
    for client in (a, node):
        with client.dial((b.v4, 3306)) as sock:
            assert sock.recv(64) == b"5.7 greetings"
    assert {line["security"] for line in of_b.closed(2)} == {"mutual_tls", "plaintext"}


def test_the_apps_own_tls_passes_inside_ours_and_without_it(node: Node, pki: Pki) -> None:
    policy = {
        "mode": "PERMISSIVE",
        "allow": EVERYBODY,
        "app_tls": "passthrough",
        "app_tls_server_names": ["app.example.org"],
    }
    a, _, b, of_b = pair(node, pki, ports={8443: policy})
    own = pki.identity("app")
    b.app(over_tls(own, echo), 8443)
    context = client_context(own, trust=own.bundle)
    for client in (a, node):
        with context.wrap_socket(client.dial((b.v4, 8443)), server_hostname="app.example.org") as sock:
            assert ask(sock) == HELLO
    assert {line["security"] for line in of_b.closed(2)} == {"mutual_tls", "app_tls"}


def test_kubelets_probes_under_strict(node: Node, pki: Pki) -> None:
    """From the node, without a certificate: the app's port is closed to them, health and excluded ports are not."""
    probe = {"name": "app/livez", "kind": "http", "port": PORT, "path": "/"}
    health = {"listen": "[::]:15021", "app_probes": [probe]}
    pod, sidecar = alone(node, pki, "--exclude-inbound-ports", "9000", health=health)
    pod.app(http_hello, PORT)
    pod.app(http_hello, 9000)
    refused = node.curl(f"http://{pod.v4}:{PORT}/")
    assert (refused.status, sidecar.closed()[0]["reason"]) == (0, "PLAINTEXT_REFUSED")
    for family in (4, 6):
        assert node.curl(f"http://{pod.host(family)}:15021/ready").status == 200
        assert node.curl(f"http://{pod.host(family)}:15021/app-health/app/livez").status == 200
        assert node.curl(f"http://{pod.host(family)}:9000/").body == "hello"
    assert node.curl(f"http://{pod.v4}:15000/ready").exit == 7  # the admin endpoint is not for the network


def test_the_app_hears_of_the_original_destination_by_the_proxy_protocol(node: Node, pki: Pki) -> None:
    policy = {"mode": "DISABLE", "proxy_protocol": "v2"}
    pod, _ = alone(node, pki, intercept=interception(ports={PORT: policy}))
    pod.app(echo, PORT)
    with node.dial((pod.v4, PORT)) as sock:
        header = ask(sock, b"x" * 28)[:28]  # 16 bytes and two IPv4 endpoints
        assert header[16:24] == socket.inet_aton("10.88.0.1") + socket.inet_aton(pod.v4)
        assert int.from_bytes(header[26:28]) == PORT


# What would go in circles, or elsewhere.


@pytest.mark.parametrize("family", [4, 6])
def test_who_comes_straight_to_the_interceptions_ports_is_refused(node: Node, pki: Pki, family: int) -> None:
    pod, sidecar = alone(node, pki)
    host = pod.v4 if family == 4 else pod.v6
    for port in (15006, 15001):
        assert heard(node, host, port) == b""
        assert heard(pod, host, port) == b""
    lines = sidecar.closed(4)
    assert {(line["reason"], line["listener"]) for line in lines} == {("NOT_ALLOWED", "intercept")}
    assert all("was not redirected" in line["detail"] for line in lines)
    assert sidecar.metric("connections_active") == 0


def test_a_sidecar_whose_own_connections_are_caught_says_so_and_ends_the_circle(node: Node, pki: Pki) -> None:
    """It runs as root, whom the rules do not know."""
    pod, sidecar = alone(node, pki, uid=0, intercept=interception(routes=[]))
    legacy = node.pod("legacy")
    legacy.app(echo, PORT)
    assert heard(pod, legacy.v4, PORT) == b""
    lines = sidecar.closed(2)
    assert "back to it: run it as the uid that they exempt (1337" in lines[0]["detail"]
    until(lambda: sidecar.metric("connections_active") == 0, "the circle has ended")
    assert sidecar.metric("closed_total") < 10


def test_a_port_of_the_sidecar_itself_is_not_taken_for_the_apps(node: Node, pki: Pki) -> None:
    """Here the rules know nothing of a health endpoint at another port than the usual one."""
    pod, sidecar = alone(node, pki, health={"listen": "[::]:15999"})
    assert node.curl(f"http://{pod.v4}:15999/ready").exit != 0
    (line,) = sidecar.closed()
    assert line["reason"] == "NOT_ALLOWED"
    assert "(health)" in line["detail"]
    assert "--exclude-inbound-ports 15999" in line["detail"]


def test_a_neighbour_cannot_send_packets_for_others_through_the_sidecar(node: Node, pki: Pki) -> None:
    """Routed to the Pod, though for an address that it does not have."""
    pod, sidecar = alone(node, pki, intercept=interception(default={"mode": "DISABLE"}))
    node.ip("route", "add", "10.99.0.1/32", "via", pod.v4)
    assert heard(node, "10.99.0.1", 80) == b""
    (line,) = sidecar.closed()
    assert (line["reason"], line["upstream_address"]) == ("NOT_ALLOWED", None)
    assert "10.99.0.1:80 is no address of this host" in line["detail"]


def test_an_upstream_that_is_not_there_is_a_reset_and_a_reason(node: Node, pki: Pki) -> None:
    """The one thing that an app can notice: it was connected before the upstream was."""
    pod, sidecar = alone(node, pki, intercept=interception(routes=[]))
    assert heard(pod, NODE, 4444) == b""
    (line,) = sidecar.closed()
    assert (line["reason"], line["downstream_local_address"]) == ("UPSTREAM_REFUSED", f"{NODE}:4444")


def test_an_upstream_of_another_identity_is_refused(node: Node, pki: Pki) -> None:
    a, of_a, b, _ = pair(node, pki)
    app = b.app(echo, PORT)
    for route in of_a.config["intercept"]["outbound"]["routes"]:
        route["server_ids"] = ["spiffe://example.org/ns/shop/sa/payments"]
    of_a.write()
    assert of_a.reload()["result"] == "published"
    assert heard(a, b.v4, PORT) == b""
    assert of_a.closed()[0]["reason"] == "SERVER_ID_MISMATCH"
    assert app.accepted == 0


def test_tls_of_a_stranger_is_refused_with_an_alert(node: Node, pki: Pki) -> None:
    pod, sidecar = alone(node, pki)
    stranger = pki.identity("web", issuer=pki.stranger)
    context = client_context(stranger, trust=pki.identity("any").bundle)
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"), context.wrap_socket(node.dial((pod.v4, PORT))) as sock:
        ask(sock)
    assert sidecar.closed()[0]["reason"] == "UNKNOWN_AUTHORITY"

"""gRPC's own client and server: with mutual TLS straight to our ports, and in plaintext across two sidecars."""

import queue
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest

from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import HOST, PATIENCE_S, Address, text_of, until
from tests.net.rig import open_sockets

H2 = {"alpn": ["h2"]}
LONG = b"x" * 1_000_000  # many HTTP/2 frames, and more than one window of flow control
OPTIONS = [("grpc.enable_http_proxy", 0)]


class Reversing(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Two methods over bare bytes: /Reversing/One answers one message, /Reversing/Each answers each of a stream."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == "/Reversing/One":
            return grpc.unary_unary_rpc_method_handler(lambda message, _: message[::-1])
        if details.method == "/Reversing/Each":
            return grpc.stream_stream_rpc_method_handler(lambda messages, _: (message[::-1] for message in messages))
        return None


@pytest.fixture(autouse=True)
def no_socket_stays() -> Iterator[None]:
    """gRPC closes its sockets in threads of its own, some time after it was asked to: not in the next test, please."""
    before = open_sockets()
    yield
    until(lambda: open_sockets() <= before, "gRPC has closed its sockets")


@pytest.fixture
def start_server() -> Iterator[Callable[[Identity | None], Address]]:
    """`start_server(identity)`: a gRPC server with mutual TLS, or in plaintext for None."""
    servers: list[grpc.Server] = []

    def start(identity: Identity | None) -> Address:
        server = grpc.server(futures.ThreadPoolExecutor(4), options=OPTIONS)
        server.add_generic_rpc_handlers((Reversing(),))
        servers.append(server)
        if identity is None:
            port = server.add_insecure_port(f"{HOST}:0")
        else:
            credentials = grpc.ssl_server_credentials(
                [(identity.key.read_bytes(), identity.cert.read_bytes())],
                root_certificates=identity.bundle.read_bytes(),
                require_client_auth=True,
            )
            port = server.add_secure_port(f"{HOST}:0", credentials)
        server.start()
        return HOST, port

    yield start
    for server in servers:
        server.stop(grace=None).wait(PATIENCE_S)


def mutual(address: Address, host: str, client: Identity, *, certificate: bool = True) -> grpc.Channel:
    """A channel with TLS of gRPC's own."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=client.bundle.read_bytes(),
        private_key=client.key.read_bytes() if certificate else None,
        certificate_chain=client.cert.read_bytes() if certificate else None,
    )
    options = [*OPTIONS, ("grpc.ssl_target_name_override", host)]
    return grpc.secure_channel(text_of(address), credentials, options)


def plaintext(address: Address) -> grpc.Channel:
    """A channel as an app behind a sidecar has it."""
    return grpc.insecure_channel(text_of(address), OPTIONS)


def call_one(channel: grpc.Channel, message: bytes) -> bytes:
    """One unary call."""
    answer: bytes = channel.unary_unary("/Reversing/One")(message, timeout=PATIENCE_S)
    return answer


def talk(channel: grpc.Channel) -> None:
    """A long unary call, then a conversation in which each message waits for the answer to the one before."""
    assert call_one(channel, LONG + b"end") == b"dne" + LONG
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = channel.stream_stream("/Reversing/Each")(iter(said.get, None), timeout=PATIENCE_S)
    for number in range(50):
        said.put(b"message %d" % number)
        assert next(answers)[::-1] == b"message %d" % number
    said.put(None)
    assert list(answers) == []


def test_a_grpc_client_with_an_svid_talks_straight_to_our_port(
    start_sidecar: Callable[..., Sidecar], start_server: Callable[[Identity | None], Address], pki: Pki
) -> None:
    server, client = pki.identity("server"), pki.identity("client")
    sidecar = start_sidecar(server, inbound=[inbound("in", start_server(None), **H2)])
    with mutual(sidecar.at("in"), server.host, client) as channel:
        talk(channel)
    (line,) = sidecar.closed(1)
    assert (line["tls"]["alpn"], line["tls"]["peer_spiffe_id"]) == ("h2", client.spiffe_id)


def test_a_grpc_client_without_a_certificate_is_refused(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    server, app = pki.identity("server"), start_app(echo)
    sidecar = start_sidecar(server, inbound=[inbound("in", app.address, **H2)])
    with mutual(sidecar.at("in"), server.host, pki.identity("client"), certificate=False) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            call_one(channel, b"hello")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    (line,) = sidecar.closed(1)
    assert (line["reason"], app.accepted) == ("NO_CLIENT_CERTIFICATE", 0)


def test_a_grpc_server_with_an_svid_answers_through_our_outbound(
    start_sidecar: Callable[..., Sidecar], start_server: Callable[[Identity | None], Address], pki: Pki
) -> None:
    server = pki.identity("server")
    calls = outbound("out", start_server(server), server_ids=[server.spiffe_id], **H2)
    sidecar = start_sidecar(pki.identity("client"), outbound=[calls])
    with plaintext(sidecar.at("out")) as channel:
        talk(channel)
    (line,) = sidecar.closed(1)
    assert (line["tls"]["alpn"], line["tls"]["peer_spiffe_id"]) == ("h2", server.spiffe_id)


def test_a_grpc_server_that_refuses_our_certificate_is_reported_as_that(
    start_sidecar: Callable[..., Sidecar], start_server: Callable[[Identity | None], Address], pki: Pki
) -> None:
    server = pki.identity("server", trust=pki.stranger)
    sidecar = start_sidecar(pki.identity("client"), outbound=[outbound("out", start_server(server), **H2)])
    with plaintext(sidecar.at("out")) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            call_one(channel, b"hello")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    (line,) = sidecar.closed(1)
    assert (line["reason"], line["tls"]["peer_spiffe_id"]) == ("UPSTREAM_REJECTED_US", server.spiffe_id)


def test_grpc_in_plaintext_crosses_two_sidecars(
    start_sidecar: Callable[..., Sidecar], start_server: Callable[[Identity | None], Address], pki: Pki
) -> None:
    client = pki.identity("client")
    theirs = start_sidecar(pki.identity("server"), inbound=[inbound("in", start_server(None), **H2)])
    ours = start_sidecar(client, outbound=[outbound("out", theirs.at("in"), **H2)])
    with plaintext(ours.at("out")) as channel:
        talk(channel)
    (out,), (into,) = ours.closed(1), theirs.closed(1)
    assert (out["tls"]["alpn"], into["tls"]["alpn"]) == ("h2", "h2")
    assert into["tls"]["peer_spiffe_id"] == client.spiffe_id
    assert (out["bytes_received"], out["bytes_sent"]) == (into["bytes_received"], into["bytes_sent"])

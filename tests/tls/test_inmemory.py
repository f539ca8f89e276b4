"""OpenSSL with itself: what the floor of a comparison does, and that only the server's part is timed."""

import time
from pathlib import Path

import msgspec
import pytest
from OpenSSL import SSL

from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid
from proxy.tls.inmemory import RECORD_BYTES, InMemory
from proxy.tls.loadcontext import Credentials, Offer
from tests import minting

SERVER = "spiffe://example.org/ns/shop/sa/orders"


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, authority = tmp_path_factory.mktemp("ends"), minting.authority()
    for name, spiffe_id in (("server", SERVER), ("client", minting.CART)):
        write_svid(folder / name, minting.svid(authority, spiffe_id), bundles={BUNDLE_FILE: authority.bundle_pem})
    return folder


def credentials(ends: Path) -> Credentials:
    client = ends / "client"
    return Credentials(
        ca=str(client / BUNDLE_FILE), cert=str(client / CERT_FILE), key=str(client / KEY_FILE), server_ids=(SERVER,)
    )


def floor(ends: Path, version: str = "1.3", *, mutual: bool = True, who: Credentials | None = None) -> InMemory:
    cert, key = (str(ends / "server" / name) for name in (CERT_FILE, KEY_FILE))
    offer = Offer(version=version, group="X25519")
    return InMemory(cert, key, who or credentials(ends), offer, mutual=mutual)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_handshake_is_full_unless_a_session_is_to_be_resumed(ends: Path, version: str) -> None:
    memory = floor(ends, version)
    assert [memory.handshake(resumed=resumed) for resumed in (False, False, True, True)] == [False, False, True, True]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_mutual_floor_refuses_a_client_without_a_certificate(ends: Path, version: str) -> None:
    nobody = msgspec.structs.replace(credentials(ends), cert=None, key=None)
    with pytest.raises(SSL.Error):
        floor(ends, version, who=nobody).handshake(resumed=False)
    assert floor(ends, version, mutual=False, who=nobody).handshake(resumed=False) is False


def test_the_client_certificate_is_paid_for_by_the_server(ends: Path) -> None:
    """Checking a signature and a chain is more than half of a handshake: no machine is noisy enough to hide it."""
    spent = []
    for mutual in (False, True):
        memory = floor(ends, mutual=mutual)
        memory.handshake(resumed=False)
        memory.server_s = 0.0
        for _ in range(40):
            memory.handshake(resumed=False)
        spent.append(memory.server_s)
    assert 0 < spent[0] < spent[1]


def test_what_the_client_does_is_not_counted(ends: Path) -> None:
    memory = floor(ends)
    memory.handshake(resumed=False)
    memory.server_s, start_s = 0.0, time.thread_time()
    for _ in range(20):
        memory.handshake(resumed=False)
    assert 0.2 < memory.server_s / (time.thread_time() - start_s) < 0.9


def test_messages_and_records_arrive_whole(ends: Path) -> None:
    memory = floor(ends)
    stream = memory.open()
    before_s = memory.server_s
    stream.request(bytes(1024))
    stream.upload(bytes(RECORD_BYTES))
    stream.download(bytes(RECORD_BYTES))
    assert memory.server_s > before_s

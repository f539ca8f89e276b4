"""A side is measured only if it refuses whom it has to: each peer is tried, and one that lets strangers in is found."""

import dataclasses
import resource
from collections.abc import Iterator

import msgspec
import pytest

from proxy.lab import sides
from proxy.lab.generator import LoadFault
from proxy.lab.peers import PEERS
from proxy.lab.results import Security
from proxy.lab.sides import Stranger, allow_descriptors, check, ordinary, peer, sidecar, two_sidecars
from proxy.lab.streams import StreamClient
from proxy.lab.testbed import Testbed, split_cores

KEY = "ecdsa-p256"
GOOD = "refused a client without a certificate and one of another CA, in TLS 1.2 and 1.3"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("bed"), split_cores()) as bed:
        yield bed


@pytest.fixture(scope="module")
def stranger(bed: Testbed) -> Stranger:
    return Stranger(bed.folder / "stranger", KEY)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("haproxy", marks=pytest.mark.needs("haproxy")),
        pytest.param("nginx", marks=pytest.mark.needs("nginx-stream")),
        pytest.param("stunnel", marks=pytest.mark.needs("stunnel")),
        pytest.param("hitch", marks=pytest.mark.needs("hitch")),
        pytest.param("envoy", marks=pytest.mark.needs("envoy")),
    ],
)
def test_each_peer_is_set_up_to_require_a_client_certificate(bed: Testbed, stranger: Stranger, name: str) -> None:
    side = peer(bed, PEERS[name], KEY)
    assert check(side, stranger, KEY) == GOOD
    assert side.words.startswith(PEERS[name].title)
    assert side.words != PEERS[name].title  # its version stands behind
    bed.stop(side.pids[0])


def test_the_sidecar_and_the_ordinary_relay_pass_the_same_trial(bed: Testbed, stranger: Stranger) -> None:
    assert check(sidecar(bed, KEY, "openssl"), stranger, KEY) == GOOD
    assert check(ordinary(bed, KEY, mutual=True), stranger, KEY) == GOOD


def test_a_side_that_serves_a_client_without_a_certificate_is_not_measured(bed: Testbed, stranger: Stranger) -> None:
    open_to_all = ordinary(bed, KEY, mutual=False)
    assert open_to_all.security is Security.TLS
    claims = dataclasses.replace(open_to_all, credentials=bed.identities(KEY).credentials)
    with pytest.raises(LoadFault, match=r"it served a client without a certificate over TLS 1\.2"):
        check(claims, stranger, KEY)


def test_a_side_that_serves_a_client_of_any_ca_is_not_measured(bed: Testbed) -> None:
    """The stranger here is one of the very CA that the side trusts."""
    side = sidecar(bed, KEY, "openssl")

    class Friend(Stranger):
        def __init__(self) -> None:
            self._folder = bed.identities(KEY).client

    with pytest.raises(LoadFault, match=r"it served a client of another CA over TLS 1\.3"):
        check(side, Friend(), KEY, ("1.3",))


def test_a_side_that_does_not_serve_a_good_client_is_not_measured(bed: Testbed, stranger: Stranger) -> None:
    side = sidecar(bed, KEY, "openssl")
    assert side.credentials is not None
    other = msgspec.structs.replace(side.credentials, server_ids=("spiffe://bench.example/somebody/else",))
    with pytest.raises(LoadFault, match=r"it does not serve TLS 1\.2 as it was set up to: .*somebody/else"):
        check(dataclasses.replace(side, credentials=other), stranger, KEY)


def test_two_sidecars_in_a_row_carry_bytes_and_count_as_one_side(bed: Testbed) -> None:
    side = two_sidecars(bed, KEY, "openssl")
    assert len(set(side.pids)) == 2
    with StreamClient() as client:
        client.aim(side.address, side.credentials, sides.offer("1.3", KEY))
        assert client.open(2, 2).count == 2
        client.close_streams()


def test_a_missing_peer_is_named_with_the_line_that_installs_it(bed: Testbed) -> None:
    absent = PEERS["haproxy"]._replace(programs=("no-such-haproxy",))
    assert absent.program() is None
    assert absent.version() == "HAProxy"
    with pytest.raises(LoadFault, match="HAProxy is not installed: apt install haproxy"):
        peer(bed, absent, KEY)


def test_a_peer_that_cannot_start_is_reported_with_its_last_words(bed: Testbed) -> None:
    broken = PEERS["haproxy"]._replace(
        name="broken", programs=("python3",), arguments=lambda *_: ["-c", "exit('gone')"]
    )
    with pytest.raises(LoadFault, match=r"HAProxy ended at its start \(status 1\): gone"):
        peer(bed, broken, KEY)


def test_too_low_a_limit_of_descriptors_is_said_before_anything_is_measured() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no limit here")
    with pytest.raises(LoadFault, match="hold fewer with --idle"):
        allow_descriptors(hard)


def test_a_sidecar_may_have_to_verify_every_chain_anew(bed: Testbed, stranger: Stranger) -> None:
    side = sidecar(bed, KEY, "openssl", verdict_cache=False)
    written = max(bed.folder.glob("*-inbound.yaml"), key=lambda file: file.stat().st_mtime_ns)
    assert "verdict_cache: false" in written.read_text()
    assert "every chain is verified anew" in side.words
    assert check(side, stranger, KEY) == GOOD

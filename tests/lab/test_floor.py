"""OpenSSL alone, in its process: every kind of work gives a round, and what it cannot do is a sentence."""

from collections.abc import Iterator

import msgspec
import pytest

from proxy.lab.floor import Floor, FloorOrder, Work
from proxy.lab.generator import LoadFault
from proxy.lab.sides import offer
from proxy.lab.testbed import Cores, Identities, Testbed, split_cores
from proxy.tls.identityfiles import CERT_FILE, KEY_FILE


@pytest.fixture(scope="module")
def cores() -> Cores:
    return split_cores()


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory, cores: Cores) -> Identities:
    with Testbed(tmp_path_factory.mktemp("bed"), cores) as bed:
        return bed.identities("ecdsa-p256")


@pytest.fixture(scope="module")
def floor(cores: Cores) -> Iterator[Floor]:
    with Floor(cores.server) as floor:
        yield floor


def order(identities: Identities, work: Work, version: str = "1.3") -> FloorOrder:
    return FloorOrder(
        work=work,
        cert=str(identities.server / CERT_FILE),
        key=str(identities.server / KEY_FILE),
        credentials=identities.credentials,
        offer=offer(version, "ecdsa-p256"),
        mutual=True,
        message_bytes=1024,
        seconds=0.05,
    )


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("work", list(Work))
def test_each_work_gives_a_round(floor: Floor, identities: Identities, work: Work, version: str) -> None:
    round_ = floor.measure(order(identities, work, version))
    assert round_.count >= 1
    assert round_.server_cpu_s is not None
    assert 0 < round_.server_cpu_s < 10
    assert round_.seconds >= 0.05
    bulk = work in (Work.UPLOAD, Work.DOWNLOAD)
    assert round_.payload_bytes == (round_.count * 16_384 if bulk else None)


def test_a_file_that_cannot_be_used_is_a_sentence_and_the_process_goes_on(floor: Floor, identities: Identities) -> None:
    good = order(identities, Work.FULL)
    bad = msgspec.structs.replace(good.credentials, ca="/nowhere/ca.crt")
    with pytest.raises(LoadFault, match=r"the CA file /nowhere/ca\.crt cannot be read"):
        floor.measure(msgspec.structs.replace(good, credentials=bad))
    assert floor.measure(good).count >= 1

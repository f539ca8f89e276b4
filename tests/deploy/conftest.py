"""What the tests of deployments share: the image, built once, and namespaces and folders for what runs it."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.pod.redirect import PROXY_GID, PROXY_UID
from tests.deploy import dockerfile
from tests.deploy.container import Image, Network, network
from tests.e2e.conftest import pki, start_app

__all__ = ["pki", "start_app"]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Built once, whichever process of the test run comes first."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces and another uid")
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "image"  # one for all processes of a run
    stages = dockerfile.stages()
    with open(place.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place.with_suffix(".done")
        if not done.exists():
            dockerfile.build(stages["build"], place)
            done.touch()
    return Image(place / "rootfs", dockerfile.environment(stages["sidecar"]))


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as one:
        yield one


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder of the container's own user, as an emptyDir with fsGroup is."""
    place = tmp_path / "state"
    place.mkdir()
    os.chown(place, PROXY_UID, PROXY_GID)
    return place

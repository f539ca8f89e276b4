"""The soft limit follows the hard one, and what `limits.connections` cannot have is said."""

import resource
from collections.abc import Iterator

import pytest

from proxy.ops.descriptors import raise_limit, too_few
from tests.configtexts import GOOD, read


class Limits:
    """The limit of a process, as setrlimit(2) keeps it."""

    def __init__(self, soft: int, hard: int, *, refuses: type[Exception] | None = None) -> None:
        self.now = (soft, hard)
        self._refuses = refuses

    def get(self, _which: int) -> tuple[int, int]:
        return self.now

    def set(self, _which: int, limits: tuple[int, int]) -> None:
        if self._refuses is not None:
            raise self._refuses
        self.now = limits


@pytest.fixture
def kept() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("kept")
def test_this_process_gets_its_hard_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 1 << 20)


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (1024, 524288, 524288),
        (65536, 65536, 65536),
        (1024, 1073741816, 1048576),
        (1073741816, 1073741816, 1073741816),
        (1024, resource.RLIM_INFINITY, 1048576),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1048576),
    ],
)
def test_the_soft_limit_follows_the_hard_one(soft: int, hard: int, then: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    assert raise_limit() == then
    assert limits.now == ((soft if soft == resource.RLIM_INFINITY else then), hard)


@pytest.mark.parametrize("refuses", [PermissionError, ValueError])
def test_where_it_may_not_be_raised_it_stays(refuses: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1024, 524288, refuses=refuses)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    assert raise_limit() == 1024


@pytest.mark.parametrize(
    ("text", "workers", "descriptors", "room"),
    [
        (GOOD, 1, 20000, None),
        (GOOD, 1, 19999, 9967),
        (GOOD, 1, 1024, 480),
        (GOOD, 2, 10000, None),
        (GOOD, 4, 1024, 1920),
        (GOOD, 3, 6666, 9903),
        (GOOD + "limits: {connections: 400}\n", 1, 1024, None),
        (GOOD + "limits: {connections: 0}\n", 1, 1024, None),
        (GOOD, 1, 10, 0),
    ],
)
def test_too_few_descriptors_are_said_with_what_they_are_enough_for(
    text: str, workers: int, descriptors: int, room: int | None
) -> None:
    said = too_few(read(text), workers, descriptors)
    assert (said is None) == (room is None)
    assert said is None or f"holds about {room} connections" in said

"""Memory of closed connections goes back to the system, also that of a wave between two looks."""

import pytest

from proxy.ops.memory import WORTH_IT, Memory


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each time that memory was given back."""
    made: list[int] = []
    monkeypatch.setattr("ctypes.CDLL", lambda _name: type("Libc", (), {"malloc_trim": staticmethod(made.append)}))
    return made


@pytest.mark.parametrize(
    ("looks", "times"),
    [
        ([(0, 0)], 0),
        ([(WORTH_IT, WORTH_IT), (WORTH_IT // 2 + 1, WORTH_IT)], 0),
        ([(WORTH_IT, WORTH_IT), (WORTH_IT // 2, WORTH_IT)], 1),
        ([(0, WORTH_IT)], 1),  # it came and went between two looks
        ([(0, WORTH_IT - 1)], 0),
        ([(0, WORTH_IT), (0, 0), (0, 3)], 1),
        ([(0, WORTH_IT), (0, WORTH_IT)], 2),
    ],
)
def test_memory_goes_back_when_half_of_a_peak_is_gone(
    trims: list[int], looks: list[tuple[int, int]], times: int
) -> None:
    memory = Memory()
    for connections, peak in looks:
        memory.look(connections, peak)
    assert len(trims) == times


def test_where_malloc_cannot_trim_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    Memory().look(0, 10 * WORTH_IT)

"""Every test of a handshake, a channel, a context or a verdict runs on each engine."""

from collections.abc import Iterator

import pytest

from proxy.core.config import Engine
from tests import engines
from tests.tls import pairs

# By file, so that no new test is left out: what these say holds for both engines, unless it is marked for one.
ON_BOTH = {
    "test_channel",
    "test_contexts",
    "test_handshake",
    "test_handshake_faults",
    "test_resumption",
    "test_store",
    "test_verify",
    "test_verify_paths",
    "test_verify_strength",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize `engine`; `@pytest.mark.engine("openssl")` names the one that a test is about."""
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        marker = metafunc.definition.get_closest_marker("engine")
        names = marker.args if marker else tuple(engines.ENGINES)
        metafunc.parametrize("engine", [Engine(name) for name in names], ids=str, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The engine of this test; `tests.tls.pairs` makes its contexts with it."""
    name = getattr(request, "param", Engine.OPENSSL)
    engines.require(name)
    with pairs.using(name):
        yield name

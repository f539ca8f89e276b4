"""The TLS engines that tests run on, and what differs between them where a test can see it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.core.config import Engine, TlsConfig
from proxy.tls.engine import boringssl_engine, find_engine, openssl_engine

ENGINES = {Engine.OPENSSL: openssl_engine, Engine.BORINGSSL: boringssl_engine}

# What the API of OpenSSL cannot send (docs/decisions/0003-alerts.md).
POLICY_ALERT = {Engine.OPENSSL: "certificate_unknown", Engine.BORINGSSL: "access_denied"}


_in_use = [Engine.AUTO]


@contextmanager
def using(engine: Engine) -> Iterator[None]:
    """Start every sidecar (tests/e2e/sidecar.py) with this engine meanwhile."""
    _in_use.append(engine)
    yield
    _in_use.pop()


def in_use() -> Engine:
    """The engine that `tls.engine` names; by default `auto`."""
    return _in_use[-1]


def policy_alert() -> str:
    """What a sidecar that is started now tells a peer whom its policy does not let in, as Python's ssl spells it."""
    return POLICY_ALERT[Engine(find_engine(TlsConfig(engine=in_use())).name)].upper()


def require(engine: Engine) -> None:
    """Skip the test where this engine is not built; in CI it has to be."""
    try:
        ENGINES[engine]()
    except ImportError as error:
        reason = f"the engine {engine} is not built here (make engine): {error}"
        if os.environ.get("CI"):
            pytest.fail(f"required in CI: {reason}")
        pytest.skip(reason)

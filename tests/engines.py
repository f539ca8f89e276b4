"""The TLS engines that tests run on, and what differs between them where a test can see it."""

import os

import pytest

from proxy.core.config import Engine
from proxy.tls.engine import boringssl_engine, openssl_engine

ENGINES = {Engine.OPENSSL: openssl_engine, Engine.BORINGSSL: boringssl_engine}

# What the API of OpenSSL cannot send (docs/decisions/0003-alerts.md).
POLICY_ALERT = {Engine.OPENSSL: "certificate_unknown", Engine.BORINGSSL: "access_denied"}


def require(engine: Engine) -> None:
    """Skip the test where this engine is not built; in CI it has to be."""
    try:
        ENGINES[engine]()
    except ImportError as error:
        reason = f"the engine {engine} is not built here (make engine): {error}"
        if os.environ.get("CI"):
            pytest.fail(f"required in CI: {reason}")
        pytest.skip(reason)

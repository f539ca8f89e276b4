"""The engine that a configuration asks for by name: what is said where it cannot be had."""

import pytest

from proxy.cli.enginecheck import judge_engine
from proxy.core.config import Engine, TlsConfig
from proxy.core.configfile import ConfigFaults
from tests import engines


def not_installed() -> None:
    raise ImportError("No module named 'mtls_sidecar_boringssl'")


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.OPENSSL])
def test_what_is_always_there_is_no_fault(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", not_installed)
    judge_engine(TlsConfig(engine=engine), file="sidecar.yaml")


def test_boringssl_that_is_not_installed_is_a_fault_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", not_installed)
    monkeypatch.setattr("proxy.tls.engine._DISTRIBUTION", "mtls_sidecar_no_such_engine")
    with pytest.raises(ConfigFaults) as caught:
        judge_engine(TlsConfig(engine=Engine.BORINGSSL), file="sidecar.yaml")
    assert str(caught.value) == (
        "sidecar.yaml: tls.engine: the engine boringssl is not installed here: build it with `make engine`, install "
        "the wheel mtls-sidecar-boringssl, or use `auto` or `openssl`"
    )


def test_a_group_that_boringssl_does_not_know_is_a_fault() -> None:
    engines.require(Engine.BORINGSSL)
    judge_engine(TlsConfig(engine=Engine.BORINGSSL), file="sidecar.yaml")
    with pytest.raises(ConfigFaults, match=r"tls\.groups: BoringSSL does not know SecP256r1MLKEM768; it knows: "):
        judge_engine(TlsConfig(engine=Engine.BORINGSSL, groups=("SecP256r1MLKEM768", "P-256")), file="sidecar.yaml")

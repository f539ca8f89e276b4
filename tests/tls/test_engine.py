"""Which engine a configuration gets."""

import pytest

from proxy.core.config import DEFAULT_GROUPS, GROUPS, Engine, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls.engine import boringssl_is_broken, find_engine, installed_versions, openssl_engine
from tests import engines


def broken() -> None:
    raise ImportError("undefined symbol: _ZdlPvm")


@pytest.mark.parametrize(("wanted", "name"), [(Engine.AUTO, "boringssl"), (Engine.OPENSSL, "openssl")])
def test_auto_is_boringssl_where_it_is_built(wanted: Engine, name: str) -> None:
    engines.require(Engine.BORINGSSL)
    assert find_engine(TlsConfig(engine=wanted)).name == name
    assert "BoringSSL API" in installed_versions()
    assert boringssl_is_broken() is None


def test_auto_is_openssl_where_groups_are_wanted_that_boringssl_does_not_know() -> None:
    assert find_engine(TlsConfig(groups=("SecP384r1MLKEM1024", "P-384"))).name == "openssl"
    assert openssl_engine().groups == set(GROUPS)


def test_both_engines_know_the_default_groups() -> None:
    engines.require(Engine.BORINGSSL)
    assert find_engine(TlsConfig()).groups.issuperset(DEFAULT_GROUPS)


def test_where_boringssl_is_missing_auto_is_openssl_and_boringssl_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", broken)

    assert find_engine(TlsConfig()).name == "openssl"
    with pytest.raises(Rejected) as caught:
        find_engine(TlsConfig(engine=Engine.BORINGSSL))
    assert caught.value.reason == Reason.CONFIG_FAULT
    assert "undefined symbol: _ZdlPvm" in caught.value.detail
    assert installed_versions().startswith("OpenSSL ")


def test_a_boringssl_that_is_installed_and_broken_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines.require(Engine.BORINGSSL)
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", broken)
    assert boringssl_is_broken() == "undefined symbol: _ZdlPvm"
    monkeypatch.setattr("proxy.tls.engine._DISTRIBUTION", "mtls_sidecar_no_such_engine")
    assert boringssl_is_broken() is None

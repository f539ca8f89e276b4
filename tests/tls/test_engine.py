"""Which engine a configuration gets."""

import hashlib
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from proxy.core.config import DEFAULT_GROUPS, GROUPS, Engine, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls.engine import (
    _INTERFACE,
    boringssl_is_broken,
    find_engine,
    installed_versions,
    openssl_engine,
    why_not_boringssl,
)
from proxy.tls.keys import PrivateKey
from tests import engines, minting
from tests.tls import pairs
from tests.tls.meetings import meet

DISTRIBUTION = "mtls_sidecar_boringssl"
INTERFACE = Path(__file__).resolve().parents[2] / "engine" / "src" / "interface.h"


def distribution(monkeypatch: pytest.MonkeyPatch, **holds: object) -> None:
    """Put another distribution into the place of BoringSSL's, and let what works with it be imported anew."""
    module = ModuleType(DISTRIBUTION)
    vars(module).update(holds, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, DISTRIBUTION, module)
    for name in [name for name in sys.modules if name.startswith("proxy.tls.boring")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(f"proxy.tls.{name.rpartition('.')[2]}", raising=False)


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
    assert caught.value.detail.startswith("the engine boringssl is ")
    assert installed_versions().startswith("OpenSSL ")


def test_a_boringssl_that_is_installed_and_broken_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines.require(Engine.BORINGSSL)
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", broken)
    assert boringssl_is_broken() == "undefined symbol: _ZdlPvm"
    with pytest.raises(Rejected, match=r"boringssl is installed here and cannot be used \(undefined symbol: _ZdlPvm\)"):
        find_engine(TlsConfig(engine=Engine.BORINGSSL))
    monkeypatch.setattr("proxy.tls.engine._DISTRIBUTION", "mtls_sidecar_no_such_engine")
    assert boringssl_is_broken() is None
    assert why_not_boringssl(TlsConfig()) is None
    with pytest.raises(Rejected, match="boringssl is not installed here: build it"):
        find_engine(TlsConfig(engine=Engine.BORINGSSL))


def test_auto_says_why_it_is_openssl_although_boringssl_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    engines.require(Engine.BORINGSSL)
    groups = ("SecP384r1MLKEM1024", "P-384")
    assert why_not_boringssl(TlsConfig()) is None
    assert why_not_boringssl(TlsConfig(engine=Engine.OPENSSL, groups=groups)) is None
    assert why_not_boringssl(TlsConfig(groups=groups)) == (
        "BoringSSL does not know SecP384r1MLKEM1024 of `tls.groups`, so OpenSSL serves"
    )
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", broken)
    assert why_not_boringssl(TlsConfig()) == (
        "BoringSSL is installed and cannot be used, so OpenSSL serves: undefined symbol: _ZdlPvm; build it again "
        "(`make engine`), or uninstall mtls-sidecar-boringssl"
    )


@pytest.mark.parametrize("holds", [{}, {"lib": SimpleNamespace(BS_DONE=0), "ffi": SimpleNamespace()}])
def test_a_boringssl_of_another_version_that_lacks_something_is_one_that_cannot_be_used(
    holds: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(monkeypatch, **holds)
    assert find_engine(TlsConfig()).name == "openssl"
    assert installed_versions().startswith("OpenSSL ")
    assert str(boringssl_is_broken()).startswith("it was built for another version of mtls-sidecar (")


def test_a_boringssl_with_another_interface_is_one_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    engines.require(Engine.BORINGSSL)
    monkeypatch.setattr(sys.modules[DISTRIBUTION], "INTERFACE", 0, raising=False)
    assert find_engine(TlsConfig()).name == "openssl"
    assert str(boringssl_is_broken()).startswith(
        "it was built for another version of mtls-sidecar (its interface is 0, "
    )


def test_a_changed_interface_has_a_number_of_its_own() -> None:
    declarations = " ".join(re.sub(r"/\*.*?\*/", "", INTERFACE.read_text(), flags=re.DOTALL).split())
    found = hashlib.sha256(declarations.encode()).hexdigest()[:16]
    (number,) = re.findall(
        r"^INTERFACE = (\d+)$", (INTERFACE.parents[1] / DISTRIBUTION / "__init__.py").read_text(), re.M
    )
    assert (int(number), found) == (_INTERFACE, "3ca07aa544d44453"), (
        "engine/src/interface.h has changed: raise INTERFACE in engine/mtls_sidecar_boringssl/__init__.py and "
        "_INTERFACE in proxy/tls/engine.py, and note the new digest here"
    )


@pytest.mark.parametrize("key", [ed448.Ed448PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())])
def test_a_key_that_boringssl_cannot_sign_with_is_a_fault_that_says_which_engine_can(key: PrivateKey) -> None:
    engines.require(Engine.BORINGSSL)
    root = minting.authority()
    svid = root.issue(minting.CART, now=minting.clock(), lifetime_s=60, key=key)
    with pairs.using(Engine.BORINGSSL), pytest.raises(Rejected) as caught:
        pairs.server(root, svid=svid)
    assert (caught.value.reason, "`tls.engine: openssl`" in caught.value.detail) == (Reason.CONFIG_FAULT, True)


def test_an_ecdsa_key_on_p_521_serves_on_both() -> None:
    root = minting.authority()
    svid = root.issue(minting.CART, now=minting.clock(), lifetime_s=60, key=ec.generate_private_key(ec.SECP521R1()))
    words = TlsConfig(groups=("X25519", "P-256", "P-521"))
    for engine in engines.ENGINES:
        engines.require(engine)
        with pairs.using(engine):
            assert meet(pairs.client(root, tls=words), pairs.server(root, svid=svid, tls=words)).reasons == (None, None)


def test_an_anchor_that_boringssl_cannot_read_is_a_refusal_and_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    engines.require(Engine.BORINGSSL)
    monkeypatch.setattr("proxy.tls.boringbinding.TrustStore.__init__", unreadable)
    with pairs.using(Engine.BORINGSSL), pytest.raises(Rejected) as caught:
        pairs.verifier_of({"example.org": minting.authority()})
    assert caught.value.reason == Reason.CERTIFICATE_INVALID
    assert caught.value.detail == "the bundle of example.org holds what this TLS engine cannot use: certificate 1"


def unreadable(*_: object) -> None:
    raise ValueError("certificate 1")

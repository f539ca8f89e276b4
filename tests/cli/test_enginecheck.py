"""The engine that a configuration asks for by name: what is said, and of which line, where it cannot be had."""

from pathlib import Path

import pytest

from proxy.cli.enginecheck import judge_engine, read_again
from proxy.core.config import Engine
from proxy.core.configfile import ConfigFaults
from proxy.ops.configsource import Source
from tests import engines
from tests.configtexts import GOOD

GROUPS = "tls:\n  groups: [SecP256r1MLKEM768, P-256]\n"


def judge(tls: str) -> None:
    source = Source((GOOD + tls).encode(), "sidecar.yaml")
    judge_engine(source.parse().tls, source)


def not_installed() -> None:
    raise ImportError("No module named 'mtls_sidecar_boringssl'")


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.OPENSSL])
def test_what_is_always_there_is_no_fault(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", not_installed)
    judge(f"tls: {{engine: {engine}}}\n")


def test_boringssl_that_is_not_installed_is_a_fault_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", not_installed)
    monkeypatch.setattr("proxy.tls.engine._DISTRIBUTION", "mtls_sidecar_no_such_engine")
    with pytest.raises(ConfigFaults) as caught:
        judge("tls:\n  engine: boringssl\n")
    assert str(caught.value) == (
        "sidecar.yaml:8: tls.engine: the engine boringssl is not installed here: build it with `make engine`, install "
        "the wheel mtls-sidecar-boringssl, or use `auto` or `openssl`"
    )


def test_a_group_that_boringssl_does_not_know_is_a_fault() -> None:
    engines.require(Engine.BORINGSSL)
    judge("tls: {engine: boringssl}\n")
    with pytest.raises(
        ConfigFaults, match=r"^sidecar.yaml:8: tls\.groups: BoringSSL does not know SecP256r1MLKEM768; "
    ):
        judge(GROUPS + "  engine: boringssl\n")


@pytest.mark.parametrize("asked", ["boringssl", "auto"])
def test_a_file_that_is_read_again_is_judged_by_the_engine_in_force(asked: str, tmp_path: Path) -> None:
    engines.require(Engine.BORINGSSL)
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD + GROUPS + f"  engine: {asked}\n")
    with pytest.raises(ConfigFaults, match=r":8: tls\.groups: BoringSSL does not know"):
        read_again(str(file), Engine.BORINGSSL)
    for kept in (Engine.AUTO, Engine.OPENSSL):
        assert read_again(str(file), kept).parse().tls.engine == asked

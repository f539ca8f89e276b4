"""Which TLS engine serves: said at the start, in /config and in the metrics, and not changed by a reload."""

from collections.abc import Callable

import pytest

from proxy.core.config import Engine
from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound
from tests.e2e.waiting import until

WORDS = {Engine.OPENSSL: "OpenSSL ", Engine.BORINGSSL: "BoringSSL API "}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_engine_is_named_wherever_somebody_looks(
    start_sidecar: Callable[..., Sidecar],
    start_app: Callable[[Serve], App],
    pki: Pki,
    engine: Engine,
    workers: int,
) -> None:
    listener = inbound("in", start_app(echo).address)
    sidecar = start_sidecar(pki.identity("web"), inbound=[listener], workers=workers)

    starting = next(line for line in sidecar.lines("starting", workers) if "tls_engine" in line)
    assert (starting["tls_engine"], starting["tls_engine_version"].startswith(WORDS[engine])) == (str(engine), True)
    shown = sidecar.show("/config")["tls_engine"]
    assert shown == {"name": str(engine), "version": starting["tls_engine_version"]}
    assert sidecar.metric("build_info", tls_engine=str(engine), tls_engine_version=shown["version"]) == 1


def test_another_engine_in_the_file_is_said_to_need_a_restart(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki, engine: Engine
) -> None:
    sidecar = start_sidecar(pki.identity("web"), inbound=[inbound("in", start_app(echo).address)])
    other = Engine.OPENSSL if engine is Engine.BORINGSSL else Engine.BORINGSSL
    sidecar.config["tls"]["engine"] = str(other)
    sidecar.write()
    sidecar.reload()

    until(lambda: sidecar.lines("notice"), "the notice")
    expected = f"tls.engine cannot change while the proxy runs: {engine} is kept until a restart"
    assert expected in [line["detail"] for line in sidecar.lines("notice")]
    assert sidecar.show("/config")["tls_engine"]["name"] == str(engine)

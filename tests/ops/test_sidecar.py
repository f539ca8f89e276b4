"""What a Sidecar survives that no test from outside can bring about at will."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.config import LogFormat, LogLevel
from proxy.net.sockets import open_socket
from proxy.ops import log as logs
from proxy.ops.configsource import read_config_file
from proxy.ops.sidecar import Sidecar, metrics_of
from tests import minting

PATIENCE_S = 10.0


def write_identity(folder: Path, issuer) -> None:
    svid = minting.svid(issuer)
    for name, data in (("tls.crt", svid.cert_pem), ("tls.key", svid.key_pem), ("ca.crt", issuer.bundle_pem)):
        fresh = folder / f"{name}.new"
        fresh.write_bytes(data)
        fresh.chmod(0o600)
        os.rename(fresh, folder / name)


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not fact():
            await asyncio.sleep(0.01)


def sidecar_of(path: str, log: logs.Log, clock: Callable[[], float] = time.time) -> Sidecar:
    config = read_config_file(path)
    return Sidecar(
        config,
        config_path=path,
        read_config=lambda: read_config_file(path),
        open_socket=lambda address: open_socket(address, {}),
        log=log,
        metrics=metrics_of(config),
        clock=clock,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sidecar.yaml").write_text(
        "identity: {cert: tls.crt, key: tls.key, bundles: {example.org: ca.crt}, refresh_s: 0.1}\n"
        "inbound:\n"
        '  - {name: http, listen: "127.0.0.1:0", upstream: "127.0.0.1:9", allow: ["spiffe://example.org/**"]}\n'
        "admin: null\n"
    )
    return tmp_path


async def test_a_bug_in_a_reload_is_said_and_tried_again_and_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = minting.authority()
    write_identity(folder, issuer)
    path, said = str(folder / "sidecar.yaml"), folder / "log"
    with said.open("wb") as stream:
        log = logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    sidecar = sidecar_of(path, log)
    running = asyncio.ensure_future(sidecar.run())
    await until(lambda: sidecar.ready()[0])
    with monkeypatch.context() as patch:
        patch.setattr("proxy.ops.reload.build_generation", lambda *_: 1 / 0)
        write_identity(folder, issuer)
        await until(lambda: said.read_text().count("ZeroDivisionError") > 1)
        assert sidecar.ready()[0]
    await until(lambda: sidecar.generation == 2)
    sidecar.quit()
    assert await running == 0
    log.close()


async def test_a_pattern_that_can_match_nobody_is_said_at_the_start(folder: Path) -> None:
    write_identity(folder, minting.authority())
    path, said = folder / "sidecar.yaml", folder / "log"
    path.write_text(path.read_text().replace("spiffe://example.org/**", "spiffe://exmaple.org/**"))
    with said.open("wb") as stream:
        log = logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    sidecar = sidecar_of(str(path), log)
    running = asyncio.ensure_future(sidecar.run())
    await until(lambda: sidecar.ready()[0])
    sidecar.quit()
    assert await running == 0
    log.close()
    notices = [line for line in said.read_text().splitlines() if '"notice"' in line]
    assert "inbound[0].allow[0]: spiffe://exmaple.org/** can match nobody" in notices[0]


async def test_the_log_tells_the_start_in_its_order(folder: Path) -> None:
    write_identity(folder, minting.authority())
    said = folder / "log"
    with said.open("wb") as stream:
        log = logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    sidecar = sidecar_of(str(folder / "sidecar.yaml"), log)
    running = asyncio.ensure_future(sidecar.run())
    await until(lambda: sidecar.ready()[0])
    sidecar.quit()
    assert await running == 0
    log.close()
    events = [json.loads(line)["event"] for line in said.read_text().splitlines()]
    assert events == ["reload", "listening", "draining", "drained"]


async def test_a_clock_that_is_set_back_makes_it_unready_until_it_is_right(folder: Path) -> None:
    write_identity(folder, minting.authority())
    wrong_by_s = 0.0
    with (folder / "log").open("wb") as stream:
        log = logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    sidecar = sidecar_of(str(folder / "sidecar.yaml"), log, lambda: time.time() + wrong_by_s)
    running = asyncio.ensure_future(sidecar.run())
    await until(lambda: sidecar.ready()[0])
    wrong_by_s = -10 * 365 * 86400.0
    ready, why = sidecar.ready()
    assert not ready
    assert why.startswith("our certificate is valid only from ")
    wrong_by_s = 0.0
    assert sidecar.ready()[0]
    sidecar.quit()
    assert await running == 0
    log.close()

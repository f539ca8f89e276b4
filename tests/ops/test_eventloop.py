"""What the log says of an exception that no task of ours took."""

import asyncio
import json
from pathlib import Path

import pytest

from proxy.core.config import LogFormat, LogLevel
from proxy.ops import log as logs
from proxy.ops.eventloop import LOOPS, loop_factory, report_bugs


async def raise_in_a_callback(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with path.open("wb") as stream:
        log = logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    report_bugs(log)
    over = loop.create_future()
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(over.set_result, None)
    await over
    log.close()


@pytest.mark.parametrize("name", LOOPS)
def test_an_exception_in_a_callback_is_one_line_of_the_log(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTLS_SIDECAR_DEBUG", raising=False)
    with asyncio.Runner(loop_factory=loop_factory(name)) as runner:
        runner.run(raise_in_a_callback(tmp_path / "log"))
    [line] = (tmp_path / "log").read_text().splitlines()
    said = json.loads(line)
    assert (said["event"], said["fault"]) == ("internal error", "ZeroDivisionError")
    assert capfd.readouterr().err == ""

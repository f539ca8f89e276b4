"""`intercept`: what it prints, what it refuses, and its exit status; what the kernel makes of it is tests/e2e's."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.cli import intercept
from proxy.cli.main import main
from proxy.pod.netfilter import RulesFault
from proxy.pod.redirect import Family, Plan


class Kernel:
    """A backend that keeps what it is given. deaf: the families that it cannot write rules for"""

    name = "nft"

    def __init__(self, *deaf: Family) -> None:
        self.applied: list[tuple[list[Family], list[Family]]] = []
        self.cleaned = 0
        self._deaf = deaf

    def why_not(self, plan: Plan) -> str:
        return "no such table" if plan.family in self._deaf else ""

    def render(self, plans: Sequence[Plan]) -> str:
        return f"rules for {' and '.join(plan.family for plan in plans)}\n"

    def apply(self, plans: Sequence[Plan], gone: Sequence[Family]) -> None:
        self.applied.append(([plan.family for plan in plans], list(gone)))

    def clean(self) -> bool:
        self.cleaned += 1
        return self.cleaned == 1


@pytest.fixture
def addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /proc/net/if_inet6; written by the test, else there is no IPv6."""
    path = tmp_path / "if_inet6"
    monkeypatch.setattr(intercept, "_IF_INET6", path)
    return path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, addresses: Path):
    """`given(kernel)`: the one backend that there is."""

    def given(kernel: Kernel) -> Kernel:
        monkeypatch.setattr(intercept, "require_net_admin", lambda: None)
        monkeypatch.setattr(intercept, "require_pod", lambda: None)
        monkeypatch.setattr(intercept, "installed_backends", lambda: [kernel])
        monkeypatch.setattr(intercept, "choose_backend", lambda _word, _plan: kernel)
        return kernel

    return given


def run(*words: str) -> int:
    return main(["intercept", *words])


def test_apply_says_what_is_caught_and_what_is_not(given, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = given(Kernel())
    options = ("--include-inbound-ports", "8080", "--exclude-inbound-ports", "22,9000-9001")
    more = ("--include-outbound-cidrs", "10.0.0.0/8", "--exclude-outbound-ports", "5432", "--no-validate")
    assert run("apply", *options, *more) == 0
    assert capsys.readouterr().out == (
        "nft: rules for IPv4 are in force (this kernel has no IPv6)\n"
        "  inbound: port 8080 -> 15006, except ports 22, 9000-9001, 15000-15001, 15006, 15021\n"
        "  outbound: 10.0.0.0/8 -> 15001, except uid 1337 and gid 1337, port 5432\n"
    )
    assert kernel.applied == [([Family.IPV4], [Family.IPV6])]


def test_a_direction_that_is_left_alone_has_no_line(given, capsys: pytest.CaptureFixture[str]) -> None:
    given(Kernel())
    assert run("apply", "--no-validate", "--inbound-port", "none", "--outbound-port", "4140") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")] == [
        "  outbound: everything -> 4140, except uid 1337 and gid 1337"
    ]


def test_an_address_of_ipv6_without_rules_for_it_fails_the_pod(given, addresses: Path, capsys) -> None:
    addresses.write_text("fd000000000000000000000000000001 02 40 00 80     eth0\n")
    kernel = given(Kernel(Family.IPV6))
    assert run("apply", "--no-validate") == 1
    sentence = capsys.readouterr().err
    assert "its IPv6 traffic would go around the sidecar" in sentence
    assert "--ipv6 off" in sentence
    assert kernel.applied == []
    assert run("apply", "--no-validate", "--ipv6", "off") == 0


@pytest.mark.parametrize("scope", ["10", "20"])
def test_ipv6_that_leads_nowhere_is_skipped_with_a_line(given, addresses: Path, capsys, scope: str) -> None:
    addresses.write_text(f"00000000000000000000000000000001 01 80 {scope} 80       lo\n")
    given(Kernel(Family.IPV6))
    assert run("apply", "--no-validate") == 0
    assert "IPv6 is skipped: this Pod has no address of it, and no such table" in capsys.readouterr().out


def test_a_fault_is_one_sentence_and_status_1(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail() -> None:
        raise RulesFault("no")

    monkeypatch.setattr(intercept, "require_net_admin", fail)
    assert [run("apply"), run("clean")] == [1, 1]
    assert capsys.readouterr().err == "mtls-sidecar intercept: no\n" * 2


def test_a_machine_that_is_no_pod_has_to_be_meant(given, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail() -> None:
        raise RulesFault("this is the network of a whole machine")

    kernel = given(Kernel())
    monkeypatch.setattr(intercept, "require_pod", fail)
    assert (run("apply", "--no-validate"), kernel.applied) == (1, [])
    assert capsys.readouterr().err == "mtls-sidecar intercept: this is the network of a whole machine\n"
    assert run("apply", "--no-validate", "--whole-machine") == 0
    assert [run("--dry-run"), run("clean")] == [0, 0]


def test_clean_says_what_it_found(given, capsys: pytest.CaptureFixture[str]) -> None:
    given(Kernel())
    assert [run("clean"), run("clean")] == [0, 0]
    assert capsys.readouterr().out == "nft: rules removed\nthere were no rules of mtls-sidecar\n"


def test_clean_asks_for_no_ports(given) -> None:
    given(Kernel())
    assert run("clean", "--inbound-port", "none", "--outbound-port", "none") == 0


def test_clean_leaves_what_another_backend_has(given, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = given(Kernel())
    assert run("clean", "--backend", "iptables") == 0
    assert kernel.cleaned == 0


@pytest.mark.parametrize("words", [("--dry-run",), ("apply", "--dry-run")])
def test_a_dry_run_prints_and_changes_nothing(given, capsys: pytest.CaptureFixture[str], words) -> None:
    kernel = given(Kernel())
    assert run(*words) == 0
    assert capsys.readouterr().out == "rules for IPv4 and IPv6\n"
    assert kernel.applied == []


def test_a_dry_run_of_clean_changes_nothing(given, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = given(Kernel())
    assert run("clean", "--dry-run") == 0
    assert kernel.cleaned == 0
    assert "MTLS_SIDECAR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("backend", "first"), [("auto", "# nft -f -"), ("iptables-legacy", "# iptables-legacy-restore")]
)
def test_a_dry_run_needs_no_backend(monkeypatch: pytest.MonkeyPatch, capsys, backend: str, first: str) -> None:
    """On a laptop without either."""

    def none(_word: str, _plan: Plan) -> None:
        raise RulesFault("not installed")

    monkeypatch.setattr(intercept, "choose_backend", none)
    assert run("--dry-run", "--backend", backend, "--ipv6", "off") == 0
    assert capsys.readouterr().out.startswith(first)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "say apply or clean"),
        (("applY",), "invalid choice"),
        (("apply", "--config", "x.yaml", "--inbound-port", "4143"), "--config has the ports"),
        (("apply", "--inbound-port", "15001"), "both lead to port 15001"),
        (("apply", "--inbound-port", "none", "--outbound-port", "none"), "there is nothing to redirect; give one"),
        (("--dry-run", "--inbound-port", "none", "--outbound-port", "none"), "there is nothing to redirect; give one"),
        (("apply", "--inbound-port", "0"), "is no port"),
        (("apply", "--inbound-port", "1-2"), "is no port"),
        (("apply", "--exclude-inbound-ports", "http"), "'http' is no port"),
        (("apply", "--exclude-inbound-ports", "*"), "--inbound-port none"),
        (("apply", "--exclude-outbound-cidrs", "*"), "--outbound-port none"),
        (("apply", "--exclude-outbound-cidrs", "10.0.0.1/8"), "write 10.0.0.0/8"),
        (("apply", "--proxy-uid", "-1"), "is no number of a user"),
        (("apply", "--proxy-uid", "mtls"), "is no number of a user"),
        (("apply", "--proxy-gid", str(2**32 - 1)), "is no number of a user"),
        (("apply", "--backend", "ebtables"), "invalid choice"),
    ],
)
def test_a_wrong_argument_is_said_and_is_status_2(capsys: pytest.CaptureFixture[str], words, says: str) -> None:
    assert run(*words) == 2
    assert says in capsys.readouterr().err


def test_what_annotations_may_leave_empty_is_the_default() -> None:
    parser = argparse.ArgumentParser()
    intercept.add_arguments(parser)
    args = parser.parse_args(["apply", "--include-inbound-ports", "*", "--exclude-outbound-ports", ""])
    assert (args.include_inbound_ports, args.exclude_outbound_ports) == ((), ())


CONFIG = """\
identity: {cert: tls.crt, key: tls.key, bundles: {example.org: ca.crt}}
inbound: [{name: grpc, listen: "0.0.0.0:8443", upstream: "127.0.0.1:9000", mode: DISABLE}]
health: {listen: "0.0.0.0:15999"}
"""
INTERCEPT = "intercept: {inbound: {listen: '[::]:4143', default: {mode: DISABLE}}}\n"


def test_the_sidecars_configuration_has_the_ports(given, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also those that are no interception's: they would otherwise be redirected too."""
    given(Kernel())
    path = tmp_path / "sidecar.yaml"
    path.write_text(CONFIG + INTERCEPT)
    assert run("apply", "--no-validate", "--config", str(path)) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")] == [
        "  inbound: every port -> 4143, except ports 4143, 8443, 15000-15001, 15006, 15021, 15999"
    ]


def test_a_configuration_without_interception_is_refused(given, capsys, tmp_path: Path) -> None:
    kernel = given(Kernel())
    path = tmp_path / "sidecar.yaml"
    path.write_text(CONFIG)
    assert run("apply", "--config", str(path)) == 1
    assert "has no section `intercept`" in capsys.readouterr().err
    path.write_text(CONFIG + INTERCEPT + "x: 1\n")
    assert run("apply", "--config", str(path)) == 2
    assert f"{path}:5: x: unknown key" in capsys.readouterr().err
    assert kernel.applied == []

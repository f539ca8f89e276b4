"""The programs that carry rules: which is chosen, and what is said when one fails."""

import os
import stat
from pathlib import Path

import pytest

from proxy.pod import netfilter
from proxy.pod.netfilter import Iptables, Nft, RulesFault, choose_backend, installed_backends
from proxy.pod.redirect import Family, Redirect, plan

PLAN = plan(Redirect(), Family.IPV4)


class Programs:
    """A folder of programs that are the only ones. Each notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"

    def add(self, name: str, script: str = "exit 0") -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def fail(self, name: str, said: str) -> None:
        self.add(name, f'case "$*" in -V) echo "v1.8 (nf_tables)"; exit 0;; esac\necho "{said}" >&2\nexit 1')

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setattr(netfilter, "_FOLDERS", ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(netfilter, "_which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    return Programs(tmp_path)


def fault(word: str) -> str:
    with pytest.raises(RulesFault) as caught:
        choose_backend(word, PLAN)
    return str(caught.value)


def test_nft_is_preferred_and_each_variant_of_iptables_counts_once(programs: Programs) -> None:
    for name, words in (
        ("iptables", "v1.8 (legacy)"),
        ("iptables-nft", "v1.8 (nf_tables)"),
        ("iptables-legacy", "v1.8"),
    ):
        programs.add(name, f"echo '{words}'")
    programs.add("nft")
    assert [(backend.name, getattr(backend, "suffix", None)) for backend in installed_backends()] == [
        ("nft", None),
        ("iptables-legacy", ""),
        ("iptables-nft", "-nft"),
    ]


def test_a_backend_that_the_kernel_refuses_gives_way_to_the_next(programs: Programs) -> None:
    programs.fail("nft", "Error: Could not process rule: Operation not supported")
    for name in ("iptables", "iptables-restore"):
        programs.add(name, "echo '(nf_tables)'")
    assert isinstance(choose_backend("auto", PLAN), Iptables)
    assert "nft failed" in fault("nft")


def test_a_named_backend_is_that_one(programs: Programs) -> None:
    programs.add("nft")
    assert isinstance(choose_backend("nft", PLAN), Nft)
    assert fault("iptables-legacy") == (
        "iptables-legacy is not installed: the image needs the package nftables or iptables"
    )


def test_without_any_the_packages_are_named(programs: Programs) -> None:
    assert fault("auto").startswith("neither nft nor iptables is installed: the image needs the package")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Operation not permitted (you must be root)", "capabilities.add: [NET_ADMIN, NET_RAW]"),
        ("iptables v1.8.9 (legacy): can't initialize iptables table nat: Permission denied", "NET_ADMIN"),
        ("can't initialize iptables table nat: Table does not exist (do you need to insmod?)", "modprobe -a nf_nat"),
        ("Error: Could not process rule: No such file or directory", "modprobe -a nf_nat"),
    ],
)
def test_the_usual_complaints_have_a_hint(programs: Programs, said: str, hint: str) -> None:
    programs.fail("nft", said)
    sentence = fault("auto")
    assert said in sentence
    assert hint in sentence
    assert sentence.count("; ") == 1


def test_a_family_whose_program_is_missing_is_said_before_anything_is_written(programs: Programs) -> None:
    for name in ("iptables", "iptables-restore"):
        programs.add(name, "echo '(nf_tables)'")
    backend = choose_backend("auto", PLAN)
    assert backend.why_not(plan(Redirect(), Family.IPV6)) == "ip6tables is not installed"
    with pytest.raises(RulesFault, match="this Pod has IPv6: install it, or take --backend nft"):
        backend.apply([plan(Redirect(), Family.IPV6)], [])


def test_what_is_gone_is_looked_for_and_not_written(programs: Programs) -> None:
    """A kernel without IPv6: nothing of ours can be there."""
    programs.add("nft", 'case "$*" in *ip6*) exit 1;; esac')
    Nft(str(programs.folder / "nft")).apply([PLAN], [Family.IPV6])
    assert programs.called() == ["nft list table ip6 MTLS_SIDECAR", "nft -f -"]


def test_a_program_that_never_ends_is_given_up(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netfilter, "RUN_S", 0.05)
    programs.add("nft", "exec sleep 60")
    assert "did not come to an end within 0.05 s" in fault("nft")


def test_a_program_that_cannot_be_run_is_said(programs: Programs) -> None:
    (programs.folder / "nft").write_text("")
    assert "nft cannot be run: Permission denied" in fault("nft") or os.geteuid() != 0


@pytest.mark.parametrize(("effective", "may"), [("0000000000001000", True), ("0000000000000fff", False)])
def test_the_capability_decides_and_not_the_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effective: str, may: bool
) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tpython\nCapEff:\t{effective}\n")
    monkeypatch.setattr(netfilter, "_STATUS", status)
    if may:
        netfilter.require_net_admin()
    else:
        with pytest.raises(RulesFault, match="has no NET_ADMIN capability"):
            netfilter.require_net_admin()


@pytest.mark.parametrize("pids", ["pid:[4026531836]", "pid:[4026532000]", None])
@pytest.mark.parametrize("is_first_network", [True, False])
def test_a_machine_is_known_by_both_of_its_namespaces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pids: str | None, is_first_network: bool
) -> None:
    monkeypatch.setattr(netfilter, "_OF_THE_FIRST_NETWORK", tmp_path if is_first_network else tmp_path / "missing")
    monkeypatch.setattr(netfilter, "_PID_NAMESPACE", tmp_path / "pid")
    if pids is not None:
        (tmp_path / "pid").symlink_to(pids)
    if is_first_network and pids == "pid:[4026531836]":
        with pytest.raises(RulesFault, match="the network of a whole machine and not a Pod's: "):
            netfilter.require_pod()
    else:
        netfilter.require_pod()

"""
The programs that carry rules into the kernel: nft, and iptables in its two variants. Found, asked and run here.

The three are ways to the same kernel, not to the same rules: what iptables-legacy wrote, iptables-nft does not show. So
a change of backend cleans the others up, and `clean` looks at all of them. The legacy variant is only asked where its
tables exist in this network namespace already, since asking alone would create them.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from proxy.pod import iptables, nftables
from proxy.pod.redirect import Family, Plan

RUN_S = 30.0  # for one program; the lock of iptables may be held by a neighbour for a moment
LOCK_S = 5
_NET_ADMIN = 12  # capability(7)
_STATUS = Path("/proc/self/status")
# net_core_table of net/core/sysctl_net_core.c: what is not of one namespace is there in the first one alone.
_OF_THE_FIRST_NETWORK = Path("/proc/sys/net/core/netdev_budget")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO
_FOLDERS = ("/usr/sbin", "/sbin")
_CONTAINER = "give the init container `securityContext.capabilities.add: [NET_ADMIN, NET_RAW]` and `runAsUser: 0`"


class RulesFault(Exception):  # noqa: N818  # the operator's, as ConfigFault is
    """The rules cannot be put in force, removed or proven; the message says why and what to do."""


class Backend(Protocol):
    """One way into the kernel."""

    @property
    def name(self) -> str:
        """The word of --backend."""
        ...

    def why_not(self, plan: Plan) -> str:
        """Why it cannot carry such a plan, here; empty when it can."""
        ...

    def render(self, plans: Sequence[Plan]) -> str:
        """What it would feed to its program, for a Pod without rules of ours."""
        ...

    def apply(self, plans: Sequence[Plan], gone: Sequence[Family]) -> None:
        """Put plans in force and remove what there is of other families. Raises: RulesFault"""
        ...

    def clean(self) -> bool:
        """Remove everything of ours; returns whether there was anything. Raises: RulesFault"""
        ...


@dataclass(frozen=True, slots=True)
class Nft:
    """nftables."""

    program: str
    name: str = "nft"

    def why_not(self, plan: Plan) -> str:
        """Ask the kernel to check the rules without taking them."""
        return _complaint([self.program, "--check", "-f", "-"], nftables.render([plan]))

    def render(self, plans: Sequence[Plan]) -> str:
        """The input of `nft -f -`."""
        return f"# nft -f -\n{nftables.render(plans)}"

    def apply(self, plans: Sequence[Plan], gone: Sequence[Family]) -> None:
        """One transaction for both families."""
        present = [family for family in gone if self._has(family)]
        _run([self.program, "-f", "-"], nftables.render(plans, present))

    def clean(self) -> bool:
        """Delete our tables."""
        present = [family for family in Family if self._has(family)]
        if present:
            _run([self.program, "-f", "-"], nftables.render([], present))
        return bool(present)

    def _has(self, family: Family) -> bool:
        return not _complaint([self.program, "list", "table", nftables.FAMILIES[family], nftables.TABLE])


@dataclass(frozen=True, slots=True)
class Iptables:
    """iptables and ip6tables. suffix: of the programs' names; empty for the distribution's choice of a variant."""

    name: str  # iptables-nft or iptables-legacy
    suffix: str

    def why_not(self, plan: Plan) -> str:
        """Ask for the table."""
        program = _which(self._names(plan.family)[0])
        if program is None or _which(self._names(plan.family)[1]) is None:
            return f"{self._names(plan.family)[0]} is not installed"
        return _complaint([program, "-w", str(LOCK_S), "-t", "nat", "-S"])

    def render(self, plans: Sequence[Plan]) -> str:
        """The input of iptables-restore, for each family."""
        nothing = iptables.Installed()
        return "\n".join(
            f"# {self._names(plan.family)[1]} --noflush\n{iptables.render(plan, nothing)}" for plan in plans
        )

    def apply(self, plans: Sequence[Plan], gone: Sequence[Family]) -> None:
        """One transaction for each family."""
        for plan in plans:
            self._restore(plan.family, iptables.render(plan, self._installed(plan.family)))
        for family in gone:
            self._clean(family)

    def clean(self) -> bool:
        """Remove our chains and the jumps into them."""
        return [self._clean(family) for family in Family] != [False, False]  # both, whatever the first says

    def _clean(self, family: Family) -> bool:
        if _which(self._names(family)[0]) is None or (self.name == "iptables-legacy" and not _has_legacy_nat(family)):
            return False
        if _complaint([self._program(0, family), "-t", "nat", "-S"]):
            return False  # no such table in this kernel, so nothing in it
        installed = self._installed(family)
        if installed == iptables.Installed():
            return False
        self._restore(family, iptables.render(None, installed))
        return True

    def _installed(self, family: Family) -> iptables.Installed:
        return iptables.parse_installed(_run([self._program(0, family), "-w", str(LOCK_S), "-t", "nat", "-S"]))

    def _restore(self, family: Family, text: str) -> None:
        _run([self._program(1, family), "--noflush", "-w", str(LOCK_S)], text)

    def _names(self, family: Family) -> tuple[str, str]:
        stem = f"{'iptables' if family is Family.IPV4 else 'ip6tables'}{self.suffix}"
        return stem, f"{stem}-restore"

    def _program(self, which: int, family: Family) -> str:
        name = self._names(family)[which]
        program = _which(name)
        if program is None:
            raise RulesFault(f"{name} is not installed, and this Pod has {family}: install it, or take --backend nft")
        return program


BACKENDS = ("auto", "nft", "iptables", "iptables-nft", "iptables-legacy")


def installed_backends() -> list[Backend]:
    """Those whose programs are here, the one to prefer first; each variant of iptables once."""
    found: list[Backend] = []
    if program := _which("nft"):
        found.append(Nft(program))
    variants: set[str] = set()
    for suffix in ("", "-nft", "-legacy"):
        program = _which(f"iptables{suffix}")
        if program is None:
            continue
        variant = "iptables-nft" if "nf_tables" in _version(program) else "iptables-legacy"
        if variant not in variants:
            variants.add(variant)
            found.append(Iptables(variant, suffix))
    return found


def choose_backend(word: str, plan: Plan) -> Backend:
    """
    The backend that --backend means: for `auto` the first that this kernel takes rules from.

    Raises: RulesFault with why each of them cannot
    """
    candidates = [
        backend
        for backend in installed_backends()
        if word in ("auto", backend.name) or (word == "iptables" and isinstance(backend, Iptables))
    ]
    reasons = []
    for backend in candidates:
        why = backend.why_not(plan)
        if not why:
            return backend
        reasons.append(why)
    if not candidates:
        what = "neither nft nor iptables is" if word == "auto" else f"{word} is not"
        raise RulesFault(f"{what} installed: the image needs the package nftables or iptables")
    raise RulesFault(f"no rules can be written here: {'; '.join(reasons)}")


def require_net_admin() -> None:
    """Raises: RulesFault where this process may not change rules, whatever its uid."""
    try:
        status = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return  # the programs will say it
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "")
    if effective and not int(effective, 16) >> _NET_ADMIN & 1:
        raise RulesFault(f"uid {os.geteuid()} has no NET_ADMIN capability here: {_CONTAINER}")


def require_pod() -> None:
    """
    Raises: RulesFault in a shell of a machine, whose whole network it would be

    The network alone does not tell: a container in a virtual machine of its own (Kata) has that machine's.
    """
    try:
        is_first = os.readlink(_PID_NAMESPACE) == _FIRST_PID_NAMESPACE
    except OSError:
        return
    if is_first and _OF_THE_FIRST_NETWORK.exists():
        raise RulesFault(
            "this is the network of a whole machine and not a Pod's: every TCP connection to it and from it would be "
            "redirected, new ones of its sshd too. Run it in the Pod's init container, or in a network namespace "
            "(ip netns exec NAME ...); if the machine itself is meant, add --whole-machine"
        )


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_FOLDERS))


def _version(program: str) -> str:
    try:
        return _run([program, "-V"])
    except RulesFault:
        return ""


def _has_legacy_nat(family: Family) -> bool:
    names = "ip_tables_names" if family is Family.IPV4 else "ip6_tables_names"
    try:
        return "nat" in Path(f"/proc/net/{names}").read_text(encoding="ascii").split()
    except OSError:
        return False


def _complaint(argv: list[str], text: str = "") -> str:
    """What a program says when it fails, in one line; empty when it does not."""
    try:
        _run(argv, text)
    except RulesFault as fault:
        return str(fault)
    return ""


def _run(argv: list[str], text: str = "") -> str:
    name = os.path.basename(argv[0])
    try:
        done = subprocess.run(  # noqa: S603  a program by its path, with arguments of ours
            argv,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=RUN_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise RulesFault(f"{name} did not come to an end within {RUN_S:g} s") from None
    except OSError as error:
        raise RulesFault(f"{name} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        said = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip() and line.strip(" ^"))
        raise RulesFault(f"{name} failed: {said or f'status {done.returncode}, without a word'}{_hint(said)}")
    return done.stdout


def _hint(said: str) -> str:
    """What to do about the usual complaints."""
    words = said.lower()
    if "not permitted" in words or "permission denied" in words or "you must be root" in words:
        return f"; {_CONTAINER}"
    missing = (
        "does not exist",
        "insmod",
        "no such file",
        "not supported",
        "can't initialize",
        "missing kernel",
        "proto",
    )
    if any(word in words for word in missing):
        return (
            "; the node's kernel lacks a module: `modprobe -a nf_nat nf_tables nft_redir ip_tables iptable_nat "
            "xt_owner xt_REDIRECT xt_multiport` on the node, or another --backend"
        )
    return ""

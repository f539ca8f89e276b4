"""
The command `intercept` on a real kernel: once and twice are the same, other options replace the rules, `clean` leaves
what is not ours, and rules that do not hold fail the Pod at once.
"""

import subprocess

import pytest

from tests.e2e.apps import echo
from tests.e2e.pods import Namespace, Node, Pod
from tests.programs import program

pytestmark = pytest.mark.needs("ip", "iptables", "nft", "nsenter", "setpriv", "unshare")

BACKENDS = ("nft", "iptables-nft", "iptables-legacy")


def listing(pod: Namespace, backend: str) -> list[str]:
    """The rules of a Pod as the kernel has them, of both families."""
    if backend == "nft":
        return pod.run(program("nft"), "list", "ruleset").stdout.splitlines()
    suffix = backend.removeprefix("iptables")
    return [
        line
        for stem in ("iptables", "ip6tables")
        for line in pod.run(program(f"{stem}{suffix}"), "-t", "nat", "-S").stdout.splitlines()
    ]


def feed(pod: Namespace, *argv: str, text: str) -> None:
    """Let a program read rules from its standard input."""
    subprocess.run(pod.command(program(argv[0]), *argv[1:]), input=text, text=True, check=True, capture_output=True)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, node: Node) -> str:
    """Each way into the kernel, as far as this one has it."""
    word = str(request.param)
    if word != "nft":
        probe = node.run(program(f"iptables{word.removeprefix('iptables')}"), "-t", "nat", "-S")
        if probe.returncode != 0:
            pytest.skip(f"this kernel does without {word}: {probe.stderr.strip()}")
    return word


@pytest.fixture
def pod(node: Node) -> Pod:
    return node.pod("pod")


def test_twice_is_once(pod: Pod, backend: str) -> None:
    said = pod.apply("--backend", backend)
    once = listing(pod, backend)
    assert any("MTLS_SIDECAR" in line for line in once)
    assert not any("15002" in line for line in once)  # the rule for the probe was there for the probe alone
    assert said.count("  validated: ") == 4
    pod.apply("--backend", backend)
    assert listing(pod, backend) == once


def test_other_options_replace_the_rules(pod: Pod, backend: str) -> None:
    ours = ("--backend", backend, "--no-validate")
    pod.apply(*ours, "--exclude-inbound-ports", "22", "--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8")
    pod.apply(*ours, "--include-inbound-ports", "8080", "--outbound-port", "none")
    changed = listing(pod, backend)
    assert pod.intercept("clean").returncode == 0
    pod.apply(*ours, "--include-inbound-ports", "8080", "--outbound-port", "none")
    assert listing(pod, backend) == changed
    assert not any("15001 " in line or "fd00" in line or "1337" in line for line in changed)


def test_clean_removes_ours_and_nothing_else(pod: Pod, backend: str) -> None:
    if backend == "nft":
        feed(pod, "nft", "-f", "-", text="table ip theirs {\n chain c { type nat hook output priority 0; }\n}\n")
    else:
        theirs = "*nat\n:THEIRS - [0:0]\n-A OUTPUT -p tcp -j THEIRS\n-A PREROUTING -p tcp -j THEIRS\nCOMMIT\n"
        feed(pod, f"iptables{backend.removeprefix('iptables')}-restore", "--noflush", text=theirs)
    before = listing(pod, backend)
    pod.apply("--backend", backend, "--no-validate")
    assert set(before) < set(listing(pod, backend))
    cleaned = pod.intercept("clean")
    assert (cleaned.returncode, cleaned.stdout) == (0, f"{backend}: rules removed\n")
    left = listing(pod, backend)
    assert [line for line in left if line not in before and "MTLS" in line] == []
    assert [line for line in before if line not in left] == []
    again = pod.intercept("clean")
    assert (again.returncode, again.stdout) == (0, "there were no rules of mtls-sidecar\n")


def test_what_a_dry_run_prints_is_what_apply_puts_in_force(node: Node, pod: Pod, backend: str) -> None:
    options = ("--backend", backend, "--exclude-inbound-ports", "22,9000-9100", "--exclude-outbound-ports", "5432")
    printed = pod.intercept("--dry-run", *options)
    assert printed.returncode == 0, printed
    assert not any("MTLS" in line for line in listing(pod, backend))
    by_hand = node.pod("hand")
    for part in printed.stdout.split("# ")[1:]:
        head, _, _ = part.partition("\n")
        if head.startswith(("nft", "iptables", "ip6tables")):
            name, *words = head.split()
            text = printed.stdout.partition(f"# {head}\n")[2].partition("\n# ip6tables")[0]
            feed(by_hand, name, *words, text=f"{text}\n")
    pod.apply(*options, "--no-validate")
    assert listing(by_hand, backend) == listing(pod, backend)


def test_a_change_of_the_backend_leaves_no_rules_behind(pod: Pod) -> None:
    pod.apply("--backend", "iptables-nft", "--no-validate")
    assert "iptables-nft: older rules removed" in pod.apply("--backend", "nft", "--no-validate")
    assert not any("MTLS_SIDECAR_" in line for line in listing(pod, "iptables-nft"))
    assert any("MTLS_SIDECAR" in line for line in listing(pod, "nft"))


# Rules that do not hold.


def failed(done: "subprocess.CompletedProcess[str]") -> str:
    """The one sentence of a command that failed."""
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
    return done.stderr


def test_without_net_admin_it_fails_and_says_what_to_add(pod: Pod) -> None:
    sentence = failed(pod.intercept("apply", uid=1000))
    assert "uid 1000 has no NET_ADMIN capability" in sentence
    assert "capabilities.add: [NET_ADMIN, NET_RAW]" in sentence
    assert failed(pod.intercept("clean", uid=1000)) == sentence
    assert pod.intercept("--dry-run", uid=1000).returncode == 0


def test_rules_of_others_that_come_first_fail_the_pod(pod: Pod) -> None:
    """As a CNI plugin's or another mesh's may."""
    theirs = (
        "table ip theirs {\n chain c { type nat hook output priority -150; tcp dport 1-65535 redirect to :4140; }\n}"
    )
    feed(pod, "nft", "-f", "-", text=theirs)
    sentence = failed(pod.intercept("apply"))
    assert "did not come to port 15006" in sentence
    assert "other rules of this Pod come first" in sentence
    assert any("MTLS_SIDECAR" in line for line in listing(pod, "nft"))  # in force all the same: nothing goes unseen


def test_the_uid_that_is_exempt_can_prove_nothing(pod: Pod) -> None:
    sentence = failed(pod.intercept("apply", "--proxy-uid", "0"))
    assert "which the rules let through, so nothing can be proven" in sentence


def test_beside_a_running_sidecar_the_rules_are_changed_and_not_probed(pod: Pod) -> None:
    pod.app(echo, 15006)
    pod.app(echo, 15001)
    said = pod.apply()
    assert said.count("not validated: ") == 4
    assert "port 15006 is in use, so a sidecar runs already" in said


def test_a_pod_without_a_route_is_told_that_outbound_was_not_proven(node: Node, pod: Pod) -> None:
    pod.ip("route", "del", "default")
    said = pod.apply("--ipv6", "off")
    assert "not validated: outbound IPv4: this Pod has no IPv4 route to 192.0.2.255" in said
    assert "IPv6 is left as it is, as --ipv6 off says" in said

"""
The image's file system and security context, proven without Docker.

The build stage of the Dockerfile is carried out command by command (apt-get excepted: nft is this machine's), and what
it assembles runs as a container would: uid 1337, no capabilities, a root that is read-only, no network but loopback.
What this does not prove is in docs/unproven.md: the official base image, and Docker's own reading of the file.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from proxy.pod.redirect import PROXY_GID, PROXY_UID
from tests.deploy import dockerfile
from tests.deploy.container import Image, Network, init, restricted
from tests.deploy.dockerfile import REPOSITORY
from tests.e2e.apps import App, echo
from tests.e2e.tlspeers import client_context, what_is_seen
from tests.e2e.waiting import PATIENCE_S, text_of, until

pytestmark = [
    pytest.mark.needs("bwrap", "unshare", "setpriv", "nsenter", "ip", "nft"),
    pytest.mark.timeout(400),  # the first one builds the image, from an index that may be slow
]

PYTHON = re.compile(r"(?!opt/).*(/lib/python3|/libpython3|/bin/python3)")  # its library, and itself
PROGRAM = dockerfile.entry_point()
CONFIG = {
    "identity": {
        "cert": "/run/svid/tls.crt",
        "key": "/run/svid/tls.key",
        "bundles": {"example.org": "/run/svid/ca.crt"},
    },
    "inbound": [{"name": "http", "listen": "127.0.0.1:15006", "allow": ["spiffe://example.org/**"]}],
    "health": {"listen": "127.0.0.1:15021"},
}


def run(image: Image, *arguments: str, state: Path, net: Network | None = None) -> subprocess.CompletedProcess[str]:
    argv = restricted(image, [PROGRAM, *arguments], net=net, writable={"/tmp": state})
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def issue(image: Image, state: Path) -> None:
    done = run(
        image,
        "certs",
        "issue",
        "spiffe://example.org/ns/shop/sa/web",
        "--ca",
        "/tmp/ca",
        "--out",
        "/tmp/svid",
        state=state,
    )
    assert done.returncode == 0, done.stderr


def test_it_holds_no_shell_and_no_installer_and_nothing_that_gives_rights(image: Image) -> None:
    names = {path.name for path in image.root.rglob("*") if not path.is_dir() or path.suffix == ".dist-info"}
    assert names & {"sh", "bash", "dash", "busybox", "apt-get", "dpkg", "pip", "pip3", "perl", "gcc"} == set()
    assert [name for name in names if name.startswith(("pip-", "setuptools-"))] == []
    modes = {path: path.lstat().st_mode for path in image.root.rglob("*") if not path.is_symlink()}
    assert [path for path, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)] == []
    writable = {path.relative_to(image.root).as_posix() for path, mode in modes.items() if mode & stat.S_IWOTH}
    assert writable == {"tmp"}


def test_it_is_as_small_as_the_page_says(image: Image) -> None:
    """Beside Python itself: a build of one's own, with what debuggers read, has twice the size of a distribution's."""
    files = [path for path in image.root.rglob("*") if path.is_file() and not path.is_symlink()]
    ours = [path for path in files if not PYTHON.match(path.relative_to(image.root).as_posix())]
    megabytes = sum(path.stat().st_size for path in ours) / 1e6
    page = (REPOSITORY / "docs" / "image.md").read_text()
    (stated,) = re.findall(r"Of the (\d+) MB, Python and its standard library with bytecode are (\d+),", page)
    assert f"| sidecar | {stated[0]} MB |" in page
    beside = int(stated[0]) - int(stated[1])
    assert abs(megabytes - beside) < 15, f"docs/image.md says {beside} MB beside Python, and it has {megabytes:.0f}"
    assert len(files) - len(ours) > 500, "this machine's Python is not where it was looked for"


def test_a_scanner_finds_what_it_is_made_of(image: Image) -> None:
    packages = {path.name for path in (image.root / "var" / "lib" / "dpkg" / "status.d").iterdir()}
    assert packages >= {"libc6", "nftables"}
    found = {path.name.partition("-")[0] for path in image.root.rglob("*.dist-info")}
    assert found >= {"cryptography", "pyopenssl", "uvloop", "mtls_sidecar"}
    assert (image.root / "etc" / "os-release").is_file()


@pytest.mark.parametrize("engine", ["openssl", "boringssl"])
def test_it_lives_rotates_and_drains_as_the_restricted_user(
    image: Image, net: Network, state: Path, engine: str
) -> None:
    if engine == "boringssl" and not dockerfile.has_engine():
        assert "CI" not in os.environ, "CI has to run `make engine`"
        pytest.skip("needs the BoringSSL engine: make engine")
    app = net.inside(lambda: App(echo))
    listener = {**CONFIG["inbound"][0], "upstream": text_of(app.address)}  # type: ignore[dict-item]
    config = {**CONFIG, "inbound": [listener], "tls": {"engine": engine}}
    (state / "config").mkdir()
    (state / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    assert run(image, "certs", "ca", "example.org", "--out", "/tmp/ca", state=state).returncode == 0
    issue(image, state)
    command = [PROGRAM, *dockerfile.default_command()]
    mounts = {"/etc/mtls-sidecar": state / "config", "/run/svid": state / "svid"}
    argv = restricted(image, command, net=net, mounts=mounts)
    log = state / "log"
    with app, log.open("wb") as stderr, subprocess.Popen(argv, stderr=stderr) as process:
        try:
            until(lambda: healthy(image, net), "the health check of the image is content")
            pid = sandboxed(process.pid)
            assert security_of(pid) == {
                "Uid": {PROXY_UID},
                "Gid": {PROXY_GID},
                "CapEff": {0},
                "CapBnd": {0},
                "NoNewPrivs": {1},
            }
            assert not Path(f"/proc/{pid}/root/etc").stat().st_mode & stat.S_IWOTH
            first = seen(net, state)
            issue(image, state)
            until(lambda: published(log) == 2, "the new certificate is in force")
            assert (first, seen(net, state)) == ("served", "served")
            os.kill(pid, signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            sys.stdout.write(log.read_text())  # shown where the test has failed
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["tls_engine"] for line in lines if line["event"] == "starting"] == [engine]
    assert [line["event"] for line in lines][-2:] == ["draining", "drained"]
    assert [line for line in lines if line["event"] == "internal error"] == []


_WRITABLE = """
import os, sys
for folder, _, _ in os.walk("/"):
    if os.access(folder, os.W_OK) and not folder.startswith(("/proc", "/dev")):
        sys.exit(folder)
"""


def test_nothing_of_its_root_can_be_written(image: Image) -> None:
    command = ["/opt/mtls-sidecar/bin/python", "-I", "-c", _WRITABLE]
    argv = restricted(
        image,
        command,
    )
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_its_init_container_writes_and_removes_the_packet_rules(image: Image, net: Network) -> None:
    for words, expected in ((["apply"], True), (["clean"], False)):
        argv = init(image, [PROGRAM, "intercept", *words], net=net)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        rules = subprocess.run(
            [*net.argv(), "nft", "list", "ruleset"], capture_output=True, text=True, check=True
        ).stdout
        assert ("15006" in rules) is expected


def healthy(image: Image, net: Network) -> bool:
    argv = restricted(image, dockerfile.health_check(), net=net)
    return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0


def sandboxed(bwrap: int) -> int:
    """The process that bubblewrap runs, as this machine numbers it."""
    children = Path(f"/proc/{bwrap}/task/{bwrap}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def security_of(pid: int) -> dict[str, set[int]]:
    """What the kernel says about a process's rights."""
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    table = {words[0].rstrip(":"): words[1:] for words in lines if words}
    decimal = {name: {int(word) for word in table[name]} for name in ("Uid", "Gid", "NoNewPrivs")}
    return decimal | {name: {int(word, 16) for word in table[name]} for name in ("CapEff", "CapBnd")}


def seen(net: Network, state: Path) -> str:
    """What a client with an SVID of the same CA sees."""
    context = client_context(None, trust=state / "svid" / "ca.crt")
    context.load_cert_chain(state / "svid" / "tls.crt", state / "svid" / "tls.key")
    return net.inside(lambda: what_is_seen(("127.0.0.1", 15006), context))


def published(log: Path) -> int:
    """The generation in force, by the log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return max((line["generation"] for line in lines if line.get("result") == "published"), default=0)

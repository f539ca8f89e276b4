"""
What a container runtime does to a process, done by bubblewrap, setpriv and ip: the uid, no capabilities, a root that
cannot be written, no network but loopback.
"""

import ctypes
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from proxy.pod.redirect import PROXY_GID, PROXY_UID
from tests.programs import program

_CLONE_NEWNET = 0x40000000

# pytest's folders are root's alone, and every other run of pytest makes them so again. In a mount namespace of its own,
# what a container mounts is put where any user gets to: the first source at /mnt/0, and so on.
_WITHIN_REACH = """
left=$1; shift; number=0
mount -t tmpfs -o mode=0755 tmpfs /mnt
while [ $number -lt $left ]; do
    if [ -d "$1" ]; then mkdir /mnt/$number; else touch /mnt/$number; fi
    mount --bind "$1" /mnt/$number
    number=$((number + 1)); shift
done
exec "$@"
"""
Result = TypeVar("Result")


class Image(NamedTuple):
    """What runs: the root, and the environment that the default image sets."""

    root: Path
    variables: dict[str, str]


class Network:
    """A network namespace with loopback alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns", name)

    def argv(self) -> list[str]:
        """What to put before a command, so that it runs inside."""
        return [program("nsenter"), f"--net={self.path}", "--"]

    def inside(self, do: Callable[[], Result]) -> Result:
        """Call a function in a thread of the namespace: the sockets that it makes are there for good."""
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                with self.path.open() as opened:
                    if ctypes.CDLL(None, use_errno=True).setns(opened.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                results.append(do())
            except BaseException as error:  # the caller's to see
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]


@contextmanager
def network() -> Iterator[Network]:
    """A new one, gone with whatever is in it."""
    name = f"mtls-sidecar-{os.getpid()}-{secrets.token_hex(4)}"
    subprocess.run([program("ip"), "netns", "add", name], check=True)
    try:
        subprocess.run([program("ip"), "-n", name, "link", "set", "lo", "up"], check=True)
        yield Network(name)
    finally:
        subprocess.run([program("ip"), "netns", "delete", name], check=True)


def cable(one: Network, other: Network, addresses: tuple[str, str]) -> None:
    """Connect two namespaces; an address with its prefix length for each end."""
    end = f"veth{secrets.token_hex(3)}"
    ends = ((one, f"{end}a", addresses[0]), (other, f"{end}b", addresses[1]))
    peer = ["peer", "name", ends[1][1], "netns", other.name]
    make = ["link", "add", "name", ends[0][1], "netns", one.name, "type", "veth", *peer]
    subprocess.run([program("ip"), *make], check=True)
    for net, name, address in ends:
        subprocess.run([program("ip"), "-n", net.name, "address", "add", address, "dev", name], check=True)
        subprocess.run([program("ip"), "-n", net.name, "link", "set", name, "up"], check=True)


def restricted(
    image: Image,
    command: Sequence[str],
    *,
    net: Network | None = None,
    mounts: Mapping[str, Path] | None = None,
    writable: Mapping[str, Path] | None = None,
) -> list[str]:
    """
    The argv of a container under the `restricted` security context; without a network where `net` is None.

    mounts, writable: path in it -> folder or file of ours
    """
    drop = [
        "--reuid",
        str(PROXY_UID),
        "--regid",
        str(PROXY_GID),
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    mounts, writable = mounts or {}, writable or {}
    sources = [image.root, *mounts.values(), *writable.values()]
    root, *places = (Path("/mnt", str(number)) for number in range(len(sources)))
    argv = net.argv() if net else []
    argv += [program("unshare"), "--mount", "--", "/bin/sh", "-ec", _WITHIN_REACH, "sh", str(len(sources))]
    argv += [str(source) for source in sources]
    argv += [program("setpriv"), *drop, "--no-new-privs", "--"]
    argv += [program("bwrap"), "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    argv += [] if net else ["--unshare-net"]
    argv += ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--as-pid-1", "--die-with-parent"]
    read, write = places[: len(mounts)], places[len(mounts) :]
    bound = _rest(image, dict(zip(mounts, read, strict=True)), dict(zip(writable, write, strict=True)))
    return [*argv, *bound, "--", *command]


def init(image: Image, command: Sequence[str], *, net: Network) -> list[str]:
    """The argv of the init container: root, with NET_ADMIN and NET_RAW and nothing else."""
    argv = [*net.argv(), program("bwrap"), "--ro-bind", str(image.root), "/", "--proc", "/proc", "--dev", "/dev"]
    argv += ["--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL", "--cap-add", "CAP_NET_ADMIN"]
    return [*argv, "--cap-add", "CAP_NET_RAW", *_rest(image, {}, {}), "--", *command]


def _rest(image: Image, mounts: Mapping[str, Path], writable: Mapping[str, Path]) -> list[str]:
    argv = ["--clearenv", "--chdir", "/"]
    for name, value in image.variables.items():
        argv += ["--setenv", name, value]
    for option, table in (("--ro-bind", mounts), ("--bind", writable)):
        for place, folder in table.items():
            argv += [option, str(folder), place]
    return argv

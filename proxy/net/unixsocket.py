"""
A listening unix socket that only whom it is for can reach, and its file.

The file of a program that was killed stays behind. It is replaced when nobody answers on it; a living listener and
anything that is not a socket are left alone and reported.
"""

import errno
import os
import socket
import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens, and which file is its own."""

    socket: socket.socket
    path: str
    inode: int

    def unlink(self) -> None:
        """Remove our file, unless another has taken its place."""
        try:
            if os.stat(self.path).st_ino == self.inode:
                os.unlink(self.path)
        except FileNotFoundError:
            pass


def listen(path: str, *, mode: int = 0o600, backlog: int | None = 64) -> Listening:
    """
    Listen on `path`, in place of a socket that nobody listens on any more.

    mode:    permissions of the file, whatever the umask says; by default for the owner alone
    backlog: None: only take the path, whoever is to serve it listens
    Raises:  OSError(EADDRINUSE) for a living listener, OSError(EEXIST) for another kind of file, any other OSError
    """
    _remove_stale(path)
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ours.setblocking(False)
        ours.bind(path)
        os.chmod(path, mode)  # before listen(): until then nobody can connect
        if backlog is not None:
            ours.listen(backlog)
        return Listening(ours, path, os.stat(path).st_ino)
    except OSError:
        ours.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove a socket file whose listener is gone; anything else that stands there is a fault, never removed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "There is a file in the way that is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody is listening
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)

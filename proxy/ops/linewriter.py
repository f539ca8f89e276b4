"""
Whole lines onto stderr, without ever holding up the loop.

The log runs on the connections' own stack, so a reader that stopped reading (a paused terminal, a stuck log shipper)
must not stop the traffic. A line that cannot be taken at once is dropped and counted, and the first line that gets
through again carries the count before it. Waiting in a queue instead would only move the question of the bound.

How a write is kept from blocking depends on what stderr is:

- a pipe or a terminal: opened anew through /proc/self/fd with O_NONBLOCK. Setting that flag on the inherited descriptor
  would also set it for whoever shares it: the shell, other workers, other programs of the container;
- a socket (journald): send with MSG_DONTWAIT;
- a file: written as it is, a disk is not a peer. Opening it anew would give it a second write position;
- anything that cannot be opened anew (another user's pipe, another system): asked with poll() before each write. A pipe
  that says yes takes at least PIPE_BUF (4096) bytes; only a longer line can wait there, and hardly any line is longer.

A pipe takes up to PIPE_BUF bytes whole or not at all. When a longer line is taken in part, its rest is kept and goes
out before the next one, so a line is never torn by another of ours, and what is kept is never more than one line.
"""

import os
import select
import socket
import stat
from collections.abc import Callable


class LineWriter:
    """
    Writes lines to a descriptor, each by one write, none by waiting.

    descriptor: an open descriptor, usually 2; it stays the caller's
    notice:     makes the line that tells how many were lost, with its newline
    """

    def __init__(self, descriptor: int, notice: Callable[[int], bytes]) -> None:
        self._notice = notice
        self._rest = b""
        self._unreported = 0
        self.dropped = 0  # lines lost since the start
        self._send, self._close = _open(descriptor)

    def write(self, line: bytes) -> None:
        """Write one line, newline included, or count it as dropped; never raises, never waits."""
        try:
            if self._rest:
                self._rest = self._rest[self._send(self._rest) :]
            if not self._rest:
                data = self._notice(self._unreported) + line if self._unreported else line
                self._rest = data[self._send(data) :]
                self._unreported = 0
                return
        except OSError:
            pass  # full, closed, or the reader is gone: the proxy goes on, and there is nowhere left to complain
        self.dropped += 1
        self._unreported += 1

    def close(self) -> None:
        """Give back what was opened here; lines after this are dropped."""
        self._close()


def _open(descriptor: int) -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """Choose the way to write that fits what the descriptor is: (send, close)."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        peer = socket.socket(fileno=os.dup(descriptor))
        return lambda data: peer.send(data, socket.MSG_DONTWAIT), peer.close
    if stat.S_ISREG(mode):
        own = os.dup(descriptor)
        return lambda data: os.write(own, data), lambda: os.close(own)
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return _polled(os.dup(descriptor))
    return lambda data: os.write(own, data), lambda: os.close(own)


def _polled(own: int) -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """Write to a descriptor that may block, after asking whether it would."""
    poll = select.poll()
    poll.register(own, select.POLLOUT)

    def send(data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(own, data)

    return send, lambda: os.close(own)

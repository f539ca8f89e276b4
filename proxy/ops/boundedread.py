"""
Reading a file whose path somebody gave us: never more than so much, and never waiting for ever.

A path can lead to anything. A FIFO without a writer would hold the open itself, one with a silent writer the read, and
/dev/zero has no end. Yet pipes are worth reading: `<(kubectl get ...)` in a shell is the path of one, and /dev/stdin
may be. So nothing is opened or read without O_NONBLOCK, and what is no regular file has to come to its end within a few
seconds.

The identity files of a running sidecar are read by tls/identityreader.py, which takes regular files alone.
"""

import errno
import os
import select
import stat
import time

PATIENCE_S = 5.0  # a command behind a pipe needs a moment; longer than this, a person thinks that we hang


def read_bounded(path: str, most_bytes: int, *, patience_s: float = PATIENCE_S) -> bytes:
    """
    Read a file to its end.

    most_bytes: one byte more than this is read, so that the caller can tell a file that is too long
    patience_s: how long what is no regular file may take to its end; 0 where a loop must not be held
    Raises:     OSError, whose strerror is a clause for a person; ValueError for what can be no path
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        regular = stat.S_ISREG(kind) or stat.S_ISDIR(kind)  # a directory says itself that it is one
        return _read(descriptor, most_bytes + 1, None if regular else patience_s)
    finally:
        os.close(descriptor)


def _read(descriptor: int, most_bytes: int, patience_s: float | None) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    give_up_at = time.monotonic() + (patience_s or 0)
    parts: list[bytes] = []
    size = 0
    while size < most_bytes:
        if patience_s is not None and not poll.poll(max(0, give_up_at - time.monotonic()) * 1000):
            waited = f"nothing wrote it to its end in {patience_s:g} s" if patience_s else "it is not waited for here"
            raise OSError(errno.ETIMEDOUT, f"it is no regular file, and {waited}")
        part = os.read(descriptor, most_bytes - size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)

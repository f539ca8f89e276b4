"""
A port for a program that has to be told one, because it cannot tell which one the kernel gave it.

Below the ephemeral range: between the choice and the program's own bind no socket of a client can be given it. Chance
keeps those apart that choose at the same moment.
"""

import errno
import os
import random
import socket

PORTS = range(20_000, 30_000)
_TRIES = 100


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody has at this moment. Raises: OSError, also when the host is not this machine's."""
    for port in random.sample(PORTS, _TRIES):
        if is_free(host, port):
            return port
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def is_free(host: str, port: int) -> bool:
    """Whether a listener could have this address now. Raises: OSError when something else than its use is wrong."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens, with what an error says left as it is (socket.create_server adds words of its own)."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # As the listener will have it: connections that are in TIME_WAIT do not count as use.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1)
    except BaseException:
        sock.close()
        raise
    return sock

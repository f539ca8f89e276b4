"""What the kernel counted on one TCP connection: payload bytes each way, so TLS with everything that it adds."""

import socket
import struct

_SENT_AND_RETRANSMITTED = struct.Struct("=QQ")
_RECEIVED = struct.Struct("=Q")
_OFFSET_RECEIVED, _OFFSET_SENT = 128, 200  # tcpi_bytes_received; tcpi_bytes_sent, tcpi_bytes_retrans (linux/tcp.h)
_NEEDED = 216


def bytes_of(sock: socket.socket) -> tuple[int, int] | None:
    """(sent, received) so far, each byte once; None where the kernel does not count (before Linux 4.19)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _NEEDED)
    if len(info) < _NEEDED:
        return None
    sent, again = _SENT_AND_RETRANSMITTED.unpack_from(info, _OFFSET_SENT)
    (received,) = _RECEIVED.unpack_from(info, _OFFSET_RECEIVED)
    return sent - again, received

"""
Memory of closed connections, given back to the system: malloc keeps it otherwise, and a sidecar that once had a busy
minute would look for ever like one that leaks.
"""

import ctypes
import gc
from collections.abc import Callable

WORTH_IT = 64  # connections; about 2 MiB


class Memory:
    """Watches the number of connections. connections: the most since memory was last given back."""

    __slots__ = ("_trim", "connections")

    def __init__(self) -> None:
        self.connections = 0
        # musl and macOS: their malloc has no such call.
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def look(self, connections: int, peak: int) -> None:
        """
        Give back once the number of connections has fallen to half of its peak, and the peak was worth it.

        connections: that live now; peak: the most at once since the last look, for a wave may come and go between two
        """
        self.connections = max(self.connections, peak)
        if self._trim is not None and self.connections >= WORTH_IT and connections <= self.connections // 2:
            gc.collect()
            self._trim(0)
            self.connections = connections

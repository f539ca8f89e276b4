"""
How many file descriptors this process may have, which is what `limits.connections` rests on: two for each connection.

Login shells and services start with a soft limit of 1024, a leftover from select(2), below a hard limit hundreds of
times as high. A proxy that kept it would be full at 500 connections, whatever its configuration says; so it takes what
the hard limit allows, and says where that is too little.
"""

import resource

from proxy.core.config import Config

_MOST = 1 << 20  # some hard limits are in the thousands of millions; this is enough for any `limits.connections` we run
_OTHERS = 64  # files, endpoints, the loop's own


def raise_limit() -> int:
    """Raise the soft limit of this process and of what it starts. Returns: how many descriptors it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft  # a sandbox forbids it, or the system has a lower limit of its own
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


def too_few(config: Config, workers: int, descriptors: int) -> str | None:
    """
    Whether inbound or outbound alone may have more connections than there are descriptors for.

    descriptors: that each process may have
    Returns:     a sentence that says so; None where they suffice, or the limit is off
    """
    each = -(-config.limits.connections // workers)
    if 2 * each <= descriptors:
        return None
    room = max(0, descriptors - _OTHERS) // 2 * workers
    return (
        f"limits.connections is {config.limits.connections}, and a descriptor limit of {descriptors} holds about "
        f"{room} connections: beyond them clients are refused as OVERLOADED. Raise the hard limit (ulimit -Hn, "
        f"LimitNOFILE=) to {2 * each + _OTHERS}, or lower limits.connections"
    )

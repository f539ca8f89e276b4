"""
Who may speak to the admin endpoint: the defence against web pages that aim a browser at it.

The endpoint trusts whoever can reach its address, and a browser on the same machine can. A page cannot send it a
request that changes something without an `Origin` header, and with DNS rebinding (a name of the page's own that
suddenly means 127.0.0.1) it still has to say that name in `Host`. So both are looked at:

- `Host` must be an IP literal, `localhost`, or the host that the configuration names in `listen`; its port is not
  compared, because a forwarded port differs. HTTP/1.1 requires Host (h11 sees to that); HTTP/1.0 without one passes,
  since no browser speaks it.
- `Origin`, where there is one, must be `http://` and the very Host: same origin. `Origin: null` is foreign.

The health listener changes nothing and is made to be reached by whatever name a scraper knows; it looks at Origin only.
"""

import ipaddress
import re

_PORT = re.compile(r"(?::[0-9]{1,5})?", re.ASCII)


def foreign_host(host: str | None, configured: str | None) -> str | None:
    """
    Judge a Host header.

    host:       its value, None where the request has none
    configured: the host part of `listen`; None for a unix socket
    Returns:    None if it may be answered, else a sentence why not
    """
    if host is None:
        return None
    name = _host_name(host)
    if name is not None and (_is_ip(name) or name in {"localhost", (configured or "localhost").lower()}):
        return None
    allowed = (
        "an IP address or localhost" if configured is None or _is_ip(configured) else f"{configured} or an IP address"
    )
    return f"This endpoint does not answer to that Host; use {allowed}."


def foreign_origin(origin: str | None, host: str | None) -> str | None:
    """Judge an Origin header: None if there is none or it is the same origin, else a sentence why not."""
    if origin is None or (host is not None and origin.lower() == f"http://{host.lower()}"):
        return None
    return "This endpoint does not answer to pages of another origin."


def _host_name(host: str) -> str | None:
    """Cut the port off: the name in lower case, an IPv6 literal without its brackets, or None if it is neither."""
    if host.startswith("["):
        literal, bracket, port = host[1:].partition("]")
        return literal.lower() if bracket and ":" in literal and _PORT.fullmatch(port) else None
    name, colon, port = host.partition(":")
    return name.lower() if name and _PORT.fullmatch(colon + port) else None


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

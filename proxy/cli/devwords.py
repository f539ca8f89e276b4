"""
What `dev` tells the developer once the sidecar is ready: above all the curl lines, which have to work when copied.

Our certificates name hosts and no IP addresses. So the lines speak to https://localhost, and where that name does not
lead to the listener, curl is told where to connect (--connect-to) while it still verifies `localhost`.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.core.config import Mode, TcpAddress
from proxy.core.spiffe import IdPattern, SpiffeId

_LOCALHOST = "localhost"
_LEADS_FROM_LOCALHOST = ("127.0.0.1", "::1", "0.0.0.0", "::", _LOCALHOST)  # noqa: S104  # compared, not listened on


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One line to copy, and what will come of it."""

    says: str
    line: str


def host_names(listen: TcpAddress) -> tuple[str, ...]:
    """The names that the sidecar's certificate needs, for the lines below to verify."""
    return (_LOCALHOST,) if listen.is_literal or listen.host == _LOCALHOST else (_LOCALHOST, listen.host)


def curl_lines(
    *,
    listen: TcpAddress,
    mode: Mode,
    client_files: tuple[Path, Path, Path],
    client_id: SpiffeId,
    allow: Sequence[IdPattern],
) -> list[Try]:
    """The lines that show who gets in, and who does not."""
    cacert, cert, key = (str(path) for path in client_files)
    plaintext = _curl(listen, "http")
    if mode is Mode.DISABLE:
        return [Try(says="Try it (DISABLE: plaintext, and nobody is refused)", line=plaintext)]
    anonymous = _curl(listen, "https", "--cacert", cacert)
    named = _curl(listen, "https", "--cacert", cacert, "--cert", cert, "--key", key)
    if any(pattern.matches(client_id) for pattern in allow):
        tries = [Try(says=f"Try it, as {client_id}", line=named)]
    else:
        tries = [Try(says=f"Refused: no --allow pattern matches {client_id} (--client-id names another)", line=named)]
    if mode is Mode.PERMISSIVE:
        tries.append(Try(says="PERMISSIVE: plaintext gets in as well", line=plaintext))
    tries.append(Try(says="Refused: no client certificate (the log says why, and what to do)", line=anonymous))
    return tries


def _curl(listen: TcpAddress, scheme: str, *options: str) -> str:
    host, extra = listen.host, []
    if listen.is_literal or listen.host == _LOCALHOST:
        host = _LOCALHOST
        if listen.host not in _LEADS_FROM_LOCALHOST:
            literal = f"[{listen.host}]" if ":" in listen.host else listen.host
            extra = ["--connect-to", f"::{literal}:"]
    return shlex.join(["curl", *options, *extra, f"{scheme}://{host}:{listen.port}/"])

"""
Probes of the application that the health endpoint makes in kubelet's place: what one is, and how its parts are spelled.

Under STRICT a plaintext probe from kubelet is refused like any other plaintext. So injection points kubelet at
`/app-health/CONTAINER/livez` of the health endpoint, and what the Pod's author had asked for stands in the
configuration as an AppProbe, which ops/appprobes.py makes over loopback. The network chooses among these and can put
nothing into them.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

APP_HEALTH = "/app-health/"  # as Istio's agent calls it, so that whoever knows one knows the other
MAX_PROBE_S = 60  # as long as the health endpoint works at an answer; kubelet's own default is 1 s

# What follows the container's name: kubelet's three probes, and its two lifecycle hooks, which can be requests too.
ENDINGS = ("livez", "readyz", "startupz", "poststartz", "prestopz")

_NAME = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?/(?:{'|'.join(ENDINGS)})")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2, token
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?|")
_SERVICE = re.compile(r"[\x21-\x7e]{1,255}")
_CONNECTION_HEADERS = {"connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"}


class ProbeKind(StrEnum):
    """What counts as healthy: an HTTP status from 200 to 399, a connection that opens, gRPC's own health service."""

    HTTP = "http"
    TCP = "tcp"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppProbe:
    """One probe. name: CONTAINER/ENDING, its path below /app-health/; headers: "Name: value", HTTP only."""

    name: str
    kind: ProbeKind
    port: int
    path: str = "/"
    headers: tuple[str, ...] = ()
    service: str = ""
    timeout_s: float = 1.0


def parse_probe_name(text: str) -> str:
    """Parse CONTAINER/ENDING. Raises: ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"it is the name of a container, a slash, and one of {', '.join(ENDINGS)}")
    return text


def parse_request_target(text: str) -> str:
    """Parse the path of a request, query included. Raises: ValueError."""
    if not _TARGET.fullmatch(text):
        raise ValueError("a path begins with a slash and holds no spaces and nothing beyond ASCII")
    return text


def parse_header(text: str) -> str:
    """Parse "Name: value", without what could change where a request ends. Raises: ValueError."""
    name, colon, value = text.partition(":")
    if not colon or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.strip()):
        raise ValueError('a header is written "Name: value", in visible ASCII')
    if name.lower() in _CONNECTION_HEADERS:
        raise ValueError("this header belongs to the connection, which is not the probe's to steer")
    return text


def parse_service(text: str) -> str:
    """Parse the service of a gRPC health check. Raises: ValueError."""
    if not _SERVICE.fullmatch(text):
        raise ValueError("the name of a gRPC service is 1 to 255 visible ASCII characters")
    return text

"""
Addresses and host names as an operator writes them: text in, typed value or one sentence out.

    HOST:PORT   [v6]:PORT   unix:/absolute/path   systemd:NAME (listening only)

Also decides, by spelling alone, which addresses are the same place: whether two listeners want one socket, whether an
upstream leads back into its own listener, and what counts as loopback. It never resolves a name (`localhost` is the
one name whose meaning is known, RFC 6761 6.3), so two names of one machine are not recognised as the same.
"""

import ipaddress
import re

from proxy.core.config import ListenAddress, SystemdAddress, TcpAddress, UnixAddress, UpstreamAddress

MAX_UNIX_PATH_BYTES = 107  # sockaddr_un.sun_path on Linux is 108 bytes with its closing NUL
MAX_HOST_NAME_CHARS = 253  # RFC 1035 2.3.4, written without the closing dot
MAX_SYSTEMD_NAME_CHARS = 255  # systemd.socket(5), FileDescriptorName=

# Underscores are no host names by RFC 952, but Docker, Compose and DNS hold them; no peer is judged by this text.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SYSTEMD_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


class AddressFault(ValueError):  # noqa: N818  # a fault of the operator's text, as ConfigFault is
    """An address or a host name that is not one; str() is a sentence without the text itself."""


def parse_listen(text: str) -> ListenAddress:
    """
    Parse where a listener listens: HOST:PORT (port 0: the kernel chooses), [v6]:PORT, unix:/path or systemd:NAME.

    Raises: AddressFault
    """
    if text.startswith("systemd:"):
        name = text.removeprefix("systemd:")
        if not _SYSTEMD_NAME.fullmatch(name) or len(name) > MAX_SYSTEMD_NAME_CHARS:
            raise AddressFault("after systemd: comes the FileDescriptorName of the socket unit, e.g. systemd:http")
        return SystemdAddress(name)
    return parse_endpoint(text)


def parse_endpoint(text: str) -> TcpAddress | UnixAddress:
    """
    Parse where `admin` or `health` listens: as parse_listen, without socket activation.

    Raises: AddressFault
    """
    if text.startswith("systemd:"):
        raise AddressFault("socket activation is for inbound and outbound listeners; write HOST:PORT or unix:/path")
    return _parse_unix(text) if text.startswith("unix:") else _parse_tcp(text, least_port=0)


def parse_upstream(text: str) -> UpstreamAddress:
    """
    Parse where connections are dialled to: HOST:PORT (1 to 65535), [v6]:PORT or unix:/path.

    Raises: AddressFault
    """
    if text.startswith("systemd:"):
        raise AddressFault("systemd: names a socket to listen on; an upstream is HOST:PORT, [v6]:PORT or unix:/path")
    return _parse_unix(text) if text.startswith("unix:") else _parse_tcp(text, least_port=1)


def parse_redirect_target(text: str) -> TcpAddress:
    """
    Parse where redirected connections arrive: an IP address of this host (or its wildcard) and a port.

    Raises: AddressFault
    """
    if text.startswith(("systemd:", "unix:")):
        raise AddressFault("the kernel redirects to a TCP port; write 0.0.0.0:PORT, [::]:PORT or 127.0.0.1:PORT")
    address = _parse_tcp(text, least_port=1)
    if not address.is_literal:
        raise AddressFault("the rules redirect to addresses, not to names; write 0.0.0.0, [::] or 127.0.0.1")
    return address


def parse_network(text: str) -> "ipaddress.IPv4Network | ipaddress.IPv6Network":
    """
    Parse ADDRESS/PREFIX (an address alone is a network of one), whose host bits are zero.

    Raises: AddressFault
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise AddressFault(f"it has host bits set; write {ipaddress.ip_network(text, strict=False)}") from None
        raise AddressFault("a network is ADDRESS/PREFIX, e.g. 10.96.0.0/12 or fd00::/8") from None


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if path.startswith("@"):
        raise AddressFault("abstract sockets have no file permissions, so anybody may connect; write unix:/path")
    if not path.startswith("/") or "\0" in path:
        raise AddressFault("after unix: comes an absolute path, e.g. unix:/run/app/app.sock")
    if path.endswith("/"):
        raise AddressFault("the path names a folder; it must end in the name of the socket")
    length = len(path.encode())
    if length > MAX_UNIX_PATH_BYTES:
        raise AddressFault(f"the path has {length} bytes; a unix socket's path has at most {MAX_UNIX_PATH_BYTES}")
    return UnixAddress(path)


def _parse_tcp(text: str, *, least_port: int) -> TcpAddress:
    if _SCHEME.match(text):
        raise AddressFault("an address has no scheme; write HOST:PORT")
    if _PORT.fullmatch(text):
        raise _host_missing(text, listening=least_port == 0)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise AddressFault("an IPv6 address with its port is written [ADDRESS]:PORT, e.g. [::1]:8080")
        port = rest[1:]
        host = _ipv6_literal(host)
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            raise AddressFault("the port is missing; write HOST:PORT")
        if ":" in host:
            raise AddressFault("an IPv6 address needs brackets: [ADDRESS]:PORT, e.g. [::1]:8080")
        if not host:
            raise _host_missing(port, listening=least_port == 0)
        host = _star_or_host(host, port)
    if not _PORT.fullmatch(port) or not least_port <= int(port) <= 65535:
        raise AddressFault(f"the port must be a number from {least_port} to 65535")
    return TcpAddress(host, int(port))


def _ipv6_literal(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise AddressFault("what stands in the brackets is not an IPv6 address") from None


def _host_missing(port: str, *, listening: bool) -> AddressFault:
    everywhere = f", or 0.0.0.0:{port} for every interface" if listening else ""
    return AddressFault(f"the host is missing; write 127.0.0.1:{port}{everywhere}")


def _star_or_host(host: str, port: str) -> str:
    if host == "*":
        raise AddressFault(f"`*` is not a host; write 0.0.0.0:{port} for every IPv4 interface or [::]:{port} for all")
    return parse_host(host)


def parse_host(text: str) -> str:
    """
    Parse an IPv4 literal or a host name (a closing dot, "absolute", is kept).

    Raises: AddressFault
    """
    last_label = text.removesuffix(".").rpartition(".")[2]
    if last_label.isascii() and last_label.isdigit():  # no top-level domain is a number, so this means to be IPv4
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise AddressFault("the host is not an IPv4 address (four numbers from 0 to 255)") from None
    _check_name(text.removesuffix("."))
    return text


def parse_server_name(text: str) -> str:
    """
    Parse a name that can stand in TLS's server_name: a host name, never an IP address, no closing dot.

    Returns: the name in lower case
    Raises:  AddressFault
    Source:  RFC 6066 3
    """
    if text.endswith("."):
        raise AddressFault("a server name is written without the closing dot")
    if ":" in text or text.rpartition(".")[2].isdigit():
        raise AddressFault("a server name is a host name, never an IP address or HOST:PORT")
    _check_name(text)
    return text.lower()


def parse_server_name_pattern(text: str) -> str:
    """
    Parse a server name whose first label may be `*`, which stands for exactly one label.

    Returns: the pattern in lower case
    Raises:  AddressFault
    """
    if text == "*":
        raise AddressFault("`*` alone would take every name; write *.DOMAIN")
    name = parse_server_name(text.removeprefix("*."))
    return f"*.{name}" if text.startswith("*.") else name


def _check_name(name: str) -> None:
    if not name.isascii():
        raise AddressFault("a host name is ASCII; write an international name in its xn-- form")
    if len(name) > MAX_HOST_NAME_CHARS:
        raise AddressFault(f"a host name has at most {MAX_HOST_NAME_CHARS} characters")
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise AddressFault("a host name is labels of 1 to 63 letters, digits, `-` and `_`, joined by dots")


def is_loopback(address: ListenAddress) -> bool:
    """Whether only this machine (or this Pod) can reach the address: 127.0.0.0/8, ::1, localhost, a unix socket."""
    if isinstance(address, UnixAddress):
        return True
    return isinstance(address, TcpAddress) and _is_loopback_host(address.host)


def _is_loopback_host(host: str) -> bool:
    if host.lower().removesuffix(".") == "localhost":
        return True
    literal = _literal(host)
    return literal is not None and literal.is_loopback


def want_same_socket(one: ListenAddress, other: ListenAddress) -> bool:
    """
    Whether two listeners cannot both have what they ask for: the same address, or a wildcard over the other.

    `[::]` takes IPv4 too, as Linux does, so it overlaps every host. Port 0 is a new port each time: never the same.
    """
    if not (isinstance(one, TcpAddress) and isinstance(other, TcpAddress)):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    return _covers(one.host, other.host) or _covers(other.host, one.host)


def leads_back(upstream: UpstreamAddress, listen: ListenAddress) -> bool:
    """Whether dialling `upstream` arrives at the listener on `listen`: a proxy in front of itself, without an end."""
    if not (isinstance(upstream, TcpAddress) and isinstance(listen, TcpAddress)):
        return upstream == listen
    if upstream.port != listen.port:
        return False
    if _covers(upstream.host, listen.host):  # dialling 0.0.0.0 or :: means this machine
        return True
    # Under a wildcard listener only loopback is certain to be ourselves; another literal may be another machine.
    return _covers(listen.host, upstream.host) and (_is_loopback_host(upstream.host) or upstream.host == listen.host)


def _covers(one: str, other: str) -> bool:
    """Whether a socket bound to host `one` takes what is addressed to host `other`."""
    mine, theirs = _literal(one), _literal(other)
    if mine is None:
        same_name = one.lower().removesuffix(".") == other.lower().removesuffix(".")
        return same_name or (_is_loopback_host(one) and str(theirs) in {"127.0.0.1", "::1"})
    if mine.is_unspecified:
        return mine.version == 6 or theirs is None or theirs.version == 4
    return mine == theirs


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = literal.ipv4_mapped if isinstance(literal, ipaddress.IPv6Address) else None
    return mapped or literal  # ::ffff:127.0.0.1 is 127.0.0.1 by another spelling

"""
The typed configuration: what every other room reads. Values only; how YAML becomes them is core/configfile.py's.

Everything is frozen, so a configuration is published by one assignment and compared with `==`. Defaults are the
contract's; an absent key never means "allow". Durations are seconds, and zero turns a deadline, a rate or a cap off.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from proxy.core.appprobe import AppProbe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.core.spiffe import IdPattern


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """
    HOST:PORT. host: a name or an IP literal without brackets; port: 0 to 65535 (0: the kernel chooses).

    nth: tells apart the listeners whose ports the kernel chooses on one host; always 0 for any other port
    """

    host: str
    port: int
    nth: int = 0

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address rather than a name."""
        return _is_literal(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@cache
def _is_literal(host: str) -> bool:  # asked at every dial, of the few hosts that a configuration names
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """unix:/path of a stream socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class SystemdAddress:
    """systemd:NAME, a listening socket inherited by socket activation (LISTEN_FDNAMES)."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


ListenAddress = TcpAddress | UnixAddress | SystemdAddress


def socket_key(address: ListenAddress) -> str:
    """A text that no two listeners of one configuration share, also where both leave the port to the kernel."""
    return f"{address} {address.nth}" if isinstance(address, TcpAddress) and address.nth else str(address)


UpstreamAddress = TcpAddress | UnixAddress


class Mode(StrEnum):
    """What an inbound listener takes (Istio's PeerAuthentication modes)."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


class AppTls(StrEnum):
    """PERMISSIVE: what becomes of TLS that is the app's own."""

    REFUSE = "refuse"
    PASSTHROUGH = "passthrough"


class ProxyProtocol(StrEnum):
    """The PROXY header that the app behind an inbound listener gets before the first byte."""

    NONE = "none"
    V2 = "v2"
    V2_TLS = "v2-tls"


class OutboundDefault(StrEnum):
    """What becomes of an intercepted connection that no route covers."""

    PASSTHROUGH = "passthrough"
    REFUSE = "refuse"


class Engine(StrEnum):
    """Which TLS implementation carries the data path."""

    AUTO = "auto"
    OPENSSL = "openssl"
    BORINGSSL = "boringssl"


class LogLevel(StrEnum):
    """Least severity that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """json: one object a line; console: for people."""

    JSON = "json"
    CONSOLE = "console"


CIPHER_SUITES = (
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
)  # the only TLS 1.2 suites that may be configured: forward secrecy and AEAD (RFC 5289, RFC 7905)

GROUPS = ("X25519MLKEM768", "X25519", "P-256", "P-384", "P-521", "SecP256r1MLKEM768", "SecP384r1MLKEM1024")
TLS13_GROUPS = frozenset({"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"})  # draft-ietf-tls-ecdhe-mlkem
DEFAULT_GROUPS = ("X25519MLKEM768", "X25519", "P-256", "P-384")
TLS_VERSIONS = ("1.2", "1.3")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """Where our own SVID and the trust bundles lie on disk. bundles: trust domain name -> PEM path, never merged."""

    cert: str
    key: str
    bundles: "Mapping[str, str]"
    refresh_s: float = 5.0
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundConfig:
    """One inbound listener: mTLS (by mode) from the network, plaintext to the app."""

    name: str
    listen: ListenAddress
    upstream: UpstreamAddress
    mode: Mode = Mode.STRICT
    allow: "tuple[IdPattern, ...]" = ()
    deny: "tuple[IdPattern, ...]" = ()
    app_tls: AppTls = AppTls.REFUSE
    app_tls_server_names: tuple[str, ...] = ()
    server_first: bool = False
    server_first_hold_s: float = 0.3
    detection_timeout_s: float = 3.0
    alpn: tuple[str, ...] = ()
    proxy_protocol: ProxyProtocol = ProxyProtocol.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundConfig:
    """One outbound listener: plaintext from the app, mTLS to the upstream. sni None: the upstream's host name."""

    name: str
    listen: ListenAddress
    upstream: UpstreamAddress
    server_ids: "tuple[IdPattern, ...]"
    sni: str | None = None
    resume: bool = True
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPolicy:
    """Who may come in to an intercepted port: the keys of an inbound listener that is not at one address."""

    mode: Mode = Mode.STRICT
    allow: "tuple[IdPattern, ...]" = ()
    deny: "tuple[IdPattern, ...]" = ()
    app_tls: AppTls = AppTls.REFUSE
    app_tls_server_names: tuple[str, ...] = ()
    server_first: bool = False
    server_first_hold_s: float = 0.3
    detection_timeout_s: float = 3.0
    alpn: tuple[str, ...] = ()
    proxy_protocol: ProxyProtocol = ProxyProtocol.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PortPolicy(InboundPolicy):
    """The policy of one intercepted port of the app."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptInbound:
    """What arrives at the Pod. default None: a port that is not in `ports` is refused."""

    listen: TcpAddress
    ports: tuple[PortPolicy, ...] = ()
    default: InboundPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Destinations that are reached by mTLS. ports: empty for every port; name: empty for one made of `to`."""

    to: IPv4Network | IPv6Network
    ports: tuple[int, ...] = ()
    name: str = ""
    server_ids: "tuple[IdPattern, ...]"
    sni: str | None = None
    resume: bool = True
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptOutbound:
    """What the app opens. default: what becomes of destinations that no route covers; the first that covers wins."""

    listen: TcpAddress
    routes: tuple[Route, ...] = ()
    default: OutboundDefault


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptConfig:
    """Transparent mode: connections that the redirection rules send here, by their original destination."""

    inbound: InterceptInbound | None = None
    outbound: InterceptOutbound | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Protocol words, as the contract spells them (IANA suite names; "1.2" and "1.3")."""

    min_version: str = "1.2"
    max_version: str = "1.3"
    cipher_suites: tuple[str, ...] = CIPHER_SUITES
    groups: tuple[str, ...] = DEFAULT_GROUPS
    engine: Engine = Engine.AUTO
    verdict_cache: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines in seconds; 0 turns one off."""

    handshake_s: float = 10.0
    connect_s: float = 5.0
    idle_s: float = 3600.0
    half_close_s: float = 50.0
    drain_delay_s: float = 0.0
    drain_s: float = 30.0
    max_lifetime_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps and rates; 0 turns one off."""

    connections: int = 10000
    handshakes: int = 256
    handshakes_per_s: float = 0.0
    handshakes_per_s_per_source: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """The operator's endpoint. allow_remote is what lets it listen beyond loopback or a unix socket."""

    listen: TcpAddress | UnixAddress = TcpAddress("127.0.0.1", 15000)
    allow_remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """/live, /ready and /metrics alone, for kubelet and Prometheus; and the probes of the app behind, if any."""

    listen: TcpAddress | UnixAddress
    app_probes: tuple[AppProbe, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Where severity and form of the log are chosen; it goes to stderr."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One whole configuration file. workers 0 means `auto` (one per usable core)."""

    identity: IdentityConfig
    inbound: tuple[InboundConfig, ...] = ()
    outbound: tuple[OutboundConfig, ...] = ()
    intercept: InterceptConfig | None = None
    tls: TlsConfig = TlsConfig()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    admin: AdminConfig | None = AdminConfig()
    health: HealthConfig | None = None
    log: LogConfig = LogConfig()
    workers: int = 1


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One fault of a configuration file. path: "inbound[0].allow[1]"; line: 1-based, None for what is absent."""

    path: str
    message: str
    line: int | None = None

"""
The tables of what takes connections: `inbound`, `outbound` and `intercept`. See configfields.py for the others.

The rows of a policy stand once. A listener, an intercepted port and the default for all other ports differ in where
connections come from and lead to, and not in who may come in.
"""

from proxy.core import config
from proxy.core.addresses import (
    parse_listen,
    parse_network,
    parse_redirect_target,
    parse_server_name,
    parse_server_name_pattern,
    parse_upstream,
)
from proxy.core.configkinds import ListKind, enum_kind, text_kind
from proxy.core.confignumbers import boolean_kind, port_kind, seconds_kind
from proxy.core.configtables import Field, ListOfTables, Null, Table, TablesByPort
from proxy.core.configwords import parse_alpn, parse_name
from proxy.core.spiffe import parse_pattern

_PATTERN = text_kind("a SPIFFE ID or a pattern of SPIFFE IDs", parse_pattern, pattern="^spiffe://")
_PATTERNS = ListKind(_PATTERN, "a list of SPIFFE IDs or patterns")
_NAME = text_kind("a name of 1 to 63 letters, digits, `.`, `_` and `-`", parse_name, pattern="^[A-Za-z0-9]")
_ALPN = ListKind(
    text_kind("an ALPN protocol of 1 to 255 ASCII characters, e.g. h2", parse_alpn),
    "a list of ALPN protocols",
    most=32,
)
_LISTEN = text_kind("HOST:PORT, [v6]:PORT, unix:/path or systemd:NAME", parse_listen, pattern=":")
_UPSTREAM = text_kind("HOST:PORT, [v6]:PORT or unix:/path", parse_upstream, pattern=":")
_SERVER_NAME = text_kind("a host name", parse_server_name)
_SERVER_NAMES = ListKind(text_kind("a host name, or *.DOMAIN", parse_server_name_pattern), "a list of host names")
_NETWORK = text_kind("a network, ADDRESS/PREFIX", parse_network, pattern="^[0-9a-fA-F:.]+(/[0-9]+)?$")
_REDIRECTED = text_kind("ADDRESS:PORT, e.g. [::]:15006", parse_redirect_target, pattern=":")

MAX_WAIT_ON_CLIENT_S = 60  # longer than any client's own patience; a typo must not park connections for hours

_INBOUND_POLICY = (
    Field(
        name="mode",
        kind=enum_kind(config.Mode),
        meaning="STRICT: mutual TLS or nothing. PERMISSIVE: plaintext as well. DISABLE: bytes as they come, TLS is "
        "not touched and nobody is judged.",
    ),
    Field(
        name="allow",
        kind=_PATTERNS,
        demand="unless `mode` is DISABLE, where it is a fault",
        meaning="Who may connect with mutual TLS: SPIFFE IDs; `*` is exactly one path segment, `**` (at the end) "
        "one or more. Never empty.",
    ),
    Field(name="deny", kind=_PATTERNS, meaning="Who may not, whatever `allow` says. A fault with DISABLE."),
    Field(
        name="app_tls",
        kind=enum_kind(config.AppTls),
        meaning="PERMISSIVE: what becomes of TLS for a name in `app_tls_server_names`: `passthrough` gives it to "
        "the app untouched; with `refuse` all TLS is ours.",
    ),
    Field(
        name="app_tls_server_names",
        kind=_SERVER_NAMES,
        demand="with `app_tls: passthrough`",
        meaning="Server names (SNI) whose TLS is the app's own; `*.shop.svc` stands for one label. All other TLS "
        "is ours.",
    ),
    Field(
        name="server_first",
        kind=boolean_kind(),
        meaning="The app speaks first (MySQL, SMTP). PERMISSIVE dials it at once; STRICT only after authorization.",
    ),
    Field(
        name="server_first_hold_s",
        kind=seconds_kind(most=MAX_WAIT_ON_CLIENT_S, zero="0: plaintext flows at once"),
        meaning="PERMISSIVE with `server_first`: for this long the client may still open TLS before plaintext "
        "flows to it.",
    ),
    Field(
        name="detection_timeout_s",
        kind=seconds_kind(most=MAX_WAIT_ON_CLIENT_S, zero="0: silence is never plaintext"),
        meaning="PERMISSIVE: a client that is silent for this long is taken for plaintext. With 0 it is not, and "
        "`timeouts.handshake_s` ends the wait.",
    ),
    Field(
        name="alpn",
        kind=_ALPN,
        meaning="What the app behind speaks, in order of preference, e.g. [h2] for gRPC. None is selected when "
        "empty or when nothing is in common.",
    ),
    Field(
        name="proxy_protocol",
        kind=enum_kind(config.ProxyProtocol, bare={"off": "none"}),
        meaning="The PROXY header for the app: `v2`, or `v2-tls` with the peer's identity in TLVs. A bare `off` "
        "means none.",
    ),
)

_OUTBOUND_POLICY = (
    Field(
        name="server_ids",
        kind=ListKind(_PATTERN, "a list of SPIFFE IDs or patterns", least=1),
        meaning="Who may answer: SPIFFE IDs or patterns, as in `allow`.",
    ),
    Field(
        name="sni",
        kind=_SERVER_NAME,
        null=Null.DEFAULT,
        meaning="The server name to send; null: the upstream's host name, and none where that is an IP address.",
    ),
    Field(name="resume", kind=boolean_kind(), meaning="Keep TLS sessions, per trust generation."),
    Field(name="alpn", kind=_ALPN, meaning="Offered to the upstream, in order of preference."),
)

INBOUND = Table(
    config.InboundConfig,
    "One inbound listener: mutual TLS from the network (by `mode`), plaintext to the app.",
    (
        Field(name="name", kind=_NAME, meaning="The `listener` of logs and metrics; unique in the file."),
        Field(
            name="listen",
            kind=_LISTEN,
            meaning="Where to listen. Port 0: the kernel chooses. `[::]` takes IPv4 too. `systemd:NAME` is a socket "
            "inherited by socket activation.",
        ),
        Field(name="upstream", kind=_UPSTREAM, meaning="The app behind."),
        *_INBOUND_POLICY,
    ),
)

OUTBOUND = Table(
    config.OutboundConfig,
    "One outbound listener: plaintext from the app, mutual TLS to the upstream.",
    (
        Field(name="name", kind=_NAME, meaning="The `listener` of logs and metrics; unique in the file."),
        Field(name="listen", kind=_LISTEN, meaning="Where the app connects to; as for inbound."),
        Field(name="upstream", kind=_UPSTREAM, meaning="The peer's sidecar, or any server of mutual TLS."),
        *_OUTBOUND_POLICY,
    ),
)

PORT_POLICY = Table(
    config.PortPolicy,
    "The policy of one port of the app, under its number: the keys of an inbound listener's policy.",
    _INBOUND_POLICY,
)

DEFAULT_POLICY = Table(
    config.InboundPolicy,
    "The policy of every port that is not in `ports`.",
    _INBOUND_POLICY,
)

ROUTE = Table(
    config.Route,
    "Destinations that are reached by mutual TLS. The first route that covers a destination has it.",
    (
        Field(
            name="to",
            kind=_NETWORK,
            meaning="The network of the destination, as the app dialled it: a Service's address is not its Pods'.",
        ),
        Field(
            name="ports",
            kind=ListKind(port_kind(), "a list of ports", least=1, most=1024),
            meaning="Its ports; without the key, every one.",
        ),
        Field(
            name="name",
            kind=_NAME,
            meaning="The `listener` of logs and metrics, unique in the file; without it `intercept-` and `to`, with "
            "the ports.",
        ),
        *_OUTBOUND_POLICY,
    ),
)

INTERCEPT_INBOUND = Table(
    config.InterceptInbound,
    "What arrives at the Pod, to whatever port. It goes on to the address that the client meant.",
    (
        Field(
            name="listen",
            kind=_REDIRECTED,
            meaning="Where the rules redirect to: 0.0.0.0:15006, or [::]:15006 for IPv6 as well.",
        ),
        Field(
            name="ports",
            kind=TablesByPort(PORT_POLICY),
            demand="unless there is a `default`",
            meaning="Port of the app -> its policy.",
        ),
        Field(
            name="default",
            kind=DEFAULT_POLICY,
            null=Null.OFF,
            meaning="The policy of every other port; without it they are refused.",
        ),
    ),
)

INTERCEPT_OUTBOUND = Table(
    config.InterceptOutbound,
    "What the app opens, to wherever.",
    (
        Field(
            name="listen",
            kind=_REDIRECTED,
            meaning="Where the rules redirect to: 127.0.0.1:15001, or [::]:15001 for IPv6 as well. Who comes without "
            "having been redirected is refused.",
        ),
        Field(
            name="routes",
            kind=ListOfTables(ROUTE, item="route"),
            null=Null.DEFAULT,
            meaning="What is reached by mutual TLS.",
        ),
        Field(
            name="default",
            kind=enum_kind(config.OutboundDefault),
            meaning="What becomes of the rest. passthrough: it goes on as it is, in plaintext; refuse: it is reset.",
        ),
    ),
)

INTERCEPT = Table(
    config.InterceptConfig,
    "Transparent mode: connections that `mtls-sidecar intercept apply` redirects here; see docs/interception.md.",
    (
        Field(name="inbound", kind=INTERCEPT_INBOUND, null=Null.OFF, meaning="From the network to the app; null: off."),
        Field(
            name="outbound", kind=INTERCEPT_OUTBOUND, null=Null.OFF, meaning="From the app to the network; null: off."
        ),
    ),
)

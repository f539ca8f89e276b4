"""
The tables of the configuration: every section, every key, what it may hold and what it means.

One row here is the reader's rule, a row of docs/configuration.md and a property of config/schema.json. Types and
defaults are the dataclasses' of config.py; a row adds the Kind and the sentence. Rules between keys (an `allow` with
DISABLE, two listeners on one port) are configrules.py's.
"""

from proxy.core import config
from proxy.core.addresses import parse_endpoint
from proxy.core.configkinds import BundlesKind, ListKind, choice_kind, enum_kind, text_kind
from proxy.core.configlistenerfields import INBOUND, INTERCEPT, OUTBOUND
from proxy.core.confignumbers import boolean_kind, count_kind, rate_kind, seconds_kind, workers_kind
from proxy.core.configprobefields import APP_PROBE
from proxy.core.configtables import Field, ListOfTables, Null, Table
from proxy.core.configwords import GROUP_HINTS, SUITE_HINTS, VERSION_HINTS, parse_path

_FILE = text_kind("the path of a file", parse_path, most_chars=4096)
_ENDPOINT = text_kind("HOST:PORT, [v6]:PORT or unix:/path", parse_endpoint, pattern=":")
_VERSION = choice_kind(config.TLS_VERSIONS, hints=VERSION_HINTS, number=True)
_SUITES = ListKind(choice_kind(config.CIPHER_SUITES, hints=SUITE_HINTS), "a list of TLS 1.2 cipher suites", least=1)
_GROUPS = ListKind(choice_kind(config.GROUPS, hints=GROUP_HINTS), "a list of groups", least=1)

MAX_WORKERS = 1024

IDENTITY = Table(
    config.IdentityConfig,
    "Where our own SVID and the trust bundles lie on disk. Relative paths start at the folder of this file.",
    (
        Field(name="cert", kind=_FILE, meaning="PEM of our SVID: the leaf first, then the intermediates."),
        Field(name="key", kind=_FILE, meaning="PEM of its private key."),
        Field(
            name="bundles",
            kind=BundlesKind(_FILE),
            meaning="Trust domain -> PEM of that domain's roots. A domain's peers are verified against its own roots "
            "alone; a domain that is not here is refused.",
        ),
        Field(
            name="refresh_s",
            kind=seconds_kind(zero="0: the watch alone"),
            meaning="Slow poll of the files behind the watch.",
        ),
        Field(
            name="wait_s",
            kind=seconds_kind(zero="0: without an end"),
            meaning="`run`: how long to wait at start for a first valid set of files: live, not ready, not listening.",
        ),
    ),
)

TLS = Table(
    config.TlsConfig,
    "Protocol words, the same for every listener.",
    (
        Field(name="min_version", kind=_VERSION, meaning="The lowest version of TLS. Quotes are optional."),
        Field(name="max_version", kind=_VERSION, meaning="The highest version of TLS."),
        Field(
            name="cipher_suites",
            kind=_SUITES,
            meaning="TLS 1.2 only, IANA names, in order of preference. TLS 1.3 always has its three suites.",
        ),
        Field(
            name="groups",
            kind=_GROUPS,
            meaning="Key exchange, in order of preference. TLS 1.2 also wants the curve of an ECDSA certificate here.",
        ),
        Field(
            name="engine",
            kind=enum_kind(config.Engine),
            meaning="Which TLS implementation carries the bytes; auto: BoringSSL where it is installed, else OpenSSL.",
        ),
        Field(
            name="verdict_cache",
            kind=boolean_kind(),
            meaning="Whether a chain that was found good is not verified again until the bundles change. Its validity, "
            "the policy, and that the peer holds the key are judged at every connection all the same.",
        ),
    ),
)

TIMEOUTS = Table(
    config.Timeouts,
    "Deadlines in seconds.",
    (
        Field(name="handshake_s", kind=seconds_kind(), meaning="From accept (or connect) to the end of the handshake."),
        Field(name="connect_s", kind=seconds_kind(), meaning="To connect to an upstream, over all of its addresses."),
        Field(name="idle_s", kind=seconds_kind(), meaning="Without a byte either way."),
        Field(name="half_close_s", kind=seconds_kind(), meaning="Silence after one side has finished sending."),
        Field(
            name="drain_delay_s",
            kind=seconds_kind(zero="0: none"),
            meaning="After SIGTERM new connections are still served for this long.",
        ),
        Field(
            name="drain_s",
            kind=seconds_kind(zero="0: without an end"),
            meaning="How long open connections may take to finish once the listeners are closed.",
        ),
        Field(name="max_lifetime_s", kind=seconds_kind(), meaning="The longest that one connection may last."),
    ),
)

LIMITS = Table(
    config.Limits,
    "Caps and rates, for inbound and outbound each by itself; 0 turns one off.",
    (
        Field(name="connections", kind=count_kind(), meaning="Open connections; beyond it new ones are refused."),
        Field(
            name="handshakes",
            kind=count_kind(),
            meaning="Handshakes at a time; beyond it new connections wait in the backlog.",
        ),
        Field(name="handshakes_per_s", kind=rate_kind(), meaning="New handshakes per second; beyond it: refused."),
        Field(name="handshakes_per_s_per_source", kind=rate_kind(), meaning="The same, for each source address."),
    ),
)

ADMIN = Table(
    config.AdminConfig,
    "The operator's endpoint: metrics, certificates, connections, drain, reload. `admin: null` turns it off.",
    (
        Field(name="listen", kind=_ENDPOINT, meaning="Where; loopback or a unix socket."),
        Field(
            name="allow_remote",
            kind=boolean_kind(),
            meaning="Lets `listen` be reachable from elsewhere. Whoever reaches it can drain the proxy.",
        ),
    ),
)

HEALTH = Table(
    config.HealthConfig,
    "/live, /ready and /metrics alone, for kubelet and Prometheus, and the app's own probes where they are listed.",
    (
        Field(name="listen", kind=_ENDPOINT, meaning="Where, e.g. 0.0.0.0:15021."),
        Field(
            name="app_probes",
            kind=ListOfTables(APP_PROBE, "probe"),
            null=Null.DEFAULT,
            meaning="Probes of the app that kubelet makes through the sidecar, since STRICT refuses its plaintext.",
        ),
    ),
)

LOG = Table(
    config.LogConfig,
    "The log goes to stderr, one line a connection.",
    (
        Field(name="level", kind=enum_kind(config.LogLevel), meaning="The least severity that is written."),
        Field(name="format", kind=enum_kind(config.LogFormat), meaning="json, or console for people."),
    ),
)

ROOT = Table(
    config.Config,
    "One configuration file. At least one inbound or outbound listener, or `intercept`.",
    (
        Field(name="identity", kind=IDENTITY, meaning="Our SVID and whom we trust."),
        Field(name="inbound", kind=ListOfTables(INBOUND), null=Null.DEFAULT, meaning="Inbound listeners."),
        Field(name="outbound", kind=ListOfTables(OUTBOUND), null=Null.DEFAULT, meaning="Outbound listeners."),
        Field(name="intercept", kind=INTERCEPT, null=Null.OFF, meaning="Transparent mode; null: off."),
        Field(name="tls", kind=TLS, null=Null.DEFAULT, meaning="Versions, cipher suites, groups."),
        Field(name="timeouts", kind=TIMEOUTS, null=Null.DEFAULT, meaning="Deadlines."),
        Field(name="limits", kind=LIMITS, null=Null.DEFAULT, meaning="Caps and rates."),
        Field(name="admin", kind=ADMIN, null=Null.OFF, meaning="The operator's endpoint; null: off."),
        Field(name="health", kind=HEALTH, null=Null.OFF, meaning="Probes and metrics for the network; null: off."),
        Field(name="log", kind=LOG, null=Null.DEFAULT, meaning="Severity and form of the log."),
        Field(
            name="workers",
            kind=workers_kind(most=MAX_WORKERS),
            meaning="Processes behind one set of addresses; auto: one per usable core.",
        ),
    ),
)


def _homes() -> dict[str, list[str]]:
    """Key -> the sections that know it, as a message names them: a key in the wrong place is a common slip."""
    homes: dict[str, list[str]] = {row.name: ["at the top level"] for row in ROOT.fields}
    for section in ROOT.fields:
        table = section.kind.table if isinstance(section.kind, ListOfTables) else section.kind
        if isinstance(table, Table):
            for row in table.fields:
                homes.setdefault(row.name, []).append(f"under `{section.name}`")
    return homes


HOMES = _homes()

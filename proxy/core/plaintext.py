"""
Who still speaks plaintext, and whether STRICT would hurt anybody: facts about connections in, a verdict out.

The facts come from logs and metrics of any number of sidecars (ops/plaintextsources.py reads them); this file knows
neither, nor any clock. It keeps one row for each client group, listener and port, so that a year of logs needs no more
memory than the number of those.

STRICT is called safe when nobody spoke plaintext within the window, which is a length of time that ends where the
evidence does. That a window is empty says something only if somebody looked all the while, so evidence that is too thin
makes the verdict UNKNOWN and never SAFE: a window that is not covered, a sidecar that was started within it, a
listener to which nobody came at all, a log whose level hides what went well. The app's own TLS counts as plaintext
does: PERMISSIVE may pass it through, STRICT refuses it.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

MAX_CLIENTS = 20_000  # rows; the clients beyond become one row, and the verdict cannot be SAFE any more
OTHERS = "(others)"
UNNAMED = "(not in metrics)"
NO_MODE = "nothing is let in"  # what is intercepted where no rule is

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Speaks(StrEnum):
    """What a client speaks that STRICT refuses; `refused`: plaintext, to a listener that is STRICT already."""

    PLAINTEXT = "plaintext"
    APP_TLS = "app_tls"
    REFUSED = "plaintext_refused"


class Kind(StrEnum):
    """Where facts come from. A log has every client, metrics have the sums and what is open now."""

    LOG = "log"
    METRICS = "metrics"


class Grouping(msgspec.Struct, frozen=True):
    """How many bits of a client's address tell it from another: all of them, or those of a prefix."""

    v4: int = 32
    v6: int = 128

    def of(self, address: str) -> tuple[str, Network | None]:
        """
        The group that an address of the log belongs to.

        address: "HOST:PORT", "[v6]:PORT", or anything else (a unix socket), which is its own group
        Returns: the group's name, and its network where it has one
        """
        host = address.rpartition(":")[0].strip("[]").partition("%")[0]
        try:
            parsed = ipaddress.ip_address(host)
        except ValueError:
            return address or "unknown", None
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        bits = self.v4 if parsed.version == 4 else self.v6
        network = ipaddress.ip_network((parsed, bits), strict=False)
        return (str(parsed) if bits == parsed.max_prefixlen else str(network)), network


class Client(msgspec.Struct, kw_only=True):
    """Connections of one group of clients to one port, as far as they matter for STRICT. Times are epoch seconds."""

    client: str
    listener: str
    port: int | None
    speaks: Speaks
    connections: int = 0
    open: int = 0
    first_seen: float = 0.0
    last_seen: float = 0.0

    def add(self, first: float, last: float, *, is_open: bool) -> None:
        """Count one connection; an open one was or will be counted where it ends."""
        self.first_seen = min(self.first_seen, first) if self.first_seen else first
        self.last_seen = max(self.last_seen, last)
        self.connections += not is_open
        self.open += is_open


class Sidecar(msgspec.Struct, kw_only=True):
    """
    One sidecar as one kind of source shows it.

    first, last:  from when to when something is known of it; 0: nothing is
    hides:        whether relayed connections are kept out of its log by the level; None: not known yet
    dropped:      log lines that it lost
    """

    name: str
    kind: Kind
    first: float = 0.0
    last: float = 0.0
    hides: bool | None = None
    dropped: int = 0

    @property
    def sees_who(self) -> bool:
        """Whether its log has every connection that ended."""
        return self.kind is Kind.LOG and self.hides is False and not self.dropped

    def saw(self, at: float) -> None:
        """Widen what is known of it to this moment."""
        self.first = min(self.first, at) if self.first else at
        self.last = max(self.last, at)


class Listener(msgspec.Struct, kw_only=True):
    """
    What is known of all listeners of one name, over all sidecars.

    relayed:        kind -> security word -> connections
    refused:        kind -> reason -> connections
    open_plaintext: connections that metrics call open and plaintext
    last_plaintext: the last end of a plaintext connection by metrics, 0 where there was none
    ignored:        when clients that do not matter were last seen, by what they speak
    ignored_open:   connections of theirs that are open and plaintext
    """

    name: str
    sidecars: dict[tuple[Kind, str], Sidecar] = {}
    modes: set[str] = set()
    addresses: set[str] = set()
    relayed: dict[Kind, dict[str, int]] = {}
    refused: dict[Kind, dict[str, int]] = {}
    open_plaintext: int = 0
    last_plaintext: float = 0.0
    ignored: dict[Speaks, float] = {}
    ignored_open: int = 0

    def count(self, table: dict[Kind, dict[str, int]], kind: Kind, word: str, connections: int = 1) -> None:
        """Add to one of the two tables."""
        words = table.setdefault(kind, {})
        words[word] = words.get(word, 0) + connections

    def total(self, table: Mapping[Kind, Mapping[str, int]], word: str) -> int:
        """The connections of a word. Log and metrics of one sidecar show the same ones: the greater sum counts."""
        return max((words.get(word, 0) for words in table.values()), default=0)

    def words(self, table: Mapping[Kind, Mapping[str, int]]) -> dict[str, int]:
        """Every word with its connections, the most frequent first."""
        totals = {word: self.total(table, word) for words in table.values() for word in words}
        return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


class Evidence:
    """
    Everything that was read so far.

    grouping: how clients are told apart
    ignored:  networks whose plaintext does not matter (probes, scanners); it is counted in `ignored_connections`
    """

    def __init__(self, grouping: Grouping, ignored: Iterable[Network] = ()) -> None:
        self.sidecars: dict[tuple[Kind, str], Sidecar] = {}
        self.listeners: dict[str, Listener] = {}
        self.clients: dict[tuple[str, str, int | None, Speaks], Client] = {}
        self.ignored_connections = 0
        self.overflowed = False
        self._grouping = grouping
        self._ignored = tuple(ignored)

    def sidecar(self, kind: Kind, name: str) -> Sidecar:
        """The sidecar of this name, new where it is not known yet."""
        return self.sidecars.get((kind, name)) or self.sidecars.setdefault((kind, name), Sidecar(name=name, kind=kind))

    def listener(self, name: str, sidecar: Sidecar) -> Listener:
        """The listener of this name, known from now on to be one of the sidecar's."""
        listener = self.listeners.get(name) or self.listeners.setdefault(name, Listener(name=name))
        listener.sidecars[sidecar.kind, sidecar.name] = sidecar
        return listener

    def add_client(
        self,
        listener: Listener,
        address: str,
        port: int | None,
        speaks: Speaks,
        first: float,
        last: float,
        is_open: bool,
    ) -> None:
        """Note one connection that STRICT would refuse, or has refused."""
        group, network = self._grouping.of(address)
        if network is not None and any(
            network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]
            for other in self._ignored
        ):
            self.ignored_connections += 1
            listener.ignored_open += is_open and speaks is Speaks.PLAINTEXT
            listener.ignored[speaks] = max(last, listener.ignored.get(speaks, 0.0))
            return
        key = (group, listener.name, port, speaks)
        client = self.clients.get(key)
        if client is None:
            if len(self.clients) >= MAX_CLIENTS:
                self.overflowed = True
                key = (OTHERS, listener.name, None, speaks)
            client = self.clients.setdefault(key, Client(client=key[0], listener=key[1], port=key[2], speaks=key[3]))
        client.add(first, last, is_open=is_open)

"""
The table of docs/modes.md, cell by cell: what each kind of client meets on each kind of port.

One sidecar has every port; behind each is an app that answers TLS with its own TLS and everything else with an echo,
or one that speaks first. A row of the table is a way to speak, a column a listener, and the log line is the verdict.
"""

import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from tests import minting
from tests.e2e.apps import App, echo, saying
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Line, Sidecar, inbound
from tests.e2e.tlspeers import ask, client_context
from tests.e2e.waiting import PATIENCE_S, text_of, until

PAGE = Path(__file__).parents[2] / "docs" / "modes.md"
GREETING = b"220 ready"
LISTED, UNLISTED = "app.shop.svc", "else.shop.svc"
LINE = b"as long as what the app looks at"
DENIED = "spiffe://example.org/ns/shop/sa/denied"
QUICK = {"mode": "PERMISSIVE", "detection_timeout_s": 0.3}

COLUMNS: dict[str, dict[str, object]] = {
    "STRICT": {},
    "PERMISSIVE": QUICK,
    "PERMISSIVE + passthrough": {**QUICK, "app_tls": "passthrough", "app_tls_server_names": [LISTED]},
    "PERMISSIVE + server_first": {"mode": "PERMISSIVE", "server_first": True, "server_first_hold_s": 0.5},
    "DISABLE": {"mode": "DISABLE"},
}

Speak = Callable[[socket.socket], bool | None]  # True: served, False: not, None: this client cannot tell


class World(NamedTuple):
    """The sidecar, whoever may come to it, and somebody whose bundle is the CA's."""

    sidecar: Sidecar
    clients: dict[str, Identity | None]
    trust: Identity


def port_of(column: str, *, greeted: bool = False) -> str:
    """The listener of a column. greeted: the one whose app speaks first"""
    return column.replace(" + ", "-") + ("-greeted" if greeted else "")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("modes")
    pki = Pki(folder / "pki")
    web = pki.identity("web")
    with App(tls_or_echo(web)) as app, App(saying(GREETING)) as greeter:
        listeners = []
        for name, keys in COLUMNS.items():
            rules = {} if keys.get("mode") == "DISABLE" else {"allow": [minting.CART, DENIED], "deny": [DENIED]}
            listeners.append(inbound(port_of(name), app.address, **keys, **rules))
            listeners.append(inbound(port_of(name, greeted=True), greeter.address, **keys, **rules))
        sidecar = Sidecar(folder, web, inbound=listeners, timeouts={"handshake_s": 1.5})
        try:
            yield World(sidecar.wait_ready(), identities(pki), web)
        finally:
            sidecar.kill()
    assert sidecar.unreadable == []


def tls_or_echo(identity: Identity) -> Callable[[socket.socket], None]:
    """An app with TLS of its own, which asks nobody for a certificate, and an echo without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)

    def serve(sock: socket.socket) -> None:
        start = sock.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL)
        if start[:1] == b"\x16" and start[5:6] == b"\x01":
            with context.wrap_socket(sock, server_side=True) as encrypted:
                echo(encrypted)
        else:
            echo(sock)

    return serve


def identities(pki: Pki) -> dict[str, Identity | None]:
    return {
        "allowed": pki.identity("cart"),
        "not allowed": pki.identity("other"),
        "denied": pki.identity("denied"),
        "unknown CA": pki.identity("cart", issuer=pki.stranger),
        "trust domain without bundle": pki.write(minting.svid(minting.authority("elsewhere.example"))),
        "expired": pki.write(minting.expired(pki.authority)),
        "nobody": None,
    }


# The rows: ways to speak.


def says(data: bytes) -> Callable[[World], Speak]:
    """In plaintext; an echo has to bring the very same bytes back."""
    return lambda world: lambda sock: ask(sock, data) == data


def stays_silent(world: World) -> Speak:
    return lambda sock: None


def leaves(world: World) -> Speak:
    return lambda sock: sock.close()


def listens(world: World) -> Speak:
    return lambda sock: sock.recv(len(GREETING), socket.MSG_WAITALL) == GREETING


def opens_tls(who: str, *, sni: str | None = None, greeted: bool = False) -> Callable[[World], Speak]:
    """A TLS client that is served when bytes come back."""

    def speaker(world: World) -> Speak:
        context = client_context(world.clients[who], trust=world.trust.bundle)

        def speak(sock: socket.socket) -> bool | None:
            try:
                encrypted = context.wrap_socket(sock, server_hostname=sni)
            except ssl.SSLError as error:
                # The greeting of an app in plaintext, where the port has no TLS.
                return None if greeted and error.reason == "WRONG_VERSION_NUMBER" else False
            with encrypted:
                if greeted:
                    return encrypted.recv(100) == GREETING
                return ask(encrypted, LINE) == LINE

        return speak

    return speaker


def sends(data: bytes) -> Callable[[World], Speak]:
    """Bytes whose answer, if any, does not matter."""
    return lambda world: lambda sock: sock.sendall(data)


def client_hello() -> bytes:
    """A whole ClientHello of TLS 1.2."""
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="a.example").do_handshake()
    return outgoing.read()


def of_version_1_1(hello: bytes) -> bytes:
    """The same hello with the highest version that it offers replaced (RFC 5246 7.4.1.2: after both headers)."""
    return hello[:9] + b"\x03\x02" + hello[11:]


ROWS: dict[str, Callable[[World], Speak]] = {
    "plaintext": says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "binary, not TLS": says(bytes(range(16)) * 4),
    "0x16, then junk": says(b"\x16\x03\x01\x00\x05hello, this is no TLS"),
    "silence": stays_silent,
    "silence, the app speaks first": listens,
    "leaves without a word": leaves,
    "mutual TLS, allowed": opens_tls("allowed"),
    "mutual TLS, allowed, listed SNI": opens_tls("allowed", sni=LISTED),
    "mutual TLS, allowed, the app speaks first": opens_tls("allowed", greeted=True),
    "mutual TLS, not allowed": opens_tls("not allowed"),
    "mutual TLS, denied": opens_tls("denied"),
    "mutual TLS, unknown CA": opens_tls("unknown CA"),
    "mutual TLS, trust domain without bundle": opens_tls("trust domain without bundle"),
    "mutual TLS, expired": opens_tls("expired"),
    "TLS without client certificate": opens_tls("nobody"),
    "the app's own TLS, listed SNI": opens_tls("nobody", sni=LISTED),
    "the app's own TLS, unlisted SNI": opens_tls("nobody", sni=UNLISTED),
    "TLS 1.1": sends(of_version_1_1(client_hello())),
    "half a ClientHello, then silence": sends(client_hello()[:60]),
    "ClientHello over 16 KiB": sends(b"\x16\x03\x01\x40\x00\x01\x01\x00\x00" + b"\x00" * 0x3FFC),
}


# The cells.


class Cell(NamedTuple):
    """What the page promises. verdict: "relayed W" or a Reason."""

    row: str
    column: str
    verdict: str


def read_page() -> list[Cell]:
    """The cells of the one table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Cell(row[0], column, row[at]) for row in rows for at, column in enumerate(head) if at]


CELLS = read_page()


def test_the_page_has_every_row_and_every_column_and_known_words() -> None:
    assert {cell.row for cell in CELLS} == set(ROWS)
    assert {cell.column for cell in CELLS} == set(COLUMNS)
    assert len(CELLS) == len(ROWS) * len(COLUMNS)
    words = {f"relayed {how}" for how in ("plaintext", "mutual_tls", "app_tls")} | set(Reason)
    assert {cell.verdict for cell in CELLS} <= words


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.row} -> {cell.column}")
def test_a_client_meets_what_the_page_says(world: World, cell: Cell) -> None:
    listener = port_of(cell.column, greeted="the app speaks first" in cell.row)
    is_relayed = cell.verdict.startswith("relayed ")
    with socket.create_connection(world.sidecar.at(listener), timeout=PATIENCE_S) as sock:
        client = text_of(sock.getsockname())
        try:
            served = ROWS[cell.row](world)(sock)
        except (OSError, EOFError):
            served = False
        if sock.fileno() >= 0 and is_relayed:
            until(lambda: is_relaying(world.sidecar, client), "it is relayed")
        elif sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass
    line = line_of(world.sidecar, client, listener)
    if is_relayed:
        assert (f"relayed {line['security']}", served) != (cell.verdict, False), line
        assert f"relayed {line['security']}" == cell.verdict
        assert EXPLANATIONS[Reason(line["reason"])].kind is Kind.ENDED
    else:
        assert (line["reason"], served or False) == (cell.verdict, False), line
        assert (line["bytes_received"], line["bytes_sent"]) == (0, 0)


def is_relaying(sidecar: Sidecar, client: str) -> bool:
    rows = sidecar.show("/connections")
    return any(row["downstream_remote_address"] == client and row["phase"] == "relaying" for row in rows)


def line_of(sidecar: Sidecar, client: str, listener: str) -> Line:
    every = (sidecar.closed(count)[-1] for count in itertools.count(1))
    return next(line for line in every if (line["downstream_remote_address"], line["listener"]) == (client, listener))

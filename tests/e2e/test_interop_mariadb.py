"""MariaDB greets before its client has said a word: what `server_first` makes of it in each mode."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.apps import App, Serve, saying
from tests.e2e.databases import Database, start_mariadb
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import PATIENCE_S, Address
from tests.programs import program

pytestmark = pytest.mark.needs("mariadb", "mariadbd")

PLAINTEXT = ("--skip-ssl",)
OWN_TLS = ("--ssl", "--disable-ssl-verify-server-cert")
TLS_VERSION = "select variable_value from information_schema.session_status where variable_name = 'Ssl_version'"
LONG = 200_000


@pytest.fixture(scope="module")
def module_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The CA of all tests here, since the server starts once."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(module_pki: Pki) -> Iterator[Database]:
    """A running MariaDB."""
    database = start_mariadb(module_pki.identity("db"))
    yield database
    database.stop()


@pytest.fixture
def start_row(
    start_sidecar: Callable[..., Sidecar], module_pki: Pki, server: Database
) -> Callable[..., tuple[Sidecar, Sidecar]]:
    """`start_row(**keys)`: (the client's sidecar, the server's sidecar whose listener has these keys)."""

    def start(**keys: object) -> tuple[Sidecar, Sidecar]:
        theirs = start_sidecar(module_pki.identity("db"), inbound=[inbound("in", server.address, **keys)])
        calls = [outbound("out", theirs.at("in"))]
        return start_sidecar(module_pki.identity("cart"), outbound=calls), theirs

    return start


def mariadb(address: Address, sql: str, *how: str) -> subprocess.CompletedProcess[str]:
    """Run the client; what it prints is one value a line."""
    argv = [program("mariadb"), "--no-defaults", "--protocol=tcp", f"--host={address[0]}", f"--port={address[1]}"]
    argv += [f"--connect-timeout={PATIENCE_S:.0f}", "--user=anybody", "--skip-column-names", "--batch", *how, "-e", sql]
    return subprocess.run(argv, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)


def answer(address: Address, sql: str, *how: str) -> str:
    """What the server answers. Raises: AssertionError with the client's complaint."""
    asked = mariadb(address, sql, *how)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.strip()


def test_a_plaintext_client_gets_the_greeting_from_a_permissive_port(
    start_row: Callable[..., tuple[Sidecar, Sidecar]],
) -> None:
    _, theirs = start_row(mode="PERMISSIVE", server_first=True)
    assert answer(theirs.at("in"), f"select repeat('a', {LONG})", *PLAINTEXT) == "a" * LONG
    (line,) = theirs.closed(1)
    assert (line["security"], line["reason"]) == ("plaintext", "COMPLETED")


def test_without_server_first_a_permissive_port_waits_out_its_detection(
    start_row: Callable[..., tuple[Sidecar, Sidecar]],
) -> None:
    _, theirs = start_row(mode="PERMISSIVE", detection_timeout_s=0.5)
    assert answer(theirs.at("in"), "select 6 * 7", *PLAINTEXT) == "42"
    (line,) = theirs.closed(1)
    assert line["security"] == "plaintext"
    assert line["duration_s"] >= 0.5


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
def test_a_client_behind_a_sidecar_crosses_in_mutual_tls(
    start_row: Callable[..., tuple[Sidecar, Sidecar]], mode: str
) -> None:
    ours, theirs = start_row(mode=mode, server_first=True)
    assert answer(ours.at("out"), f"select repeat('a', {LONG})", *PLAINTEXT) == "a" * LONG
    (out,), (into,) = ours.closed(1), theirs.closed(1)
    assert (into["security"], into["tls"]["peer_spiffe_id"]) == ("mutual_tls", "spiffe://example.org/ns/shop/sa/cart")
    assert (out["bytes_received"], out["bytes_sent"]) == (into["bytes_received"], into["bytes_sent"])
    assert (out["reason"], into["reason"]) == ("COMPLETED", "COMPLETED")


def test_the_tls_of_mariadb_itself_passes_a_permissive_port_untouched(
    start_row: Callable[..., tuple[Sidecar, Sidecar]],
) -> None:
    _, theirs = start_row(mode="PERMISSIVE", server_first=True)
    assert answer(theirs.at("in"), TLS_VERSION, *OWN_TLS).startswith("TLSv1.")
    (line,) = theirs.closed(1)
    assert line["security"] == "plaintext"


def test_the_tls_of_mariadb_itself_runs_inside_mutual_tls(start_row: Callable[..., tuple[Sidecar, Sidecar]]) -> None:
    ours, theirs = start_row(mode="STRICT", server_first=True)
    assert answer(ours.at("out"), TLS_VERSION, *OWN_TLS).startswith("TLSv1.")
    (line,) = theirs.closed(1)
    assert line["security"] == "mutual_tls"


def test_a_strict_port_dials_no_database_for_a_client_that_waits_for_a_greeting(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    database = start_app(saying(b"J\0\0\0\x0a11.4.0-MariaDB"))
    strict = inbound("in", database.address, server_first=True)
    sidecar = start_sidecar(pki.identity("db"), inbound=[strict], timeouts={"handshake_s": 0.5})
    assert mariadb(sidecar.at("in"), "select 1", *PLAINTEXT).returncode != 0
    (line,) = sidecar.closed(1)
    assert (line["reason"], database.accepted) == ("HANDSHAKE_TIMEOUT", 0)

"""PostgreSQL's psql on its way to a real server: through PERMISSIVE and STRICT ports, and with its own TLS inside."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.databases import Database, start_postgresql
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound, outbound
from tests.e2e.waiting import PATIENCE_S, Address
from tests.programs import program

pytestmark = pytest.mark.needs("psql", "postgres", "initdb")

ROWS = 50_000
MANY_ROWS = "".join(f"{number}\n" for number in range(1, ROWS + 1))
IS_ENCRYPTED = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def module_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The CA of all tests here, since the server starts once."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(module_pki: Pki) -> Iterator[Database]:
    """A running PostgreSQL."""
    database = start_postgresql(module_pki.identity("db"))
    yield database
    database.stop()


@pytest.fixture
def start_row(
    start_sidecar: Callable[..., Sidecar], module_pki: Pki, server: Database
) -> Callable[[str], tuple[Sidecar, Sidecar]]:
    """`start_row(mode)`: (the client's sidecar, the server's sidecar with a port of this mode)."""

    def start(mode: str) -> tuple[Sidecar, Sidecar]:
        ours = module_pki.identity("db")
        theirs = start_sidecar(ours, inbound=[inbound("in", server.address, mode=mode)])
        calls = outbound("out", theirs.at("in"), server_ids=[ours.spiffe_id])
        return start_sidecar(module_pki.identity("cart"), outbound=[calls]), theirs

    return start


def psql(
    address: Address, sql: str, *, sslmode: str = "disable", given: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run psql; what it prints is one value a line."""
    where = {"hostaddr": address[0], "port": address[1], "user": "postgres", "dbname": "postgres", **more}
    where |= {"sslmode": sslmode, "gssencmode": "disable", "connect_timeout": f"{PATIENCE_S:.0f}"}
    connection = " ".join(f"{key}={value}" for key, value in where.items())
    argv = [program("psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--command", sql, connection]
    return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)


def test_psql_is_served_by_a_permissive_port_in_plaintext(
    start_row: Callable[[str], tuple[Sidecar, Sidecar]],
) -> None:
    _, theirs = start_row("PERMISSIVE")
    asked = psql(theirs.at("in"), f"select generate_series(1, {ROWS})")
    assert asked.stdout == MANY_ROWS, asked.stderr
    (line,) = theirs.closed(1)
    assert (line["security"], line["reason"]) == ("plaintext", "COMPLETED")


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
def test_psql_crosses_two_sidecars(start_row: Callable[[str], tuple[Sidecar, Sidecar]], mode: str) -> None:
    ours, theirs = start_row(mode)
    asked = psql(ours.at("out"), f"select generate_series(1, {ROWS})")
    assert asked.stdout == MANY_ROWS, asked.stderr
    (out,), (into,) = ours.closed(1), theirs.closed(1)
    assert (into["security"], into["tls"]["peer_spiffe_id"]) == (
        "mutual_tls",
        "spiffe://example.org/ns/shop/sa/cart",
    )
    assert (out["reason"], into["reason"]) == ("COMPLETED", "COMPLETED")
    assert (out["bytes_received"], out["bytes_sent"]) == (into["bytes_received"], into["bytes_sent"])


def test_a_table_is_copied_in_through_two_sidecars(start_row: Callable[[str], tuple[Sidecar, Sidecar]]) -> None:
    ours, _ = start_row("STRICT")
    psql(ours.at("out"), "create table copied (number bigint)")
    copied = psql(ours.at("out"), r"\copy copied from stdin", given=MANY_ROWS)
    assert copied.returncode == 0, copied.stderr
    assert psql(ours.at("out"), "select sum(number) from copied").stdout == f"{ROWS * (ROWS + 1) // 2}\n"


def test_plaintext_psql_is_refused_by_a_strict_port(start_row: Callable[[str], tuple[Sidecar, Sidecar]]) -> None:
    _, theirs = start_row("STRICT")
    asked = psql(theirs.at("in"), "select 1")
    assert (asked.stdout, asked.returncode) == ("", 2)
    (line,) = theirs.closed(1)
    assert (line["reason"], line["upstream_address"]) == ("PLAINTEXT_REFUSED", None)


def test_the_tls_of_postgresql_itself_passes_a_permissive_port_untouched(
    start_row: Callable[[str], tuple[Sidecar, Sidecar]], module_pki: Pki
) -> None:
    _, theirs = start_row("PERMISSIVE")
    client = module_pki.identity("cart")
    verified = {"sslmode": "verify-full", "host": "db.example.org", "sslrootcert": str(client.bundle)}
    asked = psql(theirs.at("in"), IS_ENCRYPTED, **verified)
    assert asked.stdout == "t\n", asked.stderr
    (line,) = theirs.closed(1)
    assert line["security"] == "plaintext"  # it begins with an SSLRequest, which is no ClientHello


def test_the_tls_of_postgresql_itself_runs_inside_mutual_tls(
    start_row: Callable[[str], tuple[Sidecar, Sidecar]], module_pki: Pki
) -> None:
    ours, theirs = start_row("STRICT")
    client = module_pki.identity("cart")
    verified = {"sslmode": "verify-full", "host": "db.example.org", "sslrootcert": str(client.bundle)}
    asked = psql(ours.at("out"), IS_ENCRYPTED, **verified)
    assert asked.stdout == "t\n", asked.stderr
    (line,) = theirs.closed(1)
    assert line["security"] == "mutual_tls"

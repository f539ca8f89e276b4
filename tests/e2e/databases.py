"""
PostgreSQL and MariaDB on ports of their own, with empty data in a folder that the server's user can reach.

Nothing is durable and nobody needs a password: what is tested is the way there. Both speak TLS of their own when a
client asks for it in their protocols, with an SVID of the test's CA.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.e2e.peers import Peer
from tests.e2e.pki import Identity
from tests.e2e.waiting import PATIENCE_S, Address, free_address, until
from tests.programs import program

_IS_ROOT = os.geteuid() == 0


class Database(NamedTuple):
    """A server that listens. address: where, in plaintext; folder: all its files."""

    server: Peer
    address: Address
    folder: Path

    def stop(self) -> None:
        """End it and remove its data."""
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_postgresql(identity: Identity) -> Database:
    """PostgreSQL refuses to be root, so root runs it as `postgres`."""
    user = "postgres" if _IS_ROOT else None
    folder, (cert, key) = _folder_of(user, identity)
    data, address = folder / "data", free_address()
    initdb = [program("initdb"), f"--pgdata={data}", "--username=postgres", "--auth=trust", "--locale=C", "--no-sync"]
    subprocess.run(
        initdb,
        check=True,
        capture_output=True,
        cwd=folder,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        timeout=3 * PATIENCE_S,
    )
    settings = {
        "listen_addresses": address[0],
        "port": address[1],
        "unix_socket_directories": "",
        "fsync": "off",
        "shared_buffers": "16MB",
        "ssl": "on",
        "ssl_cert_file": cert,
        "ssl_key_file": key,
    }
    argv = [program("postgres"), "-D", str(data)]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    return _started(Peer(argv, folder / "server.log", user=user, folder=folder), address, folder)


def start_mariadb(identity: Identity) -> Database:
    """MariaDB makes its own empty data; without the tables of grants everybody may come in."""
    folder, (cert, key) = _folder_of(None, identity)
    data, address = folder / "data", free_address()
    data.mkdir()
    argv = [program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={folder}/mariadb.sock"]
    argv += ["--skip-grant-tables", "--skip-name-resolve", f"--bind-address={address[0]}", f"--port={address[1]}"]
    argv += ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
    argv += [f"--ssl-cert={cert}", f"--ssl-key={key}"]
    if _IS_ROOT:
        argv.append("--user=root")  # it wants to be told that this is meant
    return _started(Peer(argv, folder / "server.log"), address, folder)


def _folder_of(user: str | None, identity: Identity) -> tuple[Path, tuple[Path, Path]]:
    """Make a folder with the identity in it; not below pytest's, which nobody but its owner can enter."""
    folder = Path(tempfile.mkdtemp(prefix="mtls-sidecar-database-"))
    cert, key = (Path(shutil.copy(file, folder)) for file in (identity.cert, identity.key))
    key.chmod(0o600)
    if user is not None:
        owner = pwd.getpwnam(user)
        for path in (folder, cert, key):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    return folder, (cert, key)


def _started(server: Peer, address: Address, folder: Path) -> Database:
    database = Database(server, address, folder)
    try:
        until(lambda: server.listens(address), f"{server.argv[0]} listens")
    except BaseException:
        database.stop()
        raise
    return database

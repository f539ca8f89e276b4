"""The way from PERMISSIVE to STRICT, as docs/rollout.md has it: the report names who is left, until nobody is."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound
from tests.e2e.tlspeers import client_context, what_is_seen
from tests.e2e.waiting import PATIENCE_S, Address, text_of, until


def report(*arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "report", "plaintext", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["listeners"][0]


def plaintext(address: Address) -> bytes:
    with socket.create_connection(address, PATIENCE_S) as client:
        client.sendall(b"hello, this is plaintext")
        return client.recv(100)


def test_from_permissive_to_strict(
    pki: Pki,
    start_sidecar: Callable[..., Sidecar],
    start_app: Callable[[Serve], App],
    tmp_path: Path,
) -> None:
    listener = inbound("web", start_app(echo).address, mode="PERMISSIVE")
    sidecar = start_sidecar(pki.identity("web"), inbound=[listener])
    admin = f"http://{text_of(sidecar.admin)}"
    mutual = client_context(pki.identity("cart"), trust=pki.identity("web").bundle)
    assert what_is_seen(sidecar.at("web"), mutual) == "served"

    with socket.create_connection(sidecar.at("web"), PATIENCE_S) as client:
        client.sendall(b"hello, this is plaintext")
        assert client.recv(100)
        status, web = report(admin)  # who is open has an address, though nothing is logged yet
        assert (status, web["verdict"], web["modes"]) == (1, "not_safe", ["PERMISSIVE"])
        assert [(one["client"], one["port"], one["open"]) for one in web["clients"]] == [
            ("127.0.0.1", sidecar.at("web")[1], 1)
        ]
    sidecar.closed(2)
    log = tmp_path / "web.log"
    log.write_text(sidecar.log())
    status, web = report(str(log), admin)
    assert (status, web["connections"]["plaintext"], web["connections"]["mutual_tls"]) == (1, 1, 1)
    assert [(one["client"], one["connections"]) for one in web["clients"]] == [("127.0.0.1", 1)]

    until(lambda: report(admin, "--window", "1s")[0] == 0, "nobody was seen for a second, and STRICT is safe")

    listener["mode"] = "STRICT"
    with socket.create_connection(sidecar.at("web"), PATIENCE_S) as held:
        held.sendall(b"hello, this is plaintext")
        assert held.recv(100)
        sidecar.write()
        assert sidecar.reload()["result"] == "published"
        assert sidecar.closed(3)[2]["reason"] == "POLICY_CHANGED"
    until(lambda: report(admin, "--window", "1s")[0] == 0, "who held a connection was cut, and counts a second longer")
    assert report(admin, "--window", "1s")[1]["modes"] == ["STRICT"]
    assert plaintext(sidecar.at("web")) == b""
    status, web = report(admin, "--window", "1s")
    assert (status, web["refused"], web["clients"][0]["speaks"]) == (1, {"PLAINTEXT_REFUSED": 1}, "plaintext_refused")
    assert what_is_seen(sidecar.at("web"), mutual) == "served"

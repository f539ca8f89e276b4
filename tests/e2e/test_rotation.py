"""
Certificates that rotate on disk under live traffic, by every kind of writer: not one request fails, and what is on the
wire, in `/certs`, in the metrics and in the log is the new set.
"""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests import minting
from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Line, Sidecar, inbound
from tests.e2e.tlspeers import client_context, connect, is_served, what_is_seen
from tests.e2e.traffic import Traffic
from tests.e2e.waiting import until
from tests.e2e.writers import WRITERS, rename_each, swap_data

WEB = "spiffe://example.org/ns/shop/sa/web"
TIMES = 5  # the second rotation is where watchers of the field fall silent

Start = Callable[..., "Rotating"]


class Rotating:
    """A sidecar, and the folder that its identity is read from."""

    def __init__(
        self,
        folder: Path,
        pki: Pki,
        start_sidecar: Callable[..., Sidecar],
        app: App,
        writer: str,
        **sections: object,
    ) -> None:
        self.folder = folder
        self.pki = pki
        self._write = WRITERS[writer]
        self.bundle = pki.authority.bundle_pem
        (swap_data if writer == "swap_data" else rename_each)(folder, self._files(self.issue()))
        self.sidecar = start_sidecar(
            {
                "cert": str(folder / "tls.crt"),
                "key": str(folder / "tls.key"),
                "bundles": {minting.DOMAIN: str(folder / "ca.crt")},
                "refresh_s": 60,  # so that it is the watch that sees changes, and not the slow poll
            },
            inbound=[inbound("in", app.address)],
            log={"level": "debug"},
            **sections,
        )
        self.client = client_context(pki.identity("cart"), trust=pki.identity("any").bundle)

    def issue(self) -> minting.Svid:
        """A new SVID of the sidecar's."""
        return minting.svid(self.pki.authority, WEB)

    def _files(self, svid: minting.Svid) -> dict[str, bytes]:
        # As spiffe-helper: certificate, key, bundle.
        return {"tls.crt": svid.cert_pem, "tls.key": svid.key_pem, "ca.crt": self.bundle}

    def write(self, svid: minting.Svid) -> str:
        """Write a set as this writer does. Returns: the serial number of its leaf."""
        self._write(self.folder, self._files(svid))
        return f"{svid.leaf.serial_number:x}"

    def rotate(self) -> str:
        """Write a new set and wait until it is in force. Returns: its serial number."""
        serial = self.write(self.issue())
        until(lambda: self.in_force() == serial, "the new certificate is in force")
        return serial

    def in_force(self) -> str:
        return str(self.sidecar.show("/certs")["chain"][0]["serial"])

    def on_the_wire(self) -> str:
        with connect(self.sidecar.at("in"), self.client) as sock:
            der = sock.getpeercert(binary_form=True)
        assert der is not None
        return f"{x509.load_der_x509_certificate(der).serial_number:x}"


@pytest.fixture
def start(tmp_path: Path, pki: Pki, start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App]) -> Start:
    """`start(writer, **sections)`: a sidecar that serves, and the folder that a writer of this name writes to."""

    def rotating(writer: str, **sections: object) -> Rotating:
        return Rotating(tmp_path / "svid", pki, start_sidecar, start_app(echo), writer, **sections)

    return rotating


@pytest.mark.parametrize("writer", WRITERS)
def test_no_request_fails_while_certificates_rotate_again_and_again(start: Start, writer: str) -> None:
    rotating = start(writer)
    sidecar = rotating.sidecar
    serials = [rotating.in_force()]
    with Traffic(sidecar.at("in"), rotating.client) as traffic:
        for _ in range(TIMES):
            serials.append(rotating.rotate())
            assert rotating.on_the_wire() == serials[-1]
            traffic.flows()
    assert traffic.failures == []
    assert sidecar.show("/certs")["generation"] == 1 + TIMES
    assert sidecar.metric("trust_generation") == 1 + TIMES
    assert sidecar.metric("reloads_total", result="published") == 1 + TIMES
    not_after = sidecar.metric("certificate_not_after_timestamp_seconds", kind="leaf")
    assert not_after > minting.clock().timestamp()
    details = [line["detail"] for line in published(sidecar, 1 + TIMES)]
    assert [serial in detail for serial, detail in zip(serials, details, strict=True)] == [True] * (1 + TIMES)


@pytest.mark.parametrize("writer", ["swap_data", "dawdle"])
def test_no_request_fails_while_certificates_rotate_under_several_workers(start: Start, writer: str) -> None:
    rotating = start(writer, workers=2)
    sidecar = rotating.sidecar

    def all_have(number: int) -> bool:
        shown = sidecar.show("/certs")
        return not shown["lagging"] and [row["generation"] for row in shown["workers"]] == [number, number]

    until(lambda: all_have(1), "both workers are ready")
    with Traffic(sidecar.at("in"), rotating.client) as traffic:
        for number in range(2, 2 + TIMES):
            serial = rotating.write(rotating.issue())
            until(lambda number=number: all_have(number), "both workers have the new certificate")
            assert rotating.on_the_wire() == serial
            traffic.flows()
    assert traffic.failures == []


def published(sidecar: Sidecar, count: int) -> list[Line]:
    """So many `reload` lines of what was published; between them may lie those of sets that were mixed."""
    every = (sidecar.lines("reload", number)[-1] for number in itertools.count(1))
    return list(itertools.islice((line for line in every if line["result"] == "published"), count))


@pytest.mark.parametrize("how", ["watch", "SIGHUP", "POST /reload"])
def test_identical_bytes_make_no_new_generation(start: Start, how: str) -> None:
    rotating = start("rename_each")
    sidecar = rotating.sidecar
    stamp = sidecar.metric("last_reload_timestamp_seconds")
    if how == "POST /reload":
        assert sidecar.reload()["result"] == "unchanged"
    elif how == "SIGHUP":
        sidecar.signal(signal.SIGHUP)
    else:
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (rotating.folder / name).write_bytes((rotating.folder / name).read_bytes())
    until(lambda: sidecar.metric("reloads_total", result="unchanged") >= 1, "it has looked")
    assert sidecar.show("/certs")["generation"] == 1
    assert sidecar.metric("last_reload_timestamp_seconds") == stamp
    assert sidecar.metric("reloads_total", result="published") == 1


@pytest.mark.parametrize("how", ["SIGHUP", "POST /reload"])
def test_whoever_asks_for_a_reload_gets_one(start: Start, how: str) -> None:
    rotating = start("rename_each")
    sidecar = rotating.sidecar
    serial = rotating.write(rotating.issue())
    if how == "SIGHUP":
        sidecar.signal(signal.SIGHUP)
    else:
        assert sidecar.reload()["result"] in ("published", "unchanged")  # the latter where the watch was quicker
        assert rotating.in_force() == serial
    until(lambda: rotating.in_force() == serial, "the new certificate is in force")


def test_a_ca_is_changed_in_two_steps_and_no_request_fails(start: Start) -> None:
    rotating = start("swap_data")
    sidecar, new_ca = rotating.sidecar, rotating.pki.stranger
    both = rotating.pki.authority.bundle_pem + new_ca.bundle_pem
    late = client_context(rotating.pki.identity("late", issuer=new_ca), trust=_file(rotating.folder, both))
    early = client_context(rotating.pki.identity("cart"), trust=_file(rotating.folder, both))
    assert what_is_seen(sidecar.at("in"), late) == "UNKNOWN_CA"

    with Traffic(sidecar.at("in"), early) as old_clients:
        rotating.bundle = both
        rotating.rotate()
        assert what_is_seen(sidecar.at("in"), late) == "served"
        old_clients.flows()
    assert old_clients.failures == []

    with Traffic(sidecar.at("in"), late) as new_clients, connect(sidecar.at("in"), early) as of_yesterday:
        assert is_served(of_yesterday)
        rotating.bundle = new_ca.bundle_pem
        serial = rotating.write(minting.svid(new_ca, WEB))
        until(lambda: rotating.in_force() == serial, "the new CA is in force")
        new_clients.flows()
        assert what_is_seen(sidecar.at("in"), early) == "UNKNOWN_CA"
        assert not is_served(of_yesterday)
    assert new_clients.failures == []


def _file(folder: Path, pem: bytes) -> Path:
    path = folder.with_name("both.crt")
    path.write_bytes(pem)
    return path


def test_a_rotation_of_the_key_kind_is_a_rotation_like_any_other(start: Start) -> None:
    rotating = start("rename_each")
    with Traffic(rotating.sidecar.at("in"), rotating.client) as traffic:
        for key_type in ("rsa-2048", "ed25519", "ecdsa-p256"):
            serial = rotating.write(minting.svid(rotating.pki.authority, WEB, key_type=key_type))
            until(lambda serial=serial: rotating.in_force() == serial, f"the {key_type} key is in force")
            assert rotating.on_the_wire() == serial
            traffic.flows()
    assert traffic.failures == []


def test_a_rotation_right_after_the_start_is_not_missed(start: Start) -> None:
    rotating = start("rename_each")
    serials = [rotating.write(rotating.issue()) for _ in range(3)]
    until(lambda: rotating.in_force() == serials[-1], "the last certificate is in force")

"""
Every word that a reload can end with, end to end: the files change on disk, and the sidecar says what is wrong.

Nobody asks it to look; the file watch does. Whatever the word is, the generation before keeps serving, `/certs` says
why and since when, and good files are all that it takes to recover.
"""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from tests import minting
from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Identity, Pki
from tests.e2e.sidecar import Line, Sidecar, inbound
from tests.e2e.tlspeers import client_context, what_is_seen
from tests.e2e.waiting import until

WEB = "spiffe://example.org/ns/shop/sa/web"


class Disk:
    """The files of one identity, and whoever writes them."""

    def __init__(self, pki: Pki, identity: Identity, sidecar: Sidecar) -> None:
        self.pki = pki
        self.identity = identity
        self.sidecar = sidecar

    def write(self, svid: minting.Svid) -> None:
        """Publish a set, each file by one rename."""
        minting.write_identity(self.identity.cert.parent, svid, {minting.DOMAIN: self.pki.authority})

    def mend(self) -> None:
        """Publish a good set, and the configuration that belongs to it."""
        self.write(minting.svid(self.pki.authority, WEB))


def key_of_another_issuance(disk: Disk) -> None:
    disk.identity.key.write_bytes(minting.svid(disk.pki.authority, WEB).key_pem)


def no_certificate(disk: Disk) -> None:
    disk.identity.cert.unlink()


def half_a_certificate(disk: Disk) -> None:
    disk.identity.cert.write_bytes(disk.identity.cert.read_bytes()[:-40])


def certificate_of_another_ca(disk: Disk) -> None:
    disk.write(minting.svid(disk.pki.stranger, WEB))


def expired_certificate(disk: Disk) -> None:
    disk.write(minting.expired(disk.pki.authority, WEB))


def certificate_of_tomorrow(disk: Disk) -> None:
    disk.write(minting.not_yet_valid(disk.pki.authority, WEB))


def leaf_in_the_bundle(disk: Disk) -> None:
    disk.identity.bundle.write_bytes(disk.identity.cert.read_bytes())


def certificate_with_two_names(disk: Disk) -> None:
    disk.write(minting.with_uris(disk.pki.authority, WEB, f"{WEB}-2"))


def certificate_without_a_workload(disk: Disk) -> None:
    disk.write(minting.with_uris(disk.pki.authority, "spiffe://example.org"))


def certificate_of_another_domain(disk: Disk) -> None:
    svid = minting.svid(minting.authority("elsewhere.example"))
    disk.identity.key.write_bytes(svid.key_pem)
    disk.identity.cert.write_bytes(svid.cert_pem)


def misspelled_mode(disk: Disk) -> None:
    text = disk.sidecar.file.read_text()
    disk.sidecar.file.write_text(text.replace("mode: STRICT", "mode: STRIKT"))


BROKEN_BY = {
    Reason.KEY_MISMATCH: key_of_another_issuance,
    Reason.FILE_MISSING: no_certificate,
    Reason.PEM_MALFORMED: half_a_certificate,
    Reason.CHAIN_UNTRUSTED: certificate_of_another_ca,
    Reason.CERTIFICATE_EXPIRED: expired_certificate,
    Reason.CERTIFICATE_NOT_YET_VALID: certificate_of_tomorrow,
    Reason.CERTIFICATE_INVALID: leaf_in_the_bundle,
    Reason.NOT_AN_SVID: certificate_with_two_names,
    Reason.SPIFFE_ID_MALFORMED: certificate_without_a_workload,
    Reason.WRONG_TRUST_DOMAIN: certificate_of_another_domain,
    Reason.CONFIG_FAULT: misspelled_mode,
}


@pytest.fixture
def disk(pki: Pki, start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App]) -> Disk:
    """A sidecar that serves, and the files that it was started with."""
    identity = pki.identity("web")
    app = start_app(echo)
    return Disk(pki, identity, start_sidecar(identity, inbound=[inbound("in", app.address, mode="STRICT")]))


def reloads(sidecar: Sidecar) -> Iterator[Line]:
    """The `reload` lines as they come."""
    return (sidecar.lines("reload", count)[-1] for count in itertools.count(1))


def says(sidecar: Sidecar, reason: Reason) -> Line:
    return next(line for line in reloads(sidecar) if line["reason"] == reason)


def is_served(disk: Disk) -> bool:
    client = client_context(disk.pki.identity("cart"), trust=disk.pki.identity("any").bundle)
    return what_is_seen(disk.sidecar.at("in"), client) == "served"


def failure_shown(sidecar: Sidecar) -> Line | None:
    shown = sidecar.show("/certs")
    failure: Line | None = shown.get("identity_failure") or shown.get("configuration_failure")
    return failure


def test_every_word_of_a_reload_is_shown() -> None:
    words = {reason for reason, word in EXPLANATIONS.items() if word.kind is Kind.RELOAD}
    assert words <= {*BROKEN_BY, Reason.RELOADED, Reason.FILES_UNSTABLE}


@pytest.mark.parametrize("reason", BROKEN_BY)
def test_a_bad_file_is_named_keeps_nobody_from_being_served_and_is_recovered_from(disk: Disk, reason: Reason) -> None:
    sidecar = disk.sidecar
    serial = sidecar.show("/certs")["chain"][0]["serial"]
    configuration = sidecar.file.read_text()

    BROKEN_BY[reason](disk)

    line = says(sidecar, reason)
    assert (line["result"], line["generation"], line["advice"]) == ("failed", 1, EXPLANATIONS[reason].advice)
    if reason in (Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID):
        assert "our clock says" in line["detail"]
    broken = sidecar.file if reason is Reason.CONFIG_FAULT else disk.identity.cert.parent
    assert str(broken) in line["detail"]
    assert sidecar.metric("reloads_total", result="failed", reason=str(reason)) >= 1
    assert (is_served(disk), sidecar.ask("GET", "/ready")[0]) == (True, 200)
    failure = failure_shown(sidecar)
    assert failure is not None
    assert (failure["reason"], failure["advice"]) == (reason, EXPLANATIONS[reason].advice)
    assert failure["since"].endswith("Z")
    assert sidecar.show("/certs")["chain"][0]["serial"] == serial
    status, body = sidecar.ask("POST", "/reload")
    assert (status, str(reason) in body) == (409, True), body

    sidecar.file.write_text(configuration)
    disk.mend()

    until(lambda: sidecar.show("/certs")["chain"][0]["serial"] != serial, "it has recovered by itself")
    assert failure_shown(sidecar) is None
    assert sidecar.metric("reloads_total", result="published", reason="RELOADED") == 2
    assert is_served(disk)


def test_a_writer_that_never_rests_is_named_and_waited_for(disk: Disk) -> None:
    rest = threading.Event()
    certificate = disk.identity.cert.read_bytes()

    def write_without_rest() -> None:
        # New bytes each time, so that no two readings agree; good ones, should the writer be kept from its work once.
        for number in itertools.takewhile(lambda _: not rest.wait(0.002), itertools.count()):
            disk.identity.cert.write_bytes(b"%s# %d\n" % (certificate, number))

    writer = threading.Thread(target=write_without_rest)
    writer.start()
    try:
        line = says(disk.sidecar, Reason.FILES_UNSTABLE)
        assert str(disk.identity.cert) in line["detail"]
        assert is_served(disk)
    finally:
        rest.set()
        writer.join()
    before = disk.sidecar.show("/certs")["chain"][0]["serial"]
    disk.mend()
    until(lambda: disk.sidecar.show("/certs")["chain"][0]["serial"] != before, "the set that was left is in force")
    assert failure_shown(disk.sidecar) is None

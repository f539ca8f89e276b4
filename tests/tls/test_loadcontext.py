"""What a client of the laboratory is and offers: files, names, groups and suites that cannot be are sentences."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.core.reasons import Reason, Rejected
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid
from proxy.tls.loadclient import LoadContext
from proxy.tls.loadcontext import OPENSSL_SUITES, Credentials, Offer, is_ip, names_of
from tests import minting


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("svids")
    issuer = minting.authority()
    for name in ("one", "two"):
        write_svid(root / name, minting.svid(issuer), bundles={BUNDLE_FILE: issuer.bundle_pem})
    (root / "empty.pem").write_bytes(b"")
    return root


def make(folder: Path, offer: Offer | None = None, **changes: object) -> LoadContext:
    fields: dict[str, object] = {
        "ca": str(folder / "one" / BUNDLE_FILE),
        "cert": str(folder / "one" / CERT_FILE),
        "key": str(folder / "one" / KEY_FILE),
        "server_name": "localhost",
    }
    return LoadContext(Credentials(**(fields | changes)), offer or Offer())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"ca": "{}/none.pem"}, Reason.FILE_MISSING, "the CA file {}/none.pem cannot be read: No such file"),
        ({"cert": "{}/none.pem"}, Reason.FILE_MISSING, "the certificate file {}/none.pem cannot be read"),
        ({"key": "{}/none.pem"}, Reason.FILE_MISSING, "the key file {}/none.pem cannot be read"),
        ({"ca": "{}/empty.pem"}, Reason.PEM_MALFORMED, "{}/empty.pem holds no certificate"),
        ({"cert": "{}/empty.pem"}, Reason.PEM_MALFORMED, "{}/empty.pem holds no certificate"),
        ({"key": "{}/empty.pem"}, Reason.KEY_MISMATCH, "{}/empty.pem cannot be read, or is not that of"),
        ({"key": "{}/two/tls.key"}, Reason.KEY_MISMATCH, "or is not that of the certificate in"),
        ({"server_name": None}, Reason.CONFIG_FAULT, "nothing says who the server has to be"),
        ({"server_ids": ("example.org",)}, Reason.CONFIG_FAULT, "is no SPIFFE ID"),
    ],
)
def test_what_cannot_be_a_client_is_said(folder: Path, changes: dict[str, object], reason: Reason, said: str) -> None:
    placed = {name: value.format(folder) if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises(Rejected) as refused:
        make(folder, **placed)
    assert refused.value.reason is reason
    assert said.format(folder) in refused.value.detail


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        (Offer(group="P-999"), "does not know the group P-999"),
        (Offer(cipher="TLS_NONE"), "TLS 1.3 in this OpenSSL has no cipher suite TLS_NONE"),
        (Offer(version="1.2", cipher="TLS_NONE"), "TLS 1.2 in this OpenSSL has no cipher suite TLS_NONE"),
    ],
)
def test_what_openssl_does_not_have_cannot_be_offered(folder: Path, offer: Offer, said: str) -> None:
    with pytest.raises(Rejected) as refused:
        make(folder, offer)
    assert refused.value.reason is Reason.CONFIG_FAULT
    assert said in refused.value.detail


def test_every_suite_that_a_sidecar_can_have_can_be_offered(folder: Path) -> None:
    for name in OPENSSL_SUITES:
        assert make(folder, Offer(version="1.2", cipher=name))
    assert OPENSSL_SUITES["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"] == "ECDHE-RSA-CHACHA20-POLY1305"
    assert OPENSSL_SUITES["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"] == "ECDHE-ECDSA-AES128-GCM-SHA256"


def test_an_error_leaves_nothing_behind_for_the_next_connection(folder: Path) -> None:
    """OpenSSL's queue of errors is one for all connections of a thread; what stays in it is taken for theirs."""
    from proxy.tls import binding

    for changes in ({"ca": f"{folder}/empty.pem"}, {"cert": f"{folder}/empty.pem"}, {"key": f"{folder}/empty.pem"}):
        with pytest.raises(Rejected):
            make(folder, **changes)
        assert binding.peek_error() == (0, "")


def test_an_address_is_no_server_name() -> None:
    assert [is_ip(text) for text in ("127.0.0.1", "::1", "localhost", "1.2.3.4.example", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_names_of_a_leaf_are_for_a_sentence_and_junk_has_none() -> None:
    der = minting.svid(minting.authority(), dns_names=["a.test"]).leaf.public_bytes(Encoding.DER)
    assert names_of(der) == [minting.CART, "a.test"]
    assert names_of(b"junk") == []
    assert names_of(b"") == []

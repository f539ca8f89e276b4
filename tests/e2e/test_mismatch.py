"""A client and a listener that have nothing in common: the line in the log names what each of them has."""

from collections.abc import Callable, Mapping

import pytest

from tests.e2e.apps import App, Serve, echo
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound
from tests.e2e.test_interop_openssl import presenting, s_client

pytestmark = pytest.mark.needs("openssl")

OURS_IN_12 = (
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 and "
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
)


@pytest.mark.parametrize(
    ("tls", "options", "detail"),
    [
        (
            {},
            ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
            "no TLS version in common: the client offers TLS 1.1 at the most, this listener takes TLS 1.2 and TLS 1.3",
        ),
        (
            {"max_version": "1.2"},
            ("-tls1_3",),
            "no TLS version in common: the client offers TLS 1.3, this listener takes TLS 1.2",
        ),
        (
            {},
            ("-tls1_2", "-cipher", "AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256"),
            "no cipher suite of TLS 1.2 in common: the client offers TLS_RSA_WITH_AES_128_CBC_SHA and "
            f"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; this listener with its ecdsa-p256 key takes {OURS_IN_12}",
        ),
        (
            {},
            ("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"),
            "no cipher suite of TLS 1.3 in common: the client offers TLS_AES_128_CCM_SHA256; this listener takes "
            "TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 and TLS_AES_128_GCM_SHA256",
        ),
        (
            {},
            ("-groups", "X448:P-521"),
            "no group of TLS 1.3 in common: the client offers X448 and P-521; this listener takes X25519MLKEM768, "
            "X25519, P-256 and P-384",
        ),
        (
            {"groups": ["X25519MLKEM768", "P-256"]},
            ("-tls1_2", "-groups", "P-521:X448"),
            "no group of TLS 1.2 in common: the client offers P-521 and X448; this listener takes P-256",
        ),
        (
            {},
            ("-tls1_2", "-groups", "X25519"),
            "the client takes no certificate on P-256, as this listener's is: in TLS 1.2 it offers X25519",
        ),
        (
            {},
            ("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:ed25519"),
            "no signature algorithm of TLS 1.3 in common: the client offers rsa_pss_rsae_sha256 and ed25519; this "
            "listener's ecdsa-p256 key signs with ecdsa_secp256r1_sha256",
        ),
    ],
    ids=["TLS 1.1", "TLS 1.3", "suites 1.2", "suites 1.3", "groups 1.3", "groups 1.2", "curve 1.2", "signatures"],
)
def test_the_log_names_what_both_sides_have(
    start_sidecar: Callable[..., Sidecar],
    start_app: Callable[[Serve], App],
    pki: Pki,
    tls: Mapping[str, object],
    options: tuple[str, ...],
    detail: str,
) -> None:
    listener = inbound("in", start_app(echo).address)
    sidecar = start_sidecar(pki.identity("web"), inbound=[listener], tls=tls)
    asked = s_client(sidecar.at("in"), *presenting(pki.identity("cart")), *options)
    assert "alert" in asked.stderr
    (line,) = sidecar.closed(1)
    assert line["detail"] == detail


def test_a_permissive_port_names_it_too_and_the_admin_page_shows_the_whole_sentence(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki
) -> None:
    listener = inbound("in", start_app(echo).address, mode="PERMISSIVE")
    sidecar = start_sidecar(pki.identity("web"), inbound=[listener])
    every_old_suite = ("-tls1_2", "-cipher", "ALL:!AESGCM:!CHACHA20")
    s_client(sidecar.at("in"), *presenting(pki.identity("cart")), *every_old_suite)
    (line,) = sidecar.closed(1)
    assert " more; this listener with its ecdsa-p256 key takes " in line["detail"]
    assert line["detail"].endswith(OURS_IN_12)
    assert [refused["detail"] for refused in sidecar.show("/recent")["refusals"]] == [line["detail"]]

"""What is said of two sides that found nothing in common: the first list that does not meet, with both sides' names."""

import re
import subprocess
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.clientoffer import Offer
from proxy.core.config import CIPHER_SUITES, GROUPS, TlsConfig
from proxy.core.mismatch import Ours, explain
from proxy.core.reasons import Reason, Rejected
from proxy.core.tlsnumbers import GROUPS as GROUP_NAMES
from proxy.core.tlsnumbers import SIGNATURES, SUITES
from tests.programs import program

KEYS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "ed25519")
TLS = TlsConfig()
DEFAULT = Ours(TLS, "ecdsa-p256")
ENGINES_WORDS = "no cipher suite, group or signature in common (no shared cipher)"

OLD = Offer(versions=(0x0302,), at_most=True, suites=(0x002F,), groups=(), signatures=())
TLS12 = Offer(versions=(0x0303,), at_most=True, suites=(0xC02B,), groups=(29, 23), signatures=(0x0403,))
TLS13 = Offer(versions=(0x0304, 0x0303), suites=(0x1301, 0xC02B), groups=(29, 23), signatures=(0x0403, 0x0804))


def but(offer: Offer, **changed: object) -> Offer:
    return Offer(**{field: getattr(offer, field) for field in Offer.__struct_fields__} | changed)


def said(offer: Offer, ours: Ours = DEFAULT, reason: Reason = Reason.NO_SHARED_CIPHER) -> str:
    explained = explain(Rejected(reason, ENGINES_WORDS), offer, ours)
    assert explained.reason is reason
    return explained.detail


@pytest.mark.parametrize(
    ("offer", "tls", "sentence"),
    [
        (OLD, TLS, "the client offers TLS 1.1 at the most, this listener takes TLS 1.2 and TLS 1.3"),
        (
            but(OLD, versions=(0x0302, 0x0301), at_most=False),
            TlsConfig(min_version="1.3"),
            "the client offers TLS 1.1 and TLS 1.0, this listener takes TLS 1.3",
        ),
        (
            but(TLS13, versions=(0x0304, 0x7F1C)),
            TlsConfig(max_version="1.2"),
            "the client offers TLS 1.3 and 0x7F1C, this listener takes TLS 1.2",
        ),
        (but(TLS13, versions=()), TLS, "the client offers none, this listener takes TLS 1.2 and TLS 1.3"),
    ],
)
def test_versions_that_do_not_meet_are_named(offer: Offer, tls: TlsConfig, sentence: str) -> None:
    expected = f"no TLS version in common: {sentence}"
    assert said(offer, Ours(tls, "ecdsa-p256"), Reason.UNSUPPORTED_TLS_VERSION) == expected


@pytest.mark.parametrize(
    ("offer", "ours", "sentence"),
    [
        (
            but(TLS12, suites=(0x002F, 0xEEEE)),
            DEFAULT,
            "no cipher suite of TLS 1.2 in common: the client offers TLS_RSA_WITH_AES_128_CBC_SHA and 0xEEEE; this "
            "listener with its ecdsa-p256 key takes TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 and TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        (
            but(TLS12, suites=(0xC02B,)),  # configured, and yet an RSA key cannot be used with it
            Ours(TlsConfig(cipher_suites=CIPHER_SUITES[:2]), "rsa-2048"),
            "no cipher suite of TLS 1.2 in common: the client offers TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; this "
            "listener with its rsa-2048 key takes TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        ),
        (
            TLS12,
            Ours(TlsConfig(cipher_suites=CIPHER_SUITES[1:2]), "ed25519"),
            "no cipher suite of TLS 1.2 in common: the client offers TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; this "
            "listener with its ed25519 key takes none",
        ),
        (
            but(TLS13, suites=(0x1304, 0xC02B)),  # that suite of TLS 1.2 is of no use in 1.3
            DEFAULT,
            "no cipher suite of TLS 1.3 in common: the client offers TLS_AES_128_CCM_SHA256; this listener takes "
            "TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 and TLS_AES_128_GCM_SHA256",
        ),
        (
            but(TLS13, groups=(30,)),
            DEFAULT,
            "no group of TLS 1.3 in common: the client offers X448; this listener takes X25519MLKEM768, X25519, P-256 "
            "and P-384",
        ),
        (
            but(TLS12, groups=(0x11EC, 25)),  # a hybrid group is of no use in 1.2, whoever has it
            DEFAULT,
            "no group of TLS 1.2 in common: the client offers X25519MLKEM768 and P-521; this listener takes X25519, "
            "P-256 and P-384",
        ),
        (
            TLS12,
            Ours(TLS, "ecdsa-p384"),
            "the client takes no certificate on P-384, as this listener's is: in TLS 1.2 it offers X25519 and P-256",
        ),
        (
            TLS13,
            Ours(TLS, "ecdsa-p384"),
            "no signature algorithm of TLS 1.3 in common: the client offers ecdsa_secp256r1_sha256 and "
            "rsa_pss_rsae_sha256; this listener's ecdsa-p384 key signs with ecdsa_secp384r1_sha384",
        ),
        (
            but(TLS13, signatures=(0x0401,)),  # PKCS #1, which TLS 1.3 has in certificates only
            Ours(TLS, "rsa-3072"),
            "no signature algorithm of TLS 1.3 in common: the client offers rsa_pkcs1_sha256; this listener's rsa-3072 "
            "key signs with rsa_pss_rsae_sha256, rsa_pss_rsae_sha384 and rsa_pss_rsae_sha512",
        ),
        (
            but(TLS12, signatures=()),
            DEFAULT,
            "no signature algorithm of TLS 1.2 in common: the client offers none, which stands for SHA-1; this "
            "listener's ecdsa-p256 key signs with ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384 and "
            "ecdsa_secp521r1_sha512",
        ),
    ],
)
def test_the_first_list_that_does_not_meet_is_named(offer: Offer, ours: Ours, sentence: str) -> None:
    assert said(offer, ours) == sentence


def test_where_all_lists_meet_both_offers_follow_the_engines_words() -> None:
    assert said(TLS13) == (
        f"{ENGINES_WORDS}; the client offers TLS 1.3 and TLS 1.2, the suites TLS_AES_128_GCM_SHA256 and "
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, the groups X25519 and P-256, the signature algorithms "
        "ecdsa_secp256r1_sha256 and rsa_pss_rsae_sha256; this listener takes TLS 1.2 and TLS 1.3, with its ecdsa-p256 "
        "key the suites TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 and TLS_AES_128_GCM_SHA256, the groups "
        "X25519MLKEM768, X25519, P-256 and P-384"
    )


def test_of_a_hello_that_was_cut_nothing_is_made_up() -> None:
    cut = Offer(suites=(0x002F,))
    assert "the client offers the suites TLS_RSA_WITH_AES_128_CBC_SHA; this listener takes" in said(cut)
    assert said(cut, reason=Reason.UNSUPPORTED_TLS_VERSION).startswith(ENGINES_WORDS)
    assert said(Offer()) == ENGINES_WORDS
    assert said(Offer(), reason=Reason.UNSUPPORTED_TLS_VERSION) == ENGINES_WORDS


def test_a_client_without_a_list_of_groups_takes_any() -> None:
    assert said(but(TLS12, groups=()), Ours(TLS, "ecdsa-p384")).startswith(ENGINES_WORDS)


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.UNSUPPORTED_TLS_VERSION, Reason.NO_SHARED_CIPHER}))
def test_no_other_refusal_is_touched(reason: Reason) -> None:
    refusal = Rejected(reason, "as it was")
    assert explain(refusal, OLD, DEFAULT) is refusal


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    detail = said(but(TLS12, suites=tuple(SUITES)[:20]))
    shown = re.search(r"offers (.*), (\S+) and (\d+) more;", detail)
    assert shown is not None
    assert len(shown[1].split(", ")) + 1 + int(shown[3]) == 20
    assert len(detail) < 400  # what the admin page keeps of it


numbers = st.none() | st.lists(st.integers(0, 0xFFFF), unique=True, max_size=400).map(tuple)


@given(
    st.builds(Offer, versions=numbers, suites=numbers, groups=numbers, signatures=numbers),
    st.sampled_from(KEYS),
    st.sampled_from([Reason.UNSUPPORTED_TLS_VERSION, Reason.NO_SHARED_CIPHER]),
)
def test_any_offer_gives_a_sentence_of_bounded_length(offer: Offer, key: str, reason: Reason) -> None:
    assert 0 < len(said(offer, Ours(TlsConfig(groups=GROUPS), key), reason)) < 1200


def test_whatever_can_be_configured_has_its_number() -> None:
    assert set(CIPHER_SUITES) <= set(SUITES.values())
    assert set(GROUPS) <= set(GROUP_NAMES.values())
    for key, version in product(KEYS, (0x0303, 0x0304)):
        ours = Ours(TLS, key)
        assert set(ours.suites(version)) <= set(SUITES.values())
        assert set(ours.signatures(version)) <= set(SIGNATURES.values())


@pytest.mark.needs("openssl")
def test_the_suites_are_called_as_openssl_calls_them() -> None:
    argv = [program("openssl"), "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    named = {int(number.replace(",0x", ""), 16): name for number, _, name, *_ in map(str.split, lines)}
    ours = {number: name for number, name in SUITES.items() if number in named}
    assert len(ours) > 40
    assert ours == {number: named[number] for number in ours}

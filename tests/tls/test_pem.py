"""PEM files of an identity: what is tolerated, and in which words the rest is refused."""

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason, Rejected
from proxy.tls.keys import key_pem, public_key_bytes
from proxy.tls.pem import Block, read_blocks, read_certificates, read_private_key
from tests import minting

ROOT = minting.authority()
SVID = minting.svid(ROOT)
CERT = SVID.cert_pem
KEY = SVID.key_pem


def refusal(data: bytes, read: object = read_certificates) -> str:
    with pytest.raises(Rejected) as caught:
        read(data, "FILE")  # type: ignore[operator]
    assert caught.value.reason is Reason.PEM_MALFORMED
    assert caught.value.detail.startswith("FILE: ")
    return caught.value.detail.removeprefix("FILE: ")


@pytest.mark.parametrize(
    "around",
    [
        lambda pem: pem,
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: pem.replace(b"\n", b"\r"),
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: b"Certificate:\n    Data: \xff\n\n" + pem + b"\n--- that was it\n",
        lambda pem: b"".join(b"    " + line + b"\n" for line in pem.splitlines()),
        lambda pem: pem.rstrip(b"\n"),
        lambda pem: b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + pem,
    ],
)
def test_what_tools_write_around_a_block_is_tolerated(around: object) -> None:
    assert read_certificates(around(CERT), "FILE") == SVID.chain  # type: ignore[operator]
    key = read_private_key(around(KEY), "FILE")  # type: ignore[operator]
    assert public_key_bytes(key.public_key()) == public_key_bytes(SVID.key.public_key())


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"])
def test_keys_that_tls_signs_with_are_read_in_each_form(key_type: str) -> None:
    key = minting.leaf_key(key_type)
    forms = [PrivateFormat.PKCS8] if key_type == "ed25519" else [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]
    for form in forms:
        read = read_private_key(key.private_bytes(Encoding.PEM, form, NoEncryption()), "FILE")
        assert public_key_bytes(read.public_key()) == public_key_bytes(key.public_key())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a certificate in PEM was expected, found an empty file: its writer may be half-way"),
        (b" \n\n", "a certificate in PEM was expected, found an empty file: its writer may be half-way"),
        (KEY, "a certificate in PEM was expected, found a private key"),
        (b"hello", "a certificate in PEM was expected, found no PEM at all (no line -----BEGIN ...-----)"),
        (CERT + b"-----BEGIN CERTIFICATE-----\nAAAA\n", "has no end: it is cut short"),
        (CERT.rstrip(b"\n") + CERT, "two PEM blocks run together in line"),
        (b"-----END CERTIFICATE-----\n", "line 1 should be one that begins a PEM block"),
        (b"-----BEGIN CERTIFICATE----\n", "line 1 should be one that begins a PEM block"),
        (CERT.replace(b"END CERT", b"END NOT A CERT"), "ends a NOT A CERTIFICATE, but the block of line 1"),
        (b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "the CERTIFICATE of line 1 is not base64"),
        (CERT.replace(b"CERTIFICATE", b"CERTIFICATE REQUEST"), "found a certificate request"),
        (CERT + CERT.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), "a certificate with OpenSSL's trust settings"),
        (SVID.leaf.public_bytes(Encoding.DER), "found binary DER or PKCS#12"),
        ("﻿-----BEGIN".encode("utf-16-le"), "found UTF-16 text"),
    ],
)
def test_a_file_without_a_certificate_is_refused_in_words(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_base64_that_is_no_certificate_is_refused_with_its_line() -> None:
    with pytest.raises(Rejected) as caught:
        read_certificates(b"text\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "FILE")
    assert caught.value.reason is Reason.CERTIFICATE_INVALID
    assert caught.value.detail.startswith("FILE, line 2: ")


def pem(key: object, form: PrivateFormat = PrivateFormat.PKCS8, secret: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (CERT, "a private key in PEM was expected, found a certificate"),
        (b"", "found an empty file"),
        (KEY + key_pem(minting.leaf_key()), "one private key was expected, found 2 (lines 1 and "),
        (pem(SVID.key, secret=b"secret"), "the private key is encrypted"),
        (pem(SVID.key, PrivateFormat.TraditionalOpenSSL, b"secret"), "the private key is encrypted"),
        (pem(SVID.key, PrivateFormat.OpenSSH), "found a private key of SSH's own form"),
        (KEY.replace(b"M", b"N", 1), "the PRIVATE KEY of line 1 cannot be read: it is damaged"),
        (pem(x25519.X25519PrivateKey.generate()), "the private key is for key exchange only"),
        (pem(ed448.Ed448PrivateKey.generate()), "the private key is Ed448"),
        (pem(ec.generate_private_key(ec.SECP224R1())), "the private key is ECDSA on the curve secp224r1"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "the private key is ECDSA on the curve secp256k1"),
        (pem(rsa.generate_private_key(65537, 1024)), "the private key is RSA of 1024 bits, which is too short"),
        (pem(dsa.generate_private_key(1024)), "the private key is DSA"),
    ],
)
def test_a_key_that_tls_cannot_use_is_refused_in_words(data: bytes, words: str) -> None:
    assert words in refusal(data, read_private_key)


def test_no_part_of_a_key_is_in_a_refusal() -> None:
    lines = KEY.splitlines()
    glued = [KEY.replace(b"\n", b" "), KEY.replace(b"\n-", b"-"), KEY.replace(b"-\n", b"-"), lines[0] + KEY]
    for damaged in (KEY.replace(b"M", b"N", 1), KEY[:-5], b"\n".join(lines[:2]), KEY + KEY, *glued):
        detail = refusal(damaged, read_private_key)
        assert not any(line.decode() in detail for line in lines[1:-1])


def test_every_prefix_of_a_chain_is_refused_but_where_a_block_ends() -> None:
    chain = CERT + ROOT.cert_pem
    ends = {len(CERT) - 1, len(CERT), len(chain) - 1, len(chain)}
    read = set()
    for end in range(len(chain) + 1):
        try:
            read_certificates(chain[:end], "FILE")
        except Rejected:
            continue
        read.add(end)
    # The text of a boundary that is not begun yet (fewer letters than "-----BEGIN") is text like any other.
    assert ends <= read
    assert read <= ends | set(range(len(CERT), len(CERT) + len("-----BEGIN")))


@given(st.binary(max_size=200))
def test_any_bytes_are_blocks_or_a_refusal(data: bytes) -> None:
    for noise in (data, CERT + data, CERT[:60] + data):
        with contextlib.suppress(Rejected):
            assert all(isinstance(block, Block) for block in read_blocks(noise, "FILE"))

"""Keys: every type that can be minted is recognised again, and its bytes leave as PKCS#8."""

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.tls.keys import KeyType, generate_key, key_pem, key_type_word, public_key_bytes


@pytest.mark.parametrize("key_type", [word for word in KeyType if word not in ("rsa-3072", "rsa-4096")])
def test_a_key_survives_pem_and_names_its_type(key_type: KeyType) -> None:
    key = generate_key(key_type)
    pem = key_pem(key)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    again = load_pem_private_key(pem, None).public_key()
    assert public_key_bytes(again) == public_key_bytes(key.public_key())  # type: ignore[arg-type]
    assert key_type_word(again) == key_type  # type: ignore[arg-type]


def test_an_unknown_word_makes_no_key() -> None:
    with pytest.raises(ValueError, match="dsa-1024"):
        generate_key("dsa-1024")


def test_keys_that_are_never_minted_still_have_a_name() -> None:
    assert key_type_word(ec.generate_private_key(ec.SECP521R1()).public_key()) == "ecdsa-p521"
    assert key_type_word(ec.generate_private_key(ec.SECP256K1()).public_key()) == "ecdsa-secp256k1"
    assert key_type_word(dsa.generate_private_key(1024).public_key()) == "dsa-1024"
    assert key_type_word(ed448.Ed448PrivateKey.generate().public_key()) == "ed448"
    assert key_type_word(x25519.X25519PrivateKey.generate().public_key()) == "unknown"

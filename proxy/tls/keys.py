"""
Private keys as this house mints and names them: which types there are, how one is made, written and recognised.

It refuses to know what a key is for. Key bytes leave this file in one function only, `key_pem`.
"""

from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class KeyType(StrEnum):
    """The keys that can be minted, in the words of the command line."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"


_CURVE_WORDS = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}


def generate_key(key_type: str) -> PrivateKey:
    """Generate a private key. key_type: a word of KeyType; anything else raises ValueError."""
    match KeyType(key_type):
        case KeyType.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case rsa_type:
            return rsa.generate_private_key(public_exponent=65537, key_size=int(rsa_type.removeprefix("rsa-")))


def key_pem(key: PrivateKey) -> bytes:
    """Encode a private key as unencrypted PKCS#8 PEM; whoever writes it to disk owes it mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_key_bytes(key: CertificatePublicKeyTypes) -> bytes:
    """Encode as SubjectPublicKeyInfo in DER: two keys are the same exactly when these bytes are."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_type_word(key: CertificatePublicKeyTypes) -> str:
    """Name the type of any public key: a word of KeyType where there is one, the same manner of word elsewhere."""
    match key:
        case ec.EllipticCurvePublicKey():
            return _CURVE_WORDS.get(key.curve.name, f"ecdsa-{key.curve.name}")
        case rsa.RSAPublicKey():
            return f"rsa-{key.key_size}"
        case dsa.DSAPublicKey():
            return f"dsa-{key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case ed448.Ed448PublicKey():
            return "ed448"
        case _:
            return "unknown"


def signature_digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """Choose the digest that this key signs certificates with; None: the algorithm hashes by itself (Ed25519)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size == 384:
        return hashes.SHA384()
    return hashes.SHA256()

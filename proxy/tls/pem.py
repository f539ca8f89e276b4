"""
PEM files of an identity: bytes of one file in, certificates or one private key out, or a refusal that names the file.

PEM is read strictly where it is ours and loosely where it is not. Text around the blocks, a byte order mark, any line
ending and indented blocks are taken, because tools write them. But a block that is begun has to end, a boundary line
has to be whole, and what stands between has to be base64: a file that a writer is half-way through must never pass for
a shorter one.

It refuses to know what a certificate says (core/svid.py) and where the bytes came from. No byte of a private key, and
no words of a parser that looked at one, get into a refusal.
"""

import binascii
import re
import warnings
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import quote
from proxy.core.svid import load_certificate
from proxy.tls.keys import PrivateKey

MIN_RSA_BITS = 2048
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})  # the curves TLS 1.3 signs with (RFC 8446 4.2.3)

_CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
_KEY_LABELS = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"})
_ENCRYPTED_LABEL = "ENCRYPTED PRIVATE KEY"
_FOUND = {
    "CERTIFICATE": "a certificate",
    "X509 CERTIFICATE": "a certificate",
    "TRUSTED CERTIFICATE": "a certificate with OpenSSL's trust settings (`openssl x509` writes a plain one)",
    "CERTIFICATE REQUEST": "a certificate request, which its CA has yet to sign",
    "NEW CERTIFICATE REQUEST": "a certificate request, which its CA has yet to sign",
    "X509 CRL": "a revocation list",
    "PUBLIC KEY": "a public key",
    "PKCS7": "a PKCS#7 container (`openssl pkcs7 -print_certs` takes the certificates out)",
    _ENCRYPTED_LABEL: "an encrypted private key",
    "OPENSSH PRIVATE KEY": "a private key of SSH's own form (`ssh-keygen -p -m PEM` writes the usual one)",
}

_BEGIN = b"-----BEGIN"
_END = b"-----END"
_BEGIN_LINE = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_END_LINE = re.compile(rb"-----END ([A-Z0-9 ]{1,64})-----")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """One PEM block. label: "CERTIFICATE"; line: of its BEGIN, from 1; lines: what stands between the boundaries."""

    label: str
    line: int
    lines: list[bytes] = field(default_factory=list, repr=False)  # may be a key

    @property
    def is_key(self) -> bool:
        """Whether it holds a private key of any kind."""
        return self.label.endswith("PRIVATE KEY")


def read_blocks(data: bytes, place: str) -> list[Block]:
    """
    Split a file into its PEM blocks, in order; none when there are none.

    place:  the name of the file in refusals
    Raises: Rejected(PEM_MALFORMED) for a block without an end, an end without a begin, or a broken boundary line
    Source: RFC 7468 2, 5.2 (explanatory text)
    """
    blocks: list[Block] = []
    current: Block | None = None
    lines = data.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for number, untrimmed in enumerate(lines, start=1):
        line = untrimmed.strip()
        if _BEGIN not in line and _END not in line:
            if current is not None and line:
                current.lines.append(line)
            continue
        if current is None:
            current = Block(_label(line, _BEGIN_LINE, number, place), number)
            continue
        label = _label(line, _END_LINE, number, place)
        if label != current.label:
            raise _malformed(
                place, f"line {number} ends a {label}, but the block of line {current.line} is a {current.label}"
            )
        blocks.append(current)
        current = None
    if current is not None:
        raise _malformed(place, f"the {current.label} that begins in line {current.line} has no end: it is cut short")
    return blocks


def read_certificates(data: bytes, place: str) -> tuple[x509.Certificate, ...]:
    """
    Read all certificates of a file, in order: at least one.

    Raises: Rejected(PEM_MALFORMED); Rejected(CERTIFICATE_INVALID) for one that no parser takes
    """
    blocks = read_blocks(data, place)
    found = [block for block in blocks if block.label in _CERTIFICATE_LABELS]
    if not found:
        raise _malformed(place, f"a certificate in PEM was expected, found {_describe(data, blocks)}")
    for block in blocks:
        if block.label == "TRUSTED CERTIFICATE":
            raise _malformed(place, f"line {block.line} begins {_FOUND[block.label]}")
    return tuple(_read_certificate(block, place) for block in found)


def read_private_key(data: bytes, place: str) -> PrivateKey:
    """
    Read the one private key of a file; certificates beside it do not matter (one file may hold both).

    Returns: ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2048 bits at least
    Raises:  Rejected(PEM_MALFORMED)
    """
    blocks = read_blocks(data, place)
    keys = [block for block in blocks if block.is_key]
    if not keys:
        raise _malformed(place, f"a private key in PEM was expected, found {_describe(data, blocks)}")
    if len(keys) > 1:
        where = " and ".join(str(block.line) for block in keys[:2])
        raise _malformed(place, f"one private key was expected, found {len(keys)} (lines {where}): leave the right one")
    block = keys[0]
    if block.label == _ENCRYPTED_LABEL or any(b"ENCRYPTED" in line for line in block.lines[:2]):
        raise _malformed(
            place,
            "the private key is encrypted, and nobody is there to type the passphrase: `openssl pkey` decrypts it",
        )
    if block.label not in _KEY_LABELS:
        raise _malformed(place, f"a private key for TLS was expected, found {_name(block.label)}")
    return _usable(_load_key(block, place), place)


def _label(line: bytes, pattern: re.Pattern[bytes], number: int, place: str) -> str:
    """The label of a BEGIN or END line. Anything else on that line is a fault: such a file was damaged or glued."""
    whole = pattern.fullmatch(line)
    if whole is not None:
        return whole[1].decode("ascii")
    if line.startswith(_END) and _BEGIN in line:
        raise _malformed(place, f"two PEM blocks run together in line {number}: put a line break between them")
    # The line is not shown: where line breaks were lost, a key is on it.
    wanted = "begins" if pattern is _BEGIN_LINE else "ends"
    raise _malformed(place, f"line {number} should be one that {wanted} a PEM block, alone: are line breaks lost?")


def _read_certificate(block: Block, place: str) -> x509.Certificate:
    try:
        der = binascii.a2b_base64(b"".join(block.lines), strict_mode=True)
    except ValueError:
        raise _malformed(place, f"the {block.label} of line {block.line} is not base64") from None
    try:
        return load_certificate(der)
    except Rejected as rejected:
        raise Rejected(rejected.reason, f"{place}, line {block.line}: {rejected.detail}") from rejected


def _load_key(block: Block, place: str) -> object:
    label = block.label.encode()
    text = b"\n".join([b"-----BEGIN %b-----" % label, *block.lines, b"-----END %b-----" % label, b""])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is weak is judged by `_usable`, in words of ours
            return load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        raise _malformed(place, f"the {block.label} of line {block.line} cannot be read: it is damaged") from None
    except UnsupportedAlgorithm:
        raise _malformed(place, f"the {block.label} of line {block.line} is of a kind that TLS cannot use") from None


def _usable(key: object, place: str) -> PrivateKey:
    match key:
        case rsa.RSAPrivateKey():
            if key.key_size >= MIN_RSA_BITS:
                return key
            kind = f"RSA of {key.key_size} bits, which is too short"
        case ec.EllipticCurvePrivateKey():
            if key.curve.name in _CURVES:
                return key
            kind = f"ECDSA on the curve {key.curve.name}"
        case ed25519.Ed25519PrivateKey():
            return key
        case dsa.DSAPrivateKey():
            kind = "DSA"
        case ed448.Ed448PrivateKey():
            kind = "Ed448"
        case x25519.X25519PrivateKey() | x448.X448PrivateKey():
            kind = "for key exchange only"
        case _:
            kind = "of an unknown kind"
    raise _malformed(
        place,
        f"the private key is {kind}: ECDSA (P-256, P-384, P-521), Ed25519 or RSA of {MIN_RSA_BITS} bits is needed",
    )


def _describe(data: bytes, blocks: list[Block]) -> str:
    """What a file holds that does not hold what it should."""
    if blocks:
        return ", ".join(dict.fromkeys(_name(block.label) for block in blocks[:8]))
    if not data.strip():
        return "an empty file: its writer may be half-way"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16 text: save it as UTF-8 or ASCII"
    if data[:1] == b"\x30" and data[1:2] >= b"\x80":
        return "binary DER or PKCS#12: `openssl x509`, `pkey` (both with -inform DER) or `pkcs12` write PEM"
    return "no PEM at all (no line -----BEGIN ...-----)"


def _name(label: str) -> str:
    if label in _KEY_LABELS:
        return "a private key"
    return _FOUND.get(label) or f"a block {quote(label)}"


def _malformed(place: str, why: str) -> Rejected:
    return Rejected(Reason.PEM_MALFORMED, f"{place}: {why}")

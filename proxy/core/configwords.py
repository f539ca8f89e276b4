"""
Small words of the configuration: names, paths, ALPN; and what to say about another program's spelling.

The hints name what OpenSSL, Go, Envoy and older habits call the same thing, since that is what gets pasted here.
"""

import re

from proxy.core.config import CIPHER_SUITES

MAX_ALPN_BYTES = 255  # RFC 7301 3.1: a protocol name is opaque<1..2^8-1>

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_TLS13 = "the suites of TLS 1.3 are not configurable, all of them are always on; `cipher_suites` is for TLS 1.2"
_OPENSSL_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)  # in the order of CIPHER_SUITES

SUITE_HINTS = {
    openssl.lower(): f"that is OpenSSL's name; write {iana}"
    for openssl, iana in zip(_OPENSSL_SUITES, CIPHER_SUITES, strict=True)
} | {
    suite.lower(): _TLS13
    for suite in (
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    )
}

GROUP_HINTS = {
    other: f"write {ours}"
    for ours, others in {
        "P-256": ("secp256r1", "prime256v1", "p256", "nistp256", "nist256p"),
        "P-384": ("secp384r1", "p384", "nistp384"),
        "P-521": ("secp521r1", "p521", "nistp521"),
        "X25519": ("curve25519", "ecdh_x25519"),
        "X25519MLKEM768": ("x25519_mlkem768", "x25519-mlkem768", "x25519kyber768draft00"),
    }.items()
    for other in others
}

_OLD = "it is broken and forbidden by RFC 8996; the lowest is 1.2"
VERSION_HINTS = {
    **dict.fromkeys(("1.0", "1.1", "1", "tls1.0", "tls1.1", "tlsv1", "tlsv1.0", "tlsv1.1", "ssl3", "sslv3"), _OLD),
    **{form.format("1.2"): "write 1.2" for form in ("tlsv{}", "tls{}", "tls {}", "tlsv1_2", "tls1_2", "tls12")},
    **{form.format("1.3"): "write 1.3" for form in ("tlsv{}", "tls{}", "tls {}", "tlsv1_3", "tls1_3", "tls13")},
}


def parse_name(text: str) -> str:
    """
    Parse the name of a listener: it is a metric label and a log value, so it stays plain.

    Raises: ValueError
    """
    if not _NAME.fullmatch(text):
        raise ValueError("it begins with a letter or digit and holds nothing else")
    return text


def parse_path(text: str) -> str:
    """
    Parse the path of a file, absolute or not; nothing is looked up.

    Raises: ValueError
    """
    if "\0" in text or text.endswith("/"):
        raise ValueError("that is not the path of a file")
    if text.startswith("~"):
        raise ValueError("`~` is the shell's; write the path whole")
    return text


def parse_alpn(text: str) -> str:
    """
    Parse an ALPN protocol name; ASCII, so that it has one spelling as bytes.

    Raises: ValueError
    Source: RFC 7301 3.1
    """
    if not (text.isascii() and text.isprintable()):
        raise ValueError("it must be printable ASCII")
    if len(text) > MAX_ALPN_BYTES:
        raise ValueError(f"it has {len(text)} bytes; the most is {MAX_ALPN_BYTES}")
    if text in {"http/2", "HTTP/2", "http2", "H2"}:
        raise ValueError("the name of HTTP/2 in ALPN is h2")
    return text

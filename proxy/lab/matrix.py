"""
`--matrix`: axes and their values in, cells out. Pure.

    version=1.2,1.3 key=p256,rsa2048 mode=full,resumed group=x25519 concurrency=16

An axis that is not named keeps its default. Words are forgiving (`p256`, `P-256` and `ecdsa-p256` are one key), since
they are typed by hand. Combinations that TLS does not have are left out, and named: a group that is of TLS 1.3 alone, a
cipher suite of the other version, or of the other type of key.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from proxy.tls.loadcontext import OPENSSL_SUITES

UNKNOWN_CHAIN = 0  # a target's certificates are its own
MOST_CELLS = 500
MOST_CONCURRENCY = 100_000
MOST_CHAIN = 8

_KEYS = {
    "p256": "ecdsa-p256",
    "p384": "ecdsa-p384",
    "rsa2048": "rsa-2048",
    "rsa3072": "rsa-3072",
    "rsa4096": "rsa-4096",
    "ed25519": "ed25519",
}
_GROUPS = {
    "x25519": "X25519",
    "p256": "P-256",
    "p384": "P-384",
    "p521": "P-521",
    "x448": "X448",
    "x25519mlkem768": "X25519MLKEM768",
    "secp256r1mlkem768": "SecP256r1MLKEM768",
    "secp384r1mlkem1024": "SecP384r1MLKEM1024",
    "mlkem768": "MLKEM768",
    "mlkem1024": "MLKEM1024",
}
_CIPHERS = {"aes128": "AES_128_GCM_SHA256", "aes256": "AES_256_GCM_SHA384", "chacha20": "CHACHA20_POLY1305_SHA256"}
_CIPHER_WORDS = {"aes128": "AES-128-GCM", "aes256": "AES-256-GCM", "chacha20": "ChaCha20-Poly1305"}
_ANY = "any"  # what the server chooses, of all that OpenSSL offers


class MatrixFault(ValueError):  # noqa: N818  # a fault of what was typed, as ConfigFault is
    """The matrix cannot be read; str() is a sentence that says what to write."""


class Cell(NamedTuple):
    """
    One combination.

    key:    a word of KeyType; None: the target's own, which is not ours to choose
    group:  as OpenSSL and tables name it; None: what the server chooses
    engine: TLS engine of the sidecar; None: the one that it takes by itself
    cipher: what was asked for, the same word in both versions; suites: the names for the Offer; None as above
    """

    version: str
    key: str | None
    mode: str
    group: str | None
    cipher: str | None
    suites: str | None
    client_certificate: bool
    chain_length: int
    concurrency: int
    engine: str | None = None


class Matrix(NamedTuple):
    """All cells, in the order of the axes; left_out: combinations that TLS does not have, as sentences."""

    cells: tuple[Cell, ...]
    left_out: tuple[str, ...]


Read = Callable[[str], str | int | bool | None]


def _word(text: str) -> str:
    return re.sub(r"[-_ ]", "", text.lower())


def _choice(table: Mapping[str, str | None]) -> Read:
    def read(text: str) -> str | None:
        word = _word(text)
        if word not in table:
            raise MatrixFault(f"is not one of {', '.join(table)}")
        return table[word]

    return read


def _key(text: str) -> str:
    word = _word(text).removeprefix("ecdsa").removeprefix("ec")
    if word not in _KEYS:
        raise MatrixFault(f"is not one of {', '.join(_KEYS)}")
    return _KEYS[word]


def _count(most: int) -> Read:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
            raise MatrixFault(f"is no number from 1 to {most}")
        return int(text)

    return read


def _cipher(text: str) -> str | None:
    """A short word, or the IANA name of a suite as it stands."""
    word = _word(text)
    if word == _ANY:
        return None
    if word in _CIPHERS:
        return word
    if text not in OPENSSL_SUITES and text not in {f"TLS_{name}" for name in _CIPHERS.values()}:
        example = next(iter(OPENSSL_SUITES))
        raise MatrixFault(f"is not one of {', '.join(_CIPHERS)}, {_ANY}, and no suite's name like {example}")
    return text


AXES: dict[str, tuple[Read, str]] = {
    "version": (_choice({"1.2": "1.2", "1.3": "1.3"}), "1.2,1.3"),
    "key": (_key, "p256,rsa2048"),
    "mode": (_choice({"full": "full", "resumed": "resumed"}), "full,resumed"),
    "group": (_choice({**_GROUPS, _ANY: None}), "x25519"),
    "cipher": (_cipher, "aes128"),
    "client": (lambda text: _choice({"cert": "cert", "none": None})(text) is not None, "cert"),
    "chain": (_count(MOST_CHAIN), "1"),
    "concurrency": (_count(MOST_CONCURRENCY), "16"),
    "engine": (_choice({"openssl": "openssl", "boringssl": "boringssl", "auto": None}), "auto"),
}  # axis -> how a value is read, its default
TARGET_DEFAULTS = {"group": _ANY, "cipher": _ANY}  # of a server that is somebody's own, what it does is of interest
NOT_OF_A_TARGET = {
    "key": "the target's own: it is in its certificates",
    "chain": "the target's own: it is in its certificates",
    "engine": "of a sidecar that is started here",
}


def parse_matrix(words: Sequence[str], *, target: bool = False, has_certificate: bool = True) -> Matrix:
    """
    Read the words of --matrix.

    target: somebody's own server is loaded, whose key and chain are as they are
    Raises: MatrixFault
    """
    values = dict[str, list[str | int | bool | None]]()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in AXES:
            raise MatrixFault(f"{word!r} is no axis: write AXIS=VALUE,VALUE with an axis of {', '.join(AXES)}")
        if target and name in NOT_OF_A_TARGET:
            raise MatrixFault(f"{name} is {NOT_OF_A_TARGET[name]}, and cannot be chosen for a --target")
        if name in values:
            raise MatrixFault(f"the axis {name} is there twice: write all its values behind one `{name}=`")
        values[name] = _values(name, text)
    defaults = {name: default for name, (_, default) in AXES.items()}
    if target:
        defaults |= TARGET_DEFAULTS | ({} if has_certificate else {"client": "none"})
    for name, default in defaults.items():
        values.setdefault(name, _values(name, default))
    if target:
        values |= {"key": [None], "chain": [UNKNOWN_CHAIN], "engine": [None]}
    _check_client(values["client"], target=target, has_certificate=has_certificate)
    return _cells(values, target=target)


def _values(name: str, text: str) -> list[str | int | bool | None]:
    read = AXES[name][0]
    found = []
    for part in text.split(","):
        try:
            value = read(part.strip())
        except MatrixFault as fault:
            raise MatrixFault(f"{name}={text}: {part.strip()!r} {fault}") from None
        if value not in found:
            found.append(value)
    return found


def _check_client(clients: Iterable[object], *, target: bool, has_certificate: bool) -> None:
    if not target and False in clients:
        raise MatrixFault(
            "client=none: a STRICT sidecar lets nobody in without a certificate, so there is nothing to measure; "
            "load a server of your own that does with --target, or see `bench relay` for the price of TLS without one"
        )
    if target and True in clients and not has_certificate:
        raise MatrixFault("client=cert needs the client's certificate: give --cert and --key")


def _cells(values: Mapping[str, Sequence[str | int | bool | None]], *, target: bool) -> Matrix:
    cells, left_out = [], list[str]()
    names = list(AXES)
    size = 1
    for name in names:
        size *= len(values[name])
    if size > MOST_CELLS:
        raise MatrixFault(f"these are {size} combinations; at most {MOST_CELLS} can be measured in one run")
    # The version comes last, so that a table has the two of them side by side.
    names.append(names.pop(0))
    for combination in itertools.product(*(values[name] for name in names)):
        key, mode, group, cipher, client, chain, concurrency, engine, version = combination
        why, suites = _suites(str(version), None if target else str(key), cipher)
        if version == "1.2" and group is not None and "MLKEM" in str(group):
            why = f"{group} exists in TLS 1.3 alone"
        if why is not None:
            if why not in left_out:
                left_out.append(why)
            continue
        cells.append(
            Cell(
                version=str(version),
                key=None if target else str(key),
                mode=str(mode),
                group=None if group is None else str(group),
                cipher=None if cipher is None else _CIPHER_WORDS.get(str(cipher), str(cipher)),
                suites=suites,
                client_certificate=bool(client),
                chain_length=int(chain or UNKNOWN_CHAIN),
                concurrency=int(concurrency or 1),
                engine=None if engine is None else str(engine),
            )
        )
    if not cells:
        raise MatrixFault(f"no combination is left: {'; '.join(left_out)}")
    return Matrix(tuple(cells), tuple(left_out))


def _suites(version: str, key: str | None, cipher: object) -> tuple[str | None, str | None]:
    """(why there is no such combination, the suites to offer)."""
    if cipher is None:
        return None, None
    text = str(cipher)
    if text in _CIPHERS:
        if version == "1.3":
            return None, f"TLS_{_CIPHERS[text]}"
        kinds = ("ECDSA", "RSA") if key is None else ("RSA",) if key.startswith("rsa") else ("ECDSA",)
        return None, ":".join(f"TLS_ECDHE_{kind}_WITH_{_CIPHERS[text]}" for kind in kinds)
    belongs = "1.2" if "_WITH_" in text else "1.3"
    if version != belongs:
        return f"{text} is a cipher suite of TLS {belongs}", None
    if key is not None and "_WITH_" in text and ("_RSA_" in text) != key.startswith("rsa"):
        return f"{text} does not go with a key of the type {key}", None
    return None, text

"""
Why a client and this listener found nothing in common, in words that name both sides.

The engine says that versions, suites, groups or signature algorithms do not meet, and names none of either side. The
client's are in its hello (core/clientoffer.py), ours in the configuration and in the type of our key, which decides
which suites and algorithms can be used at all. This file looks for the first list that has nothing in common, in the
order in which a server chooses: version, suite, group, signature algorithm. Nothing is decided by it. Where every list
meets (a cause that only the engine knows, or a hello that was not all there) both offers follow the engine's words.

The client's list may be as long as it likes, so it is cut to what a person reads.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from proxy.core.clientoffer import Numbers, Offer
from proxy.core.config import TLS13_GROUPS, TLS_VERSIONS, TlsConfig
from proxy.core.reasons import Reason, Rejected
from proxy.core.tlsnumbers import GROUPS, SIGNATURES, SUITES, VERSIONS

_TLS12, _TLS13 = 0x0303, 0x0304
_VERSION_NUMBERS = dict(zip(TLS_VERSIONS, (_TLS12, _TLS13), strict=True))
_TLS13_SUITES = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")  # always on
_SHOWN_CHARACTERS = 120  # of a client's list; the admin page keeps 400 characters of a detail

_CURVES = {"ecdsa-p256": "P-256", "ecdsa-p384": "P-384", "ecdsa-p521": "P-521"}
_ECDSA = ("ecdsa_secp256r1_sha256", "ecdsa_secp384r1_sha384", "ecdsa_secp521r1_sha512")
_PSS = ("rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512")
_PKCS1 = ("rsa_pkcs1_sha256", "rsa_pkcs1_sha384", "rsa_pkcs1_sha512")


class Ours(NamedTuple):
    """What this listener takes. key: the type of our key, e.g. "ecdsa-p256", "rsa-3072", "ed25519"."""

    tls: TlsConfig
    key: str

    @property
    def versions(self) -> tuple[str, ...]:
        """As the configuration names them: "1.2" before "1.3"."""
        return tuple(name for name in TLS_VERSIONS if self.tls.min_version <= name <= self.tls.max_version)

    def suites(self, version: int) -> tuple[str, ...]:
        """Those of this version that our key can be used with. Source: RFC 8422 2, RFC 5289, RFC 8446 B.4"""
        if version == _TLS13:
            return _TLS13_SUITES
        family = "_RSA_" if self.key.startswith("rsa") else "_ECDSA_"  # Ed25519 uses the latter (RFC 8422 5.1.1)
        return tuple(name for name in self.tls.cipher_suites if family in name)

    def groups(self, version: int) -> tuple[str, ...]:
        """Those of this version."""
        return tuple(name for name in self.tls.groups if version == _TLS13 or name not in TLS13_GROUPS)

    def signatures(self, version: int) -> tuple[str, ...]:
        """What our key signs a handshake with. TLS 1.3 ties the hash to the curve, and has no PKCS #1 in handshakes."""
        if self.key.startswith("rsa"):
            return _PSS if version == _TLS13 else _PSS + _PKCS1
        if self.key in _CURVES:
            at = tuple(_CURVES).index(self.key)
            return _ECDSA[at : at + 1] if version == _TLS13 else _ECDSA
        return (self.key,)


def explain(refusal: Rejected, offer: Offer, ours: Ours) -> Rejected:
    """
    Say the refusal of a client in the words of both sides.

    refusal: UNSUPPORTED_TLS_VERSION or NO_SHARED_CIPHER; any other comes back as it is
    """
    if refusal.reason is Reason.UNSUPPORTED_TLS_VERSION:
        found = _explain_version(offer, ours)
    elif refusal.reason is Reason.NO_SHARED_CIPHER:
        found = _explain_lists(offer, ours)
    else:
        return refusal
    if found is None:
        theirs = _all_of(offer)
        found = f"{refusal.detail}; {theirs}; {_all_of_ours(offer, ours)}" if theirs else refusal.detail
    return Rejected(refusal.reason, found)


def _explain_version(offer: Offer, ours: Ours) -> str | None:
    if offer.versions is None or _common_version(offer, ours) is not None:
        return None
    return f"no TLS version in common: the client offers {_versions(offer)}, this listener takes {_our_versions(ours)}"


def _explain_lists(offer: Offer, ours: Ours) -> str | None:
    """The first list without anything in common, in the version that both sides speak."""
    version = _common_version(offer, ours)
    if version is None:
        return None
    spoken = VERSIONS[version]
    key = "" if version == _TLS13 else f" with its {ours.key} key"
    suites = None if offer.suites is None else tuple(one for one in offer.suites if _is_of(one, version))
    if suites is not None and _are_apart(suites, SUITES, ours.suites(version)):
        theirs, takes = _some(suites, SUITES), _all(ours.suites(version))
        return f"no cipher suite of {spoken} in common: the client offers {theirs}; this listener{key} takes {takes}"
    if offer.groups and _are_apart(offer.groups, GROUPS, ours.groups(version)):
        theirs, takes = _some(offer.groups, GROUPS), _all(ours.groups(version))
        return f"no group of {spoken} in common: the client offers {theirs}; this listener takes {takes}"
    curve = _CURVES.get(ours.key)
    if offer.groups and curve is not None and version == _TLS12 and _are_apart(offer.groups, GROUPS, (curve,)):
        theirs = _some(offer.groups, GROUPS)  # RFC 8422 4: the list is also about the curve of a certificate
        return f"the client takes no certificate on {curve}, as this listener's is: in TLS 1.2 it offers {theirs}"
    if offer.signatures is not None and _are_apart(offer.signatures, SIGNATURES, ours.signatures(version)):
        theirs = _some(offer.signatures, SIGNATURES)
        if not offer.signatures and version == _TLS12:
            theirs = "none, which stands for SHA-1"  # RFC 5246 7.4.1.4.1
        signs = _all(ours.signatures(version))
        return (
            f"no signature algorithm of {spoken} in common: the client offers {theirs}; this listener's {ours.key} key "
            f"signs with {signs}"
        )
    return None


def _common_version(offer: Offer, ours: Ours) -> int | None:
    """The highest that both speak; TLS has the server choose that one."""
    if offer.versions is None:
        return None
    spoken = [_VERSION_NUMBERS[name] for name in ours.versions]
    if offer.at_most:
        return max((number for number in spoken if number <= offer.versions[0]), default=None)
    return max(set(spoken).intersection(offer.versions), default=None)


def _is_of(suite: int, version: int) -> bool:
    """Whether a suite is one of this version: TLS 1.3 has its own, 0x1301 and up (RFC 8446 B.4)."""
    return (suite >> 8 == 0x13) == (version == _TLS13)


def _are_apart(theirs: Numbers, names: Mapping[int, str], takes: Iterable[str]) -> bool:
    return {names.get(number) for number in theirs}.isdisjoint(takes)


def _all_of(offer: Offer) -> str:
    """The client's whole offer, as far as it is known; empty where nothing is."""
    said = [
        *([] if offer.versions is None else [_versions(offer)]),
        *(
            f"the {what} {_some(numbers, names)}"
            for what, numbers, names in (
                ("suites", offer.suites, SUITES),
                ("groups", offer.groups, GROUPS),
                ("signature algorithms", offer.signatures, SIGNATURES),
            )
            if numbers
        ),
    ]
    return f"the client offers {', '.join(said)}" if said else ""


def _all_of_ours(offer: Offer, ours: Ours) -> str:
    """What this listener takes in the version in common, or in all of its own where the client's are not known."""
    common = _common_version(offer, ours)
    versions = [_VERSION_NUMBERS[name] for name in ours.versions] if common is None else [common]
    suites = _all(suite for version in versions for suite in ours.suites(version))
    groups = _all(dict.fromkeys(group for version in versions for group in ours.groups(version)))
    return (
        f"this listener takes {_our_versions(ours)}, with its {ours.key} key the suites {suites}, the groups {groups}"
    )


def _versions(offer: Offer) -> str:
    return f"{_some(offer.versions or (), VERSIONS)}{' at the most' if offer.at_most else ''}"


def _our_versions(ours: Ours) -> str:
    return _all(f"TLS {name}" for name in ours.versions)


def _some(numbers: Numbers, names: Mapping[int, str]) -> str:
    """The first of them by name, and how many more there are."""
    shown: list[str] = []
    room = _SHOWN_CHARACTERS
    for number in numbers:
        name = names.get(number, f"0x{number:04X}")
        room -= len(name) + 2
        if room < 0:
            break
        shown.append(name)
    hidden = len(numbers) - len(shown)
    return _all([*shown, f"{hidden} more"] if hidden else shown)


def _all(names: Iterable[str]) -> str:
    """E.g. "A, B and C"."""
    *most, last = tuple(names) or ("none",)
    return f"{', '.join(most)} and {last}" if most else last

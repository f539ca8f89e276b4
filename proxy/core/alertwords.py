"""
What a TLS alert from a peer tells the operator who sees it: what the peer means, and what to do about it.

RFC 8446 6.2 says when a peer sends which alert; this table says what that means for two sidecars, or for a sidecar and
a server of another make. Where the peer is an mtls-sidecar the alert is precise (docs/decisions/0003-alerts.md), and
`sidecar` names the Reasons that its log may have for it.
"""

from typing import NamedTuple

from proxy.core.reasons import Reason


class AlertWords(NamedTuple):
    """meaning: a clause about "the peer"; advice: what to do; sidecar: what an mtls-sidecar means by it."""

    meaning: str
    advice: str
    sidecar: tuple[Reason, ...] = ()


_TRUST = "Put the CA that issued our certificate into the peer's trust bundle, and send our intermediates along."
_OFFER = "Compare what both sides offer: `tls.cipher_suites`, `tls.groups`, and the key type of each certificate."
_LOG = "Its own log says more."

_WORDS = {
    10: AlertWords(
        "something else was expected at this point of the handshake",
        f"The port may want a protocol of its own before TLS (STARTTLS), or a middlebox interferes. {_LOG}",
    ),
    20: AlertWords("a record did not decrypt", "Look for a middlebox that changes bytes, or a faulty TLS library."),
    22: AlertWords("a record was too long", "Look for a middlebox, or a port that does not speak TLS."),
    40: AlertWords(
        "it could not agree; in TLS 1.2 it is also how a server says that it demands a client certificate",
        f"{_OFFER} If no certificate was presented, present one.",
        (Reason.NO_SHARED_CIPHER, Reason.NO_CLIENT_CERTIFICATE),
    ),
    42: AlertWords(
        "our certificate is broken, or breaks a rule of the peer's",
        "`mtls-sidecar certs show FILE` names what breaks X509-SVID in our file; Go servers send it for none, too.",
        (Reason.CERTIFICATE_INVALID, Reason.SPIFFE_ID_MALFORMED),
    ),
    43: AlertWords(
        "our certificate is of a kind that it does not take",
        "Check its key usages and key type: `mtls-sidecar certs show FILE`.",
        (Reason.NOT_AN_SVID,),
    ),
    44: AlertWords(
        "our certificate is revoked", "Issue a new one; if it should be good, look at the peer's CRL or OCSP."
    ),
    45: AlertWords(
        "our certificate, or a CA above it, is expired or not yet valid by the peer's clock",
        "If it is valid by our clock, compare both clocks (chrony, NTP); otherwise look at what has to renew it.",
        (Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID),
    ),
    46: AlertWords(
        "it does not accept our certificate, without saying why: with an mtls-sidecar that is policy, not trust",
        "Add our SPIFFE ID to `allow` of the peer's listener, or look for a `deny` that matches it.",
        (Reason.NOT_ALLOWED, Reason.DENIED),
    ),
    47: AlertWords("a field of the handshake was out of range", f"One of the two TLS libraries is at fault. {_LOG}"),
    48: AlertWords(
        "our certificate's chain does not reach a CA that it trusts",
        _TRUST,
        (Reason.UNKNOWN_AUTHORITY, Reason.WRONG_TRUST_DOMAIN),
    ),
    49: AlertWords(
        "our certificate is valid, and access control says no",
        "Add our SPIFFE ID to `allow` of the peer's listener, or look for a `deny` that matches it.",
        (Reason.NOT_ALLOWED, Reason.DENIED),
    ),
    50: AlertWords("a message could not be decoded", f"One of the two TLS libraries is at fault. {_LOG}"),
    51: AlertWords(
        "a signature or a handshake check was wrong", "Check that our key belongs to our certificate, then its log."
    ),
    70: AlertWords(
        "it does not speak this TLS version",
        "Move it to TLS 1.2 or 1.3, or widen `tls.min_version` and `tls.max_version`.",
        (Reason.UNSUPPORTED_TLS_VERSION,),
    ),
    71: AlertWords("what we offer is too weak for it", _OFFER),
    80: AlertWords("something failed inside the peer", f"It is the peer's own fault. {_LOG}"),
    86: AlertWords("it suspects a downgrade", "Look for a middlebox that interferes with TLS versions."),
    90: AlertWords("somebody there cancelled", _LOG),
    109: AlertWords("an extension that it requires was missing", "It may need a server name: `--server-name NAME`."),
    110: AlertWords("it saw an extension that it did not ask for", f"One of the two TLS libraries is at fault. {_LOG}"),
    112: AlertWords(
        "it serves no such server name", "Give the name that it serves: `--server-name NAME`, in a sidecar `sni`."
    ),
    113: AlertWords("the certificate status was bad", "Look at its OCSP settings."),
    115: AlertWords("it does not know the pre-shared key", "It wants TLS-PSK, which a sidecar does not do."),
    116: AlertWords(
        "it demands a client certificate, and got none",
        "Present an SVID: `--cert FILE --key FILE`.",
        (Reason.NO_CLIENT_CERTIFICATE,),
    ),
    120: AlertWords(
        "it speaks none of the application protocols that we offered",
        "Offer what it speaks: `--alpn NAME`, in a sidecar `alpn`; gRPC is h2.",
    ),
}
_UNKNOWN = AlertWords("an alert that RFC 8446 does not list", _LOG)


def alert_words(alert: int) -> AlertWords:
    """What an AlertDescription means; a general answer for numbers that are not known."""
    return _WORDS.get(alert, _UNKNOWN)

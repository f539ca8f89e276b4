"""
Every way in which a connection can be refused or end, and every way in which a reload can fail: one word each.

The same word is the log key `reason`, the metric label `reason`, an entry of the admin page `/reasons` and a row of
docs/reasons.md, which is generated from here. Each word has a sentence (what happened) and an advice (what to do).
This file refuses to know who raises which word, and how it is shown.
"""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """The vocabulary of the contract. A member is its own name as a string."""

    PLAINTEXT_REFUSED = "PLAINTEXT_REFUSED"
    NO_CLIENT_CERTIFICATE = "NO_CLIENT_CERTIFICATE"
    UNKNOWN_AUTHORITY = "UNKNOWN_AUTHORITY"
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    CERTIFICATE_NOT_YET_VALID = "CERTIFICATE_NOT_YET_VALID"
    CERTIFICATE_INVALID = "CERTIFICATE_INVALID"
    NOT_AN_SVID = "NOT_AN_SVID"
    SPIFFE_ID_MALFORMED = "SPIFFE_ID_MALFORMED"
    WRONG_TRUST_DOMAIN = "WRONG_TRUST_DOMAIN"
    NOT_ALLOWED = "NOT_ALLOWED"
    DENIED = "DENIED"
    SERVER_ID_MISMATCH = "SERVER_ID_MISMATCH"
    UNSUPPORTED_TLS_VERSION = "UNSUPPORTED_TLS_VERSION"
    NO_SHARED_CIPHER = "NO_SHARED_CIPHER"
    NOT_TLS = "NOT_TLS"
    HELLO_TOO_LONG = "HELLO_TOO_LONG"
    HANDSHAKE_TIMEOUT = "HANDSHAKE_TIMEOUT"
    HANDSHAKE_FAILED = "HANDSHAKE_FAILED"
    CLIENT_LEFT = "CLIENT_LEFT"
    UPSTREAM_REFUSED = "UPSTREAM_REFUSED"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_UNRESOLVED = "UPSTREAM_UNRESOLVED"
    UPSTREAM_REJECTED_US = "UPSTREAM_REJECTED_US"
    IDLE_TIMEOUT = "IDLE_TIMEOUT"
    HALF_CLOSE_TIMEOUT = "HALF_CLOSE_TIMEOUT"
    LIFETIME_ENDED = "LIFETIME_ENDED"
    CERTIFICATE_LAPSED = "CERTIFICATE_LAPSED"
    TRUST_WITHDRAWN = "TRUST_WITHDRAWN"
    POLICY_CHANGED = "POLICY_CHANGED"
    TRUNCATED = "TRUNCATED"
    DRAINED = "DRAINED"
    OVERLOADED = "OVERLOADED"
    RATE_LIMITED = "RATE_LIMITED"
    RESET = "RESET"
    COMPLETED = "COMPLETED"
    RELOADED = "RELOADED"
    KEY_MISMATCH = "KEY_MISMATCH"
    FILES_UNSTABLE = "FILES_UNSTABLE"
    FILE_MISSING = "FILE_MISSING"
    PEM_MALFORMED = "PEM_MALFORMED"
    CHAIN_UNTRUSTED = "CHAIN_UNTRUSTED"
    CONFIG_FAULT = "CONFIG_FAULT"


class Kind(StrEnum):
    """Where a word can turn up: `rejected` counts in rejected_total (and in closed_total), `ended` in closed_total."""

    REJECTED = "rejected"
    ENDED = "ended"
    RELOAD = "reload"


class Explanation(NamedTuple):
    """What a Reason means to an operator: when it is used, one sentence, one advice."""

    kind: Kind
    sentence: str
    advice: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.PLAINTEXT_REFUSED: Explanation(
        Kind.REJECTED,
        "The client spoke plaintext to a STRICT port.",
        "Send the client through a sidecar of its own, or set `mode: PERMISSIVE` on this port while clients migrate.",
    ),
    Reason.NO_CLIENT_CERTIFICATE: Explanation(
        Kind.REJECTED,
        "The client opened TLS but presented no certificate.",
        "Give the client an SVID (curl: --cert and --key), or send it through a sidecar.",
    ),
    Reason.UNKNOWN_AUTHORITY: Explanation(
        Kind.REJECTED,
        "The peer's chain does not reach the trust bundle of its own trust domain.",
        "Check that the peer sends its intermediates, and that `identity.bundles` holds the CA that issued it now.",
    ),
    Reason.CERTIFICATE_EXPIRED: Explanation(
        Kind.REJECTED,
        "A certificate in the chain is past its notAfter.",
        "If both clocks agree, rotation has stopped: look at the issuer. Otherwise set the wrong one right (chrony).",
    ),
    Reason.CERTIFICATE_NOT_YET_VALID: Explanation(
        Kind.REJECTED,
        "A certificate in the chain is before its notBefore.",
        "Compare both clocks: nearly always one of them is wrong. Check NTP or chrony on both nodes.",
    ),
    Reason.CERTIFICATE_INVALID: Explanation(
        Kind.REJECTED,
        "The chain breaks a rule of RFC 5280 (a constraint, an unknown critical extension) or is too weak; or a bundle "
        "holds what is no CA of its trust domain.",
        "Issue the certificate anew; where a bundle is at fault, name the file that holds that trust domain's own CAs. "
        "`mtls-sidecar certs show FILE` prints what a file holds.",
    ),
    Reason.NOT_AN_SVID: Explanation(
        Kind.REJECTED,
        "The peer's certificate is valid X.509 but breaks X509-SVID: exactly one URI SAN, not a CA, digitalSignature "
        "key usage, and both or none of serverAuth and clientAuth.",
        "Issue an SVID: cert-manager csi-driver-spiffe, SPIRE, or `mtls-sidecar certs issue` on a laptop.",
    ),
    Reason.SPIFFE_ID_MALFORMED: Explanation(
        Kind.REJECTED,
        "The URI SAN in the peer's certificate is not a valid SPIFFE ID of a workload.",
        "Use spiffe://TRUST-DOMAIN/PATH: a lower-case trust domain and a path, no trailing slash, no escapes.",
    ),
    Reason.WRONG_TRUST_DOMAIN: Explanation(
        Kind.REJECTED,
        "There is no trust bundle for the trust domain that the peer's SPIFFE ID names.",
        "If that domain is to be trusted, add its roots under `identity.bundles`; if not, the refusal is right.",
    ),
    Reason.NOT_ALLOWED: Explanation(
        Kind.REJECTED,
        "The peer is who it says, but no `allow` pattern of this listener matches its SPIFFE ID; or an intercepted "
        "connection leads to where no port and no route of `intercept` does.",
        "Add its SPIFFE ID (in this line) to `allow` of this listener, and send SIGHUP or wait for the file watch. For "
        "an intercepted connection the detail says what to add, or why it came back to the sidecar.",
    ),
    Reason.DENIED: Explanation(
        Kind.REJECTED,
        "A `deny` pattern of this listener matches the peer's SPIFFE ID; deny wins over allow.",
        "Remove or narrow the `deny` pattern named in the detail if this peer is to be let in.",
    ),
    Reason.SERVER_ID_MISMATCH: Explanation(
        Kind.REJECTED,
        "The upstream proved an identity that is not in `server_ids` of this outbound listener.",
        "Check where the upstream's name leads; if the identity in this line is the right one, add it to `server_ids`.",
    ),
    Reason.UNSUPPORTED_TLS_VERSION: Explanation(
        Kind.REJECTED,
        "The two sides share no TLS version.",
        "Move the peer to TLS 1.2 or 1.3; `tls.min_version` and `tls.max_version` say what this side speaks.",
    ),
    Reason.NO_SHARED_CIPHER: Explanation(
        Kind.REJECTED,
        "The two sides share no cipher suite, group or signature algorithm.",
        "The detail names what a client offers and what the listener takes. Otherwise compare the peer's list with "
        "`tls.cipher_suites` and `tls.groups`; TLS 1.2 needs ECDHE with AEAD, and the group list must hold the curve "
        "of the certificates.",
    ),
    Reason.NOT_TLS: Explanation(
        Kind.REJECTED,
        "What came where TLS was expected cannot be TLS: a client's first bytes, or an upstream's answer.",
        "See what the peer really speaks. A client with a binary protocol may need `mode: PERMISSIVE` or DISABLE; an "
        "upstream needs mutual TLS on the port that the outbound listener names.",
    ),
    Reason.HELLO_TOO_LONG: Explanation(
        Kind.REJECTED,
        "The ClientHello is longer than 16 KiB.",
        "No ordinary client sends one: look at who it is.",
    ),
    Reason.HANDSHAKE_TIMEOUT: Explanation(
        Kind.REJECTED,
        "The handshake was not finished within `timeouts.handshake_s`.",
        "Look for packet loss or a starved peer; a health check that connects and says nothing belongs on `health`.",
    ),
    Reason.HANDSHAKE_FAILED: Explanation(
        Kind.REJECTED,
        "The TLS handshake failed for the protocol reason in the detail.",
        "If the detail names an alert, the peer refused us: its own log says why. `mtls-sidecar probe` shows the rest.",
    ),
    Reason.CLIENT_LEFT: Explanation(
        Kind.REJECTED,
        "The client went away before anything could be relayed.",
        "Usually a TCP health check or a client's own time-out; point kubelet probes at the `health` listener.",
    ),
    Reason.UPSTREAM_REFUSED: Explanation(
        Kind.REJECTED,
        "No address of the upstream accepted the connection.",
        "Is the app listening on the upstream address of this listener? For a Service, does it have ready endpoints?",
    ),
    Reason.UPSTREAM_TIMEOUT: Explanation(
        Kind.REJECTED,
        "The upstream did not answer within `timeouts.connect_s` (connect) or `timeouts.handshake_s` (TLS).",
        "Look for a NetworkPolicy or firewall that drops packets, or an overloaded upstream.",
    ),
    Reason.UPSTREAM_UNRESOLVED: Explanation(
        Kind.REJECTED,
        "The upstream's host name has no address, or nobody answers for it.",
        "Check the spelling and the namespace in the name, then DNS from this Pod.",
    ),
    Reason.UPSTREAM_REJECTED_US: Explanation(
        Kind.REJECTED,
        "The upstream refused our certificate or identity; success is its first byte, not our end of the handshake.",
        "The upstream's log has its reason: most often our SPIFFE ID is not in its allow list, or its bundle lacks our "
        "CA. `mtls-sidecar probe --config FILE` asks it as this sidecar would.",
    ),
    Reason.IDLE_TIMEOUT: Explanation(
        Kind.ENDED,
        "No byte went either way for `timeouts.idle_s`.",
        "Raise `timeouts.idle_s`, or let the protocol send keep-alives.",
    ),
    Reason.HALF_CLOSE_TIMEOUT: Explanation(
        Kind.ENDED,
        "One side had finished sending, and the other sent nothing for `timeouts.half_close_s`.",
        "Raise `timeouts.half_close_s` if replies may take longer; conntrack forgets such a connection after 60 s.",
    ),
    Reason.LIFETIME_ENDED: Explanation(
        Kind.ENDED,
        "The connection reached `timeouts.max_lifetime_s`.",
        "Nothing: the client reconnects and is judged anew. Zero turns the limit off.",
    ),
    Reason.CERTIFICATE_LAPSED: Explanation(
        Kind.ENDED,
        "The peer's certificate chain passed its notAfter while the connection was open.",
        "Nothing, if the peer rotates: it reconnects with its new certificate. Otherwise look at its issuer.",
    ),
    Reason.TRUST_WITHDRAWN: Explanation(
        Kind.ENDED,
        "The CA that vouches for the peer has left the trust bundle.",
        "Intended when a CA is retired. Otherwise restore the CA in the bundle of that trust domain.",
    ),
    Reason.POLICY_CHANGED: Explanation(
        Kind.ENDED,
        "A new configuration no longer allows this peer on this listener.",
        "Intended when policy narrows. Otherwise add the peer's SPIFFE ID back.",
    ),
    Reason.TRUNCATED: Explanation(
        Kind.ENDED,
        "A peer's stream ended without the TLS close_notify (or the TCP stream broke): it may have been cut.",
        "Every byte that came was delivered. Make the peer close TLS properly, or look for a middlebox that cuts.",
    ),
    Reason.DRAINED: Explanation(
        Kind.ENDED,
        "The proxy was shutting down and `timeouts.drain_s` was over.",
        "Raise `timeouts.drain_s` (and the Pod's terminationGracePeriodSeconds) if connections need longer.",
    ),
    Reason.OVERLOADED: Explanation(
        Kind.REJECTED,
        "`limits.connections` was reached, or the process is out of file descriptors.",
        "Raise the limit or the descriptor limit (ulimit -n), or add replicas.",
    ),
    Reason.RATE_LIMITED: Explanation(
        Kind.REJECTED,
        "More new connections per second than `limits.handshakes_per_s` or `handshakes_per_s_per_source`.",
        "Raise the rate, or let the client keep its connections open.",
    ),
    Reason.RESET: Explanation(
        Kind.ENDED,
        "One side reset the connection; the reset was passed on to the other side.",
        "The side named in the detail aborted: look at its log.",
    ),
    Reason.COMPLETED: Explanation(
        Kind.ENDED,
        "Both sides finished, and every byte was delivered.",
        "Nothing.",
    ),
    Reason.RELOADED: Explanation(
        Kind.RELOAD,
        "A new trust generation or configuration was checked whole and published.",
        "Nothing.",
    ),
    Reason.KEY_MISMATCH: Explanation(
        Kind.RELOAD,
        "The private key does not belong to the leaf certificate.",
        "The writer may be half-way: it is read again. If it stays, issue key and certificate together.",
    ),
    Reason.FILES_UNSTABLE: Explanation(
        Kind.RELOAD,
        "The identity files kept changing while they were read.",
        "They are read again at the next change or poll. A writer that never rests is the fault.",
    ),
    Reason.FILE_MISSING: Explanation(
        Kind.RELOAD,
        "A file of the identity or the configuration is not there or cannot be read.",
        "Check the path, the volume mount and the permissions.",
    ),
    Reason.PEM_MALFORMED: Explanation(
        Kind.RELOAD,
        "A file does not hold the PEM that it should, or a key that is too weak or of a kind that is not taken.",
        "Put there what was expected; `mtls-sidecar certs show FILE` prints what is there.",
    ),
    Reason.CHAIN_UNTRUSTED: Explanation(
        Kind.RELOAD,
        "Our own certificate does not reach the trust bundle of its own trust domain.",
        "Put the issuing CA into the bundle of our domain, and the intermediates into `identity.cert` after the leaf.",
    ),
    Reason.CONFIG_FAULT: Explanation(
        Kind.RELOAD,
        "The configuration has faults, or asks for an address that cannot be had; the one before stays in force.",
        "Mend what is named. `mtls-sidecar validate --config FILE` lists every fault of the file with its line.",
    ),
}


class Rejected(Exception):  # noqa: N818  # a peer's refusal is no error of ours
    """A peer (or a file of an identity) is refused: the Reason, and a detail for the operator without key bytes."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

"""What to do when a target cannot be loaded, by Reason: for whoever runs the generator, where core/reasons.py speaks to
whoever runs the proxy."""

from proxy.core.reasons import EXPLANATIONS, Reason

_ADVICE = {
    Reason.FILE_MISSING: "Check the path and its permissions",
    Reason.PEM_MALFORMED: "`mtls-sidecar certs show FILE` prints what a file holds",
    Reason.KEY_MISMATCH: "Give the certificate and the key that were issued together",
    Reason.UPSTREAM_REFUSED: "Does the server listen there? Check --target",
    Reason.UPSTREAM_TIMEOUT: "Is the address right, and does a firewall let this machine through? Check --target",
    Reason.UPSTREAM_UNRESOLVED: "Check the spelling of --target",
    Reason.UNKNOWN_AUTHORITY: "Name the CA that issued the server's certificate with --ca",
    Reason.CERTIFICATE_EXPIRED: "Renew the server's certificate; `mtls-sidecar certs show FILE` prints its dates",
    Reason.CERTIFICATE_NOT_YET_VALID: "Compare the clocks of both machines",
    Reason.CERTIFICATE_INVALID: "`mtls-sidecar certs show FILE` explains what a certificate holds",
    Reason.NOT_AN_SVID: "Where the server is no SPIFFE workload, name it with --server-name instead of --server-id",
    Reason.SERVER_ID_MISMATCH: "Say who it is with --server-name NAME or --server-id spiffe://...",
    Reason.UPSTREAM_REJECTED_US: (
        "Give a client certificate that the server trusts, with --cert and --key; the server's log says what it missed"
    ),
    Reason.NO_SHARED_CIPHER: "Leave group and cipher out of --matrix, or name one that the server has",
    Reason.NOT_TLS: "Is this the TLS port? The generator speaks TLS from the first byte, no STARTTLS",
    Reason.HANDSHAKE_TIMEOUT: "Look at the server: is it overloaded? --timeout allows it more time",
    Reason.RESET: "The server's log has its reason; many reset like this when they are overloaded, or speak no TLS",
    Reason.HANDSHAKE_FAILED: "The server's log has its reason",
}


def advice(reason: Reason) -> str:
    """One sentence without its full stop."""
    return _ADVICE.get(reason) or EXPLANATIONS[reason].advice.rstrip(".")


def with_advice(sentence: str, reason: Reason) -> str:
    """A finding and what to do about it, no full stop at the end; one that names an option already advises."""
    return sentence if "--" in sentence else f"{sentence}. {advice(reason)}"

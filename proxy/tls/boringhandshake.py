"""
A handshake by BoringSSL. What a verdict is: tls/handshake.py.

BoringSSL does not call us back. It stops where something is to be judged, the judgement is formed on Python's own
stack, and the next call goes on with the answer. It stops at three points:

* The peer has presented its chain. A refusal is answered with exactly the alert that the reason deserves, policy's
  access_denied included, in both TLS versions.
* A client wants to resume (server). Its ticket carries the chain of its first handshake, which is judged as if it were
  presented now. Where it does not pass, the ticket is ignored: the client goes through a full handshake, is judged by
  the certificate that it has now, and told by the ordinary alert. So a client that rotated its certificate comes in.
* The server resumes our session (client): again the chain is judged before anything is sent.
"""

from typing import TYPE_CHECKING, Any

from proxy.core.reasons import Reason
from proxy.tls import boringbinding as boring
from proxy.tls.boringbinding import bs_decide, bs_handshake
from proxy.tls.boringchannel import BoringChannel, read_failure, words_of
from proxy.tls.handshake import Basis, Handshake, Negotiated, Step
from proxy.tls.verify import PeerIdentity

# SSL_R_*: what BoringSSL found wrong, as far as it is worth a Reason of its own.
_REASON_OF = {
    192: Reason.NO_CLIENT_CERTIFICATE,  # PEER_DID_NOT_RETURN_A_CERTIFICATE
    302: Reason.NOT_AN_SVID,  # KEY_USAGE_BIT_INCORRECT: it looks at the leaf's key usage before it asks us
    272: Reason.CERTIFICATE_INVALID,  # CANNOT_PARSE_LEAF_CERT
    **dict.fromkeys((240, 188, 297, 254, 280), Reason.UNSUPPORTED_TLS_VERSION),
    **dict.fromkeys((184, 266, 253, 176, 265, 242, 245, 243, 229), Reason.NO_SHARED_CIPHER),
    **dict.fromkeys((155, 156, 247, 251), Reason.NOT_TLS),
}

_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_CIPHERS = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
GROUP_IDS = {"X25519MLKEM768": 0x11EC, "X25519": 29, "P-256": 23, "P-384": 24, "P-521": 25}
_GROUPS = {number: name for name, number in GROUP_IDS.items()}


class BoringHandshake(Handshake):
    """A Handshake on a connection of BoringSSL's."""

    if TYPE_CHECKING:
        channel: BoringChannel

    def step(self) -> Step:
        """As Handshake's."""
        connection = self.channel.connection
        while True:
            stop = bs_handshake(connection)
            if stop == boring.JUDGE_CHAIN:
                self._judge_chain(connection)
            elif stop == boring.JUDGE_TICKET:
                self._judge_ticket(connection)
            elif stop == boring.WANT_READ:
                return Step.WANT_READ
            elif stop == boring.DONE:
                self.resumed = bool(connection.resumed)
                self._conclude()
                return Step.DONE
            elif stop == boring.WANT_WRITE:
                return Step.WANT_WRITE
            else:
                self._raise_bug()
                raise self._failure(_REASON_OF.get(connection.reason), words_of(connection), read_failure(connection))

    def _judge_chain(self, connection: Any) -> None:
        self._form_verdict(Basis.SESSION if connection.resumed else Basis.CHAIN, self._presented)
        alert = self._alert()
        bs_decide(connection, boring.YES if alert is None else alert)

    def _judge_ticket(self, connection: Any) -> None:
        self._form_verdict(Basis.SESSION, self._presented)
        if self._bug is not None:
            bs_decide(connection, boring.NEVER)
        elif self._verdict is not None:
            bs_decide(connection, boring.YES)
        else:
            self._refusal = None  # it says nothing of what the client will present
            bs_decide(connection, boring.NO_TICKET)

    def _presented(self) -> PeerIdentity:
        connection, context = self.channel.connection, self._context
        peer = context.verifier.recall(boring.chain_digest(connection), context.purpose)
        if peer is not None:  # as context.verify would find, without taking the certificates out
            self.leaf = peer.svid
            peer.check_time(context.clock())
            return peer
        chain = boring.presented_chain(connection)
        self.leaf = self._context.leaf_facts(chain)
        return self._context.verify(chain)

    def _negotiated(self) -> Negotiated:
        connection = self.channel.connection
        cipher = connection.cipher
        return Negotiated(
            _VERSIONS.get(connection.version),
            _CIPHERS.get(cipher) or f"0x{cipher:04x}",
            _GROUPS.get(connection.group),
            boring.alpn_of(connection),
        )

    def _sni(self) -> str | None:
        return boring.text_of(boring.lib.bs_server_name(self.channel.connection))

    @property
    def version(self) -> str:
        """As Handshake's."""
        return _VERSIONS.get(self.channel.connection.version, "unknown")

    def ticket_has_come(self) -> bool:
        """As Handshake's."""
        connection = self.channel.connection
        return bool(connection.tickets) and connection.version == 0x0304

    def session(self) -> Any | None:
        """As Handshake's."""
        return boring.session_of(self.channel.connection)

"""
The PROXY v2 header that the app gets before the first byte: what the connection knows, as core/proxyprotocol.py says
it.
"""

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.core.config import ProxyProtocol
from proxy.core.proxyprotocol import ClientFlags, TlsDetails, encode_v2, endpoint
from proxy.core.reasons import Reason, Rejected
from proxy.core.svid import load_certificate

if TYPE_CHECKING:
    from proxy.net.state import Connection
    from proxy.tls.keys import PrivateKey
    from proxy.tls.store import InboundService

_PEER_VERIFIED = 0  # pp2_tlv_ssl.verify: zero says that the certificate was presented and verified


def proxy_header(service: "InboundService", connection: "Connection") -> bytes:
    """The header for this connection; empty when the listener asks for none. Raises: Rejected(CLIENT_LEFT)"""
    wanted = service.config.proxy_protocol
    if wanted is ProxyProtocol.NONE:
        return b""
    try:
        source, destination = connection.sock.getpeername(), connection.sock.getsockname()
        if connection.meant is not None:  # what the client meant, and not where the rules sent it
            destination = (connection.meant.host, connection.meant.port)
    except OSError as error:  # a socket that was reset has no peer any more
        raise Rejected(Reason.CLIENT_LEFT, f"the client left while the app was dialed ({error.strerror})") from None
    return encode_v2(
        endpoint(source),
        endpoint(destination),
        _tls_details(connection) if wanted is ProxyProtocol.V2_TLS else None,
    )


def _tls_details(connection: "Connection") -> TlsDetails | None:
    """Only what a finished handshake proved; None in plaintext, where nothing is claimed."""
    peer, facts = connection.peer, connection.tls
    if peer is None or facts is None:
        return None
    certificate = load_certificate(peer.path[0])
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    flags = ClientFlags.SSL | ClientFlags.CERT_SESS
    return TlsDetails(
        client=flags if facts.resumed else flags | ClientFlags.CERT_CONN,
        verify=_PEER_VERIFIED,
        version=facts.version,
        cipher=facts.cipher,
        group=facts.group,
        key_alg=_key_algorithm(connection.generation.material.key),
        common_name=str(names[0].value) if names else None,
        client_certificate_der=peer.path[0],
        alpn=facts.alpn,
        authority=facts.sni,
        spiffe_id=str(peer.spiffe_id),
    )


def _key_algorithm(key: "PrivateKey") -> str:
    """The word that HAProxy has for our own key (PP2_SUBTYPE_SSL_KEY_ALG): "EC256", "RSA2048", "ED25519"."""
    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA{key.key_size}"
    return f"EC{key.key_size}" if isinstance(key, ec.EllipticCurvePrivateKey) else "ED25519"

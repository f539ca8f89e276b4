"""
What a client of the laboratory is, expects and offers, and the SSL_CTX for it.

A row of a table offers exactly one version, and one group and one suite where it is about those, so that two rows
differ in one thing only. The server is verified always: its chain by OpenSSL against the one CA file, and who it is
against SPIFFE ID patterns or a name. There is no way to ask for less.
"""

import ipaddress

import msgspec
from cryptography import x509
from OpenSSL import SSL

from proxy.core.config import CIPHER_SUITES
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import IdPattern, PatternFault, parse_pattern
from proxy.tls import binding

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

OPENSSL_SUITES = {
    iana: iana.removeprefix("TLS_")
    .replace("_WITH_", "-")
    .replace("AES_", "AES")
    .replace("_", "-")
    .replace("POLY1305-SHA256", "POLY1305")
    for iana in CIPHER_SUITES
}  # IANA's name of a TLS 1.2 suite to OpenSSL's

_MODE_NO_AUTO_CHAIN = 0x8  # OpenSSL would add the root, because the client trusts it too; an SVID is sent without it
_CURVES = ("P-256", "P-384", "P-521")  # TLS 1.2 reads the group list for the curves of certificates too
_NOT_MORE_THAN_NAMED = 8


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who the client is and whom it expects.

    ca:          PEM file of what vouches for the server
    cert, key:   PEM files, leaf first; both None: the client has no certificate
    server_ids:  SPIFFE ID patterns; the server's must match one. When there are none, `server_name` must be in its leaf
    server_name: DNS name or IP address; a DNS name is sent as SNI
    """

    ca: str
    cert: str | None = None
    key: str | None = None
    server_ids: tuple[str, ...] = ()
    server_name: str | None = None


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the client offers.

    version: "1.2" or "1.3", no other
    group:   one, as OpenSSL names it; None: all that OpenSSL would offer
    alpn:    application protocols, in order of preference; empty: none is offered
    cipher:  suites by their IANA names with ":" between them; None: all that OpenSSL would offer
    """

    version: str = "1.3"
    group: str | None = None
    cipher: str | None = None
    alpn: tuple[str, ...] = ()


def names_of(der: bytes) -> list[str]:
    """The names in a leaf's SAN, for a sentence: at most 8, none where it cannot be read."""
    try:
        san = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return []
    return [str(name.value) for name in san][:_NOT_MORE_THAN_NAMED]


def client_context(credentials: Credentials, offer: Offer) -> SSL.Context:
    """
    An SSL_CTX for it; the server's name is compared by OpenSSL where no SPIFFE ID is expected.

    Raises: Rejected(PEM_MALFORMED | KEY_MISMATCH | FILE_MISSING | CONFIG_FAULT), the detail a whole sentence
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(VERSIONS[offer.version])
    context.set_max_proto_version(VERSIONS[offer.version])
    context.set_mode(binding.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # who owns the connections keeps sessions, and how many
    _load(credentials, context)
    context.set_verify(SSL.VERIFY_PEER)
    parameters = binding.lib.SSL_CTX_get0_param(context._context)
    binding.lib.X509_VERIFY_PARAM_set_flags(parameters, binding.X509_FLAG_PARTIAL_CHAIN)
    if offer.alpn:
        context.set_alpn_protos([name.encode("ascii") for name in offer.alpn])
    _choose(offer, context)
    if not credentials.server_ids and credentials.server_name:
        _expect_name(context, credentials.server_name)
    return context


def _load(credentials: Credentials, context: SSL.Context) -> None:
    for path, what in ((credentials.ca, "CA"), (credentials.cert, "certificate"), (credentials.key, "key")):
        if path is None:
            continue
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise Rejected(Reason.FILE_MISSING, f"the {what} file {path} cannot be read: {error.strerror}") from None
    try:
        context.load_verify_locations(credentials.ca)
    except SSL.Error:
        raise Rejected(Reason.PEM_MALFORMED, f"the CA file {credentials.ca} holds no certificate in PEM") from None
    if credentials.cert is None or credentials.key is None:
        return
    try:
        context.use_certificate_chain_file(credentials.cert)
    except SSL.Error:
        raise Rejected(Reason.PEM_MALFORMED, f"the file {credentials.cert} holds no certificate in PEM") from None
    try:
        context.use_privatekey_file(credentials.key)
        context.check_privatekey()
    except SSL.Error:
        words = f"the key in {credentials.key} cannot be read, or is not that of the certificate in {credentials.cert}"
        raise Rejected(Reason.KEY_MISMATCH, words) from None
    finally:
        binding.ERR_clear_error()


def _choose(offer: Offer, context: SSL.Context) -> None:
    """Offer the one group and suite; in TLS 1.2 the curves follow, or certificates on them would be refused."""
    if offer.group is not None:
        curves = [curve for curve in _CURVES if curve != offer.group] if offer.version == "1.2" else []
        if not binding.set_groups(context, ":".join([offer.group, *curves])):
            raise Rejected(Reason.CONFIG_FAULT, f"this OpenSSL does not know the group {offer.group}")
    if offer.cipher is None:
        return
    if offer.version == "1.3":
        done = binding.lib.SSL_CTX_set_ciphersuites(context._context, offer.cipher.encode("ascii")) == 1
    else:
        try:
            names = [OPENSSL_SUITES.get(name, name) for name in offer.cipher.split(":")]
            context.set_cipher_list(":".join(names).encode("ascii"))
            done = True
        except SSL.Error:
            done = False
    binding.ERR_clear_error()
    if not done:
        raise Rejected(Reason.CONFIG_FAULT, f"TLS {offer.version} in this OpenSSL has no cipher suite {offer.cipher}")


def _expect_name(context: SSL.Context, name: str) -> None:
    """Let OpenSSL compare the server's leaf with a name: an IP address with iPAddress, a host name with dNSName."""
    lib, parameters = binding.lib, binding.lib.SSL_CTX_get0_param(context._context)
    if is_ip(name):
        packed = ipaddress.ip_address(name).packed
        done = lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
    else:
        data = name.encode("ascii")
        done = lib.X509_VERIFY_PARAM_set1_host(parameters, data, len(data))
    if done != 1:
        raise Rejected(Reason.CONFIG_FAULT, f"{name!r} is no name that a server's certificate could hold")


def patterns_of(texts: tuple[str, ...]) -> tuple[IdPattern, ...]:
    """Compile SPIFFE ID patterns. Raises: Rejected(CONFIG_FAULT)"""
    try:
        return tuple(parse_pattern(text) for text in texts)
    except PatternFault as fault:
        raise Rejected(Reason.CONFIG_FAULT, str(fault)) from None


def is_ip(name: str) -> bool:
    """Whether it is an IP address, which is never sent as SNI (RFC 6066 3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""
From the words of the command line, or a sidecar's configuration, to what `probe` needs: whom to ask, as whom, and whom
to expect.

What cannot be read is a usage fault, in one sentence. An identity of ours that peers would refuse (expired, of an
unknown CA) is none: seeing what the peer says to it may be the very reason for the probe, so it is only said.
"""

import argparse
import shlex
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from proxy.cli.pemfiles import read_files
from proxy.cli.probe_document import OursView
from proxy.cli.probe_steps import Wish
from proxy.core.addresses import AddressFault, parse_server_name, parse_upstream
from proxy.core.config import TLS_VERSIONS, Config, OutboundConfig, Route, TcpAddress, TlsConfig, UpstreamAddress
from proxy.core.configfile import ConfigFaults
from proxy.core.reasons import Rejected
from proxy.core.spiffe import IdPattern, PatternFault, TrustDomain, parse_pattern, parse_trust_domain
from proxy.ops.configsource import read_config_file
from proxy.ops.printable import printable
from proxy.tls.keys import public_key_bytes
from proxy.tls.material import chain_to_send, read_bundle
from proxy.tls.pem import read_certificates, read_private_key
from proxy.tls.pemview import view_files
from proxy.tls.probing import OwnSvid, judge_ourselves
from proxy.tls.verify import Verifier


class UsageFault(Exception):  # noqa: N818  # the operator's, as ConfigFault is
    """What was asked for cannot be done as it was asked; str() is a sentence, or several lines for a configuration."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that a probe needs.

    again:    the command as it was given, without its output options: what "type this next" builds on
    cert, key: the files of our SVID; bundles: trust domain -> the file of its roots
    warnings: sentences about our own files
    """

    wish: Wish
    verifier: Verifier
    server_ids: tuple[IdPattern, ...]
    ours: OursView | None
    again: str
    cert: str | None
    key: str | None
    bundles: Mapping[str, str]
    config: str | None
    warnings: tuple[str, ...]


class _Files(msgspec.Struct, frozen=True, kw_only=True):
    cert: str | None
    key: str | None
    bundles: Mapping[str, str]


def settings_of(args: argparse.Namespace, now: datetime) -> Settings:
    """Read everything that the arguments name. Raises: UsageFault"""
    _check_combinations(args)
    config = _read_config(args.config)
    upstream, listener = _whom(args, config)
    files = _files(args, config)
    warnings: list[str] = []
    try:
        contents = _read(files)
        verifier = Verifier(_bundles(files, contents, now, warnings))
        svid = _svid(files, contents)
    except Rejected as rejected:
        raise UsageFault(f"{rejected.detail} ({rejected.reason})") from None
    tls = config.tls if config else TlsConfig()
    wish = Wish(
        upstream=upstream,
        svid=svid,
        server_name=_server_name(args.server_name, listener, upstream),
        alpn=_alpn(args.alpn) or (listener.alpn if listener else ()),
        versions=tuple(one for one in reversed(TLS_VERSIONS) if tls.min_version <= one <= tls.max_version),
        groups=tls.groups,
        cipher_suites=tls.cipher_suites,
        timeout_s=args.timeout,
        quick=args.quick,
    )
    return Settings(
        wish=wish,
        verifier=verifier,
        server_ids=_patterns(args.server_id) or (listener.server_ids if listener else ()),
        ours=None if svid is None else _ours(svid, files, contents, verifier, now),
        again=_again(args, upstream),
        cert=files.cert,
        key=files.key,
        bundles=files.bundles,
        config=args.config,
        warnings=tuple(warnings),
    )


def _check_combinations(args: argparse.Namespace) -> None:
    if args.config and (args.cert or args.key or args.bundle):
        raise UsageFault("--config brings its own identity and bundles: leave out --cert, --key and --bundle")
    if args.listener and not args.config:
        raise UsageFault("--listener names a listener of a configuration: give --config FILE too")
    if bool(args.cert) != bool(args.key):
        missing, given = ("--key", "--cert") if args.cert else ("--cert", "--key")
        raise UsageFault(f"{given} needs {missing} beside it")
    if not args.address and not args.config:
        raise UsageFault("say whom to probe: HOST:PORT, or --config FILE with an outbound listener")


def _read_config(path: str | None) -> Config | None:
    if path is None:
        return None
    try:
        return read_config_file(path)
    except ConfigFaults as faults:
        raise UsageFault(str(faults)) from None


def _whom(args: argparse.Namespace, config: Config | None) -> tuple[UpstreamAddress, OutboundConfig | Route | None]:
    """Whom to ask, and the part of the configuration that says whom to expect there."""
    if config is None:
        return _upstream(args.address), None
    if args.listener or not args.address:
        listener = _listener(args, config)
        return (_upstream(args.address) if args.address else listener.upstream), listener
    upstream = _upstream(args.address)
    named = next((one for one in config.outbound if one.upstream == upstream), None)
    return upstream, named or _route(upstream, config)


def _route(upstream: UpstreamAddress, config: Config) -> Route | None:
    """The route of an intercepting sidecar that covers an address, as its own connections would be led."""
    if not isinstance(upstream, TcpAddress) or not upstream.is_literal or config.intercept is None:
        return None
    address, outbound = ip_address(upstream.host), config.intercept.outbound
    for route in outbound.routes if outbound is not None else ():
        if (not route.ports or upstream.port in route.ports) and address in route.to:
            return route
    return None


def _listener(args: argparse.Namespace, config: Config) -> OutboundConfig:
    """The outbound listener that is meant: by its name, or because it is the only one."""
    names = ", ".join(one.name for one in config.outbound) or "none"
    if args.listener:
        for one in config.outbound:
            if one.name == args.listener:
                return one
        if any(one.name == args.listener for one in config.inbound):
            raise UsageFault(
                f"{args.listener} is an inbound listener, which says whom to let in and not whom to expect; "
                f"outbound listeners: {names}"
            )
        raise UsageFault(f"{args.config} has no outbound listener {args.listener}; it has: {names}")
    if len(config.outbound) != 1:
        raise UsageFault(f"say whom to probe: HOST:PORT or --listener NAME; outbound listeners: {names}")
    return config.outbound[0]


def _upstream(text: str) -> UpstreamAddress:
    try:
        return parse_upstream(text)
    except AddressFault as fault:
        raise UsageFault(f"{printable(text)}: {fault}") from None


def _files(args: argparse.Namespace, config: Config | None) -> _Files:
    if config is not None:
        identity = config.identity
        return _Files(cert=identity.cert, key=identity.key, bundles=identity.bundles)
    bundles: dict[str, str] = {}
    for text in args.bundle:
        domain, sign, path = text.partition("=")
        if not sign or not path:
            raise UsageFault(f"--bundle {printable(text)}: write TRUSTDOMAIN=FILE, e.g. example.org=ca.crt")
        if domain in bundles:
            raise UsageFault(f"--bundle: {printable(domain)} is given twice; put all its roots into one file")
        bundles[domain] = path
    return _Files(cert=args.cert, key=args.key, bundles=bundles)


def _read(files: _Files) -> dict[str, bytes]:
    paths = [path for path in (files.cert, files.key) if path] + list(files.bundles.values())
    contents, unreadable = read_files(paths)
    if unreadable:
        raise UsageFault("; ".join(f"cannot read {printable(file)}: {why.lower()}" for file, why in unreadable))
    return contents


def _bundles(
    files: _Files, contents: Mapping[str, bytes], now: datetime, warnings: list[str]
) -> dict[TrustDomain, tuple[x509.Certificate, ...]]:
    return {
        (domain := parse_trust_domain(name)): read_bundle(contents[path], domain, path, now.timestamp(), warnings)
        for name, path in files.bundles.items()
    }


def _svid(files: _Files, contents: Mapping[str, bytes]) -> OwnSvid | None:
    if files.cert is None or files.key is None:
        return None
    certificates = read_certificates(contents[files.cert], files.cert)
    key = read_private_key(contents[files.key], files.key)
    try:
        fits = public_key_bytes(certificates[0].public_key()) == public_key_bytes(key.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise UsageFault(
            f"the key in {files.key} does not belong to the first certificate in {files.cert}: name the two that were "
            "issued together (KEY_MISMATCH)"
        )
    return OwnSvid(chain_to_send(certificates, files.cert), key)


def _ours(
    svid: OwnSvid, files: _Files, contents: Mapping[str, bytes], verifier: Verifier, now: datetime
) -> OursView | None:
    assert files.cert is not None
    leaf = view_files({files.cert: contents[files.cert]}, now)[0].certificates[0]
    refusal: Rejected | None = None
    domain = (leaf.spiffe_id or "").removeprefix("spiffe://").partition("/")[0]
    if domain in files.bundles:  # otherwise nobody here can say
        try:
            judge_ourselves(verifier, svid, now.timestamp())
        except Rejected as rejected:
            refusal = rejected
    elif leaf.faults:
        refusal = Rejected(leaf.faults[0].reason, leaf.faults[0].detail)
    return OursView(
        spiffe_id=leaf.spiffe_id,
        serial=leaf.serial,
        issuer=leaf.issuer,
        key_type=leaf.key_type,
        validity=leaf.validity,
        reason=None if refusal is None else refusal.reason,
        fault=None if refusal is None else refusal.detail,
    )


def _server_name(given: str | None, listener: OutboundConfig | Route | None, upstream: UpstreamAddress) -> str | None:
    if given:
        try:
            return parse_server_name(given)
        except AddressFault as fault:
            raise UsageFault(f"--server-name {printable(given)}: {fault}") from None
    if listener is not None and listener.sni:
        return listener.sni
    if isinstance(upstream, TcpAddress) and not upstream.is_literal:
        return upstream.host.removesuffix(".")
    return None


def _alpn(texts: list[str]) -> tuple[str, ...]:
    names = tuple(name for text in texts for name in text.split(",") if name)
    for name in names:
        if not name.isascii() or len(name) > 255:
            raise UsageFault(f"--alpn {printable(name)}: a protocol name is 1 to 255 ASCII characters, e.g. h2")
    return names


def _patterns(texts: list[str]) -> tuple[IdPattern, ...]:
    try:
        return tuple(parse_pattern(text) for text in texts)
    except PatternFault as fault:
        raise UsageFault(f"--server-id: {fault}") from None


def _again(args: argparse.Namespace, upstream: UpstreamAddress) -> str:
    words = ["mtls-sidecar", "probe", str(upstream)]
    for option, value in (
        ("--config", args.config),
        ("--listener", args.listener),
        ("--cert", args.cert),
        ("--key", args.key),
        ("--server-name", args.server_name),
    ):
        words += [option, value] if value else []
    for option, values in (("--bundle", args.bundle), ("--server-id", args.server_id), ("--alpn", args.alpn)):
        for value in values:
            words += [option, value]
    return shlex.join(words)

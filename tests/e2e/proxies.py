"""
The proxies that a sidecar meets, as a client and as a server of mutual TLS: the least configuration of each.

`client` listens in plaintext and originates mutual TLS, `server` terminates it; both verify the peer's chain against
the identity's bundle and, as a client, the host name. Each pins one TLS version, so that the version under test is the
version spoken. The files work with the versions of Debian 12 and 13.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.e2e.pki import Identity
from tests.e2e.waiting import Address, text_of
from tests.programs import NGINX_STREAM_MODULES, program


class Link(NamedTuple):
    """What a proxy is to do. host: the name to ask for and to find in the server's certificate; clients only."""

    listen: Address
    upstream: Address
    identity: Identity
    version: str  # "1.2" or "1.3"
    host: str = ""


class Proxy(NamedTuple):
    """
    How to start a proxy: each function writes its file in a folder and returns the argv.

    judges_inside: whether it refuses a peer inside the handshake, with an alert; else it ends the handshake well, looks
                   at the certificate then, and leaves without a word
    """

    client: Callable[[Path, Link], list[str]]
    server: Callable[[Path, Link], list[str]]
    judges_inside: bool = True


def _haproxy(folder: Path, listen: str, server: str) -> list[str]:
    file = folder / "haproxy.cfg"
    file.write_text(f"""\
global
    maxconn 64
    log stderr format raw local0
defaults
    mode tcp
    log global
    option tcplog
    retries 0
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind {listen}
    default_backend out
backend out
    server peer {server}
""")
    return [program("haproxy"), "-db", "-f", str(file)]


def _haproxy_tls(link: Link) -> str:
    version = f"ssl-min-ver TLSv{link.version} ssl-max-ver TLSv{link.version}"
    return f"ssl crt {link.identity.pem} ca-file {link.identity.bundle} verify required {version}"


def _haproxy_client(folder: Path, link: Link) -> list[str]:
    tls = f"{_haproxy_tls(link)} verifyhost {link.host} sni str({link.host})"
    return _haproxy(folder, text_of(link.listen), f"{text_of(link.upstream)} {tls}")


def _haproxy_server(folder: Path, link: Link) -> list[str]:
    return _haproxy(folder, f"{text_of(link.listen)} {_haproxy_tls(link)}", text_of(link.upstream))


def _nginx(folder: Path, server: list[str]) -> list[str]:
    file = folder / "nginx.conf"
    lines = "\n".join(f"        {line};" for line in server)
    file.write_text(f"""\
load_module {next(str(module) for module in NGINX_STREAM_MODULES if module.exists())};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr info;
events {{ worker_connections 64; }}
stream {{
    server {{
{lines}
    }}
}}
""")
    return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file)]


def _nginx_client(folder: Path, link: Link) -> list[str]:
    return _nginx(
        folder,
        [
            f"listen {text_of(link.listen)}",
            f"proxy_pass {text_of(link.upstream)}",
            "proxy_ssl on",
            f"proxy_ssl_certificate {link.identity.cert}",
            f"proxy_ssl_certificate_key {link.identity.key}",
            f"proxy_ssl_trusted_certificate {link.identity.bundle}",
            "proxy_ssl_verify on",
            f"proxy_ssl_name {link.host}",
            "proxy_ssl_server_name on",
            f"proxy_ssl_protocols TLSv{link.version}",
        ],
    )


def _nginx_server(folder: Path, link: Link) -> list[str]:
    return _nginx(
        folder,
        [
            f"listen {text_of(link.listen)} ssl",
            f"proxy_pass {text_of(link.upstream)}",
            f"ssl_certificate {link.identity.cert}",
            f"ssl_certificate_key {link.identity.key}",
            f"ssl_client_certificate {link.identity.bundle}",
            "ssl_verify_client on",
            f"ssl_protocols TLSv{link.version}",
        ],
    )


def _stunnel(folder: Path, link: Link, *more: str) -> list[str]:
    file = folder / "stunnel.conf"
    lines = [
        "foreground = yes",
        "syslog = no",
        "debug = info",
        "pid =",
        "[peer]",
        f"accept = {text_of(link.listen)}",
        f"connect = {text_of(link.upstream)}",
        f"cert = {link.identity.cert}",
        f"key = {link.identity.key}",
        f"CAfile = {link.identity.bundle}",
        "verifyChain = yes",
        f"sslVersionMin = TLSv{link.version}",
        f"sslVersionMax = TLSv{link.version}",
        *more,
    ]
    file.write_text("\n".join(lines) + "\n")
    return [program("stunnel"), str(file)]


def _stunnel_client(folder: Path, link: Link) -> list[str]:
    return _stunnel(folder, link, "client = yes", f"checkHost = {link.host}", f"sni = {link.host}")


def _stunnel_server(folder: Path, link: Link) -> list[str]:
    return _stunnel(folder, link, "client = no")


_ENVOY = "type.googleapis.com/envoy.extensions"


def _envoy(folder: Path, link: Link, listener_tls: dict[str, object], cluster_tls: dict[str, object]) -> list[str]:
    # As a server, its default is to dial the app before it knows who calls.
    patient = {"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "max_early_data_bytes": 0}
    tcp_proxy = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_ENVOY}.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "peer",
            "cluster": "peer",
            **(patient if listener_tls else {}),
        },
    }
    endpoint = {"endpoint": {"address": _envoy_address(link.upstream)}}
    cluster = {
        "name": "peer",
        "load_assignment": {"cluster_name": "peer", "endpoints": [{"lb_endpoints": [endpoint]}]},
        **cluster_tls,
    }
    chain = {"filters": [tcp_proxy], **listener_tls}
    listener = {"name": "peer", "address": _envoy_address(link.listen), "filter_chains": [chain]}
    file = folder / "envoy.json"
    file.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    quietly = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    return [program("envoy"), *quietly, "--config-path", str(file)]


def _envoy_address(address: Address) -> dict[str, object]:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def _envoy_tls(link: Link, context: str, **more: object) -> dict[str, object]:
    version = f"TLSv{link.version.replace('.', '_')}"
    ours = {
        "certificate_chain": {"filename": str(link.identity.cert)},
        "private_key": {"filename": str(link.identity.key)},
    }
    theirs = {
        "trusted_ca": {"filename": str(link.identity.bundle)},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://example.org/"}}],
    }
    common = {
        "tls_params": {"tls_minimum_protocol_version": version, "tls_maximum_protocol_version": version},
        "tls_certificates": [ours],
        "validation_context": theirs,
    }
    typed = {"@type": f"{_ENVOY}.transport_sockets.tls.v3.{context}", "common_tls_context": common, **more}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed}}


def _envoy_client(folder: Path, link: Link) -> list[str]:
    return _envoy(folder, link, {}, _envoy_tls(link, "UpstreamTlsContext", sni=link.host))


def _envoy_server(folder: Path, link: Link) -> list[str]:
    return _envoy(folder, link, _envoy_tls(link, "DownstreamTlsContext", require_client_certificate=True), {})


PROXIES = {
    "haproxy": Proxy(_haproxy_client, _haproxy_server),
    "nginx-stream": Proxy(_nginx_client, _nginx_server, judges_inside=False),
    "stunnel": Proxy(_stunnel_client, _stunnel_server),
    "envoy": Proxy(_envoy_client, _envoy_server),
}

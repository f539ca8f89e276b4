"""
How each peer is told to do what the sidecar does here: end mutual TLS on one address and relay plaintext to the app.

All of them get the same words: a client certificate of the one CA is required, TLS 1.2 and 1.3, X25519, AES-128-GCM,
session tickets as they come, one worker (stunnel knows only threads, one for each connection), no log line for a
connection. What a peer has no word for, the client pins: it offers nothing else. P-256 stands in the lists of groups
for the certificates, since OpenSSL reads that list for their curves too in TLS 1.2. Each function writes its file in a
folder of its own and returns the arguments behind the program. The files are for the versions of Debian 12 and 13.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

Address = tuple[str, int]

MAX_CONNECTIONS = 4096  # that a peer is sized for
PROXIED = 2 * MAX_CONNECTIONS + 64
NGINX_STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),  # Debian
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)

_SUITES = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
_SUITE_1_3 = "TLS_AES_128_GCM_SHA256"
_GROUPS = "X25519:prime256v1"
_IDLE_S = 3600
_ENVOY = "type.googleapis.com/envoy.extensions"


class Link(NamedTuple):
    """What a peer is to do. pem: chain and key in one file; ca: whose clients may come in."""

    listen: Address
    app: Address
    cert: Path
    key: Path
    pem: Path
    ca: Path


def text_of(address: Address) -> str:
    """HOST:PORT."""
    return f"{address[0]}:{address[1]}"


def haproxy(folder: Path, link: Link) -> list[str]:
    """The arguments of HAProxy."""
    file = folder / "haproxy.cfg"
    tls = f"ssl crt {link.pem} ca-file {link.ca} verify required ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3"
    file.write_text(f"""\
global
    nbthread 1
    maxconn {MAX_CONNECTIONS}
defaults
    mode tcp
    timeout connect 5s
    timeout client {_IDLE_S}s
    timeout server {_IDLE_S}s
frontend in
    bind {text_of(link.listen)} {tls} ciphers {_SUITES} ciphersuites {_SUITE_1_3} curves {_GROUPS}
    default_backend app
backend app
    server app {text_of(link.app)}
""")
    return ["-db", "-f", str(file)]


def nginx(folder: Path, link: Link) -> list[str]:
    """The arguments of nginx, as a master with one worker."""
    file = folder / "nginx.conf"
    module = next((module for module in NGINX_STREAM_MODULES if module.exists()), None)
    file.write_text(f"""\
{f"load_module {module};" if module else ""}
daemon off;
worker_processes 1;
worker_rlimit_nofile {PROXIED};
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {PROXIED}; }}
stream {{
    server {{
        listen {text_of(link.listen)} ssl backlog=4096;
        proxy_pass {text_of(link.app)};
        proxy_timeout {_IDLE_S}s;
        tcp_nodelay on;
        ssl_certificate {link.cert};
        ssl_certificate_key {link.key};
        ssl_client_certificate {link.ca};
        ssl_verify_client on;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers {_SUITES};
        ssl_conf_command Ciphersuites {_SUITE_1_3};
        ssl_ecdh_curve {_GROUPS};
    }}
}}
""")
    return ["-e", "stderr", "-p", str(folder), "-c", str(file)]


def stunnel(folder: Path, link: Link) -> list[str]:
    """The arguments of stunnel."""
    file = folder / "stunnel.conf"
    file.write_text(f"""\
foreground = yes
syslog = no
debug = err
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[app]
accept = {text_of(link.listen)}
connect = {text_of(link.app)}
cert = {link.cert}
key = {link.key}
CAfile = {link.ca}
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.2
sslVersionMax = TLSv1.3
ciphers = {_SUITES}
ciphersuites = {_SUITE_1_3}
curves = {_GROUPS}
TIMEOUTidle = {_IDLE_S}
""")
    return [str(file)]


def hitch(folder: Path, link: Link) -> list[str]:
    """The arguments of Hitch."""
    file = folder / "hitch.conf"
    user = 'user = "nobody"\n' if os.geteuid() == 0 else ""  # it refuses to work as root
    file.write_text(f"""\
{user}\
frontend = {{
    host = "{link.listen[0]}"
    port = "{link.listen[1]}"
}}
backend = "[{link.app[0]}]:{link.app[1]}"
pem-file = "{link.pem}"
client-verify = required
client-verify-ca = "{link.ca}"
tls-protos = TLSv1.2 TLSv1.3
ciphers = "{_SUITES}"
ciphersuites = "{_SUITE_1_3}"
ecdh-curve = "{_GROUPS}"
workers = 1
backlog = 4096
daemon = off
quiet = on
syslog = off
""")
    return [f"--config={file}"]


def envoy(folder: Path, link: Link) -> list[str]:
    """The arguments of Envoy; its TLS 1.3 suites cannot be set, the client offers the one."""
    patient = {"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "max_early_data_bytes": 0}
    tcp_proxy = {
        "@type": f"{_ENVOY}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "app",
        "cluster": "app",
        **patient,  # or it would dial the app before it knows who calls
    }
    common = {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_2",
            "tls_maximum_protocol_version": "TLSv1_3",
            "cipher_suites": _SUITES.split(":"),
            "ecdh_curves": ["X25519"],
        },
        "tls_certificates": [
            {"certificate_chain": {"filename": str(link.cert)}, "private_key": {"filename": str(link.key)}}
        ],
        "validation_context": {"trusted_ca": {"filename": str(link.ca)}},
    }
    tls = {
        "@type": f"{_ENVOY}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": common,
    }
    chain = {
        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": tcp_proxy}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    endpoint = {"endpoint": {"address": _envoy_address(link.app)}}
    limits = {"thresholds": [{"max_connections": MAX_CONNECTIONS, "max_pending_requests": MAX_CONNECTIONS}]}
    cluster = {
        "name": "app",
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": limits,
    }
    listener = {"name": "app", "address": _envoy_address(link.listen), "filter_chains": [chain]}
    file = folder / "envoy.json"
    file.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1))
    return ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--config-path", str(file)]


def _envoy_address(address: Address) -> dict[str, object]:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}

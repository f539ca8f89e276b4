"""A file becomes a Config with the contract's defaults, or every fault of it with its exact place."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import config
from proxy.core.configfields import ROOT
from proxy.core.configfile import ConfigFaults, line_of, read_config
from proxy.core.configlistenerfields import PORT_POLICY
from proxy.core.configtables import ListOfTables, Table
from proxy.core.spiffe import parse_pattern
from tests.configtexts import GOOD, faults, read, the_fault, with_inbound, with_line, with_top

COVERED = ("intercept.outbound.routes[1].to", "intercept.outbound.routes[0] covers this route")


def with_intercept(text: str) -> str:
    """GOOD and one direction of `intercept`, on lines 7 and 8."""
    return with_top(f"intercept:\n  {text}")


def with_ports(text: str) -> str:
    return with_intercept(f"inbound: {{listen: '0.0.0.0:15066', ports: {text}}}")


def with_outbound(text: str) -> str:
    keys = {"listen": "listen: 127.0.0.1:15001", "default": "default: refuse", text.split(":")[0]: text}
    return with_intercept(f"outbound: {{{', '.join(keys.values())}}}")


def with_route(*routes: str) -> str:
    """Routes with these keys, and with those that are required."""
    whole = []
    for keys in routes:
        needed = {"to": "to: 10.0.0.0/8", "server_ids": "server_ids: ['spiffe://example.org/a']"}
        whole.append("{" + ", ".join([*(text for key, text in needed.items() if f"{key}:" not in keys), keys]) + "}")
    return with_outbound(f"routes: [{', '.join(whole)}]")


EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


def test_the_least_file_has_the_contracts_defaults() -> None:
    assert read(GOOD) == config.Config(
        identity=config.IdentityConfig(cert="tls.crt", key="tls.key", bundles={"example.org": "ca.crt"}),
        inbound=(
            config.InboundConfig(
                name="http",
                listen=config.TcpAddress("0.0.0.0", 15006),
                upstream=config.TcpAddress("127.0.0.1", 8080),
                allow=(parse_pattern("spiffe://example.org/ns/web/**"),),
            ),
        ),
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_no_fault(example: Path) -> None:
    assert faults(example.read_bytes()) == []


def test_there_are_examples() -> None:
    names = {"strict", "permissive", "federation", "dev", "database", "full", "intercept"}
    assert {path.stem for path in EXAMPLES} == names


def test_the_full_example_shows_every_key_at_its_default() -> None:
    full = next(path for path in EXAMPLES if path.stem == "full")
    assert read(full.read_bytes()) == _without_defaults(read(full.read_bytes()))
    _assert_every_key(ROOT, yaml.safe_load(full.read_text()))


def _without_defaults(whole: config.Config) -> config.Config:
    """The same file with nothing written but what is required."""
    http, payments = whole.inbound[0], whole.outbound[0]
    return config.Config(
        identity=config.IdentityConfig(
            cert=whole.identity.cert, key=whole.identity.key, bundles=whole.identity.bundles
        ),
        inbound=(config.InboundConfig(name=http.name, listen=http.listen, upstream=http.upstream, allow=http.allow),),
        outbound=(
            config.OutboundConfig(
                name=payments.name,
                listen=payments.listen,
                upstream=payments.upstream,
                server_ids=payments.server_ids,
            ),
        ),
    )


def _assert_every_key(table: Table, written: object) -> None:
    if written is None:
        return  # `health: null`, its default
    assert isinstance(written, dict)
    assert list(written) == [row.name for row in table.fields]
    for row in table.fields:
        if isinstance(row.kind, Table):
            _assert_every_key(row.kind, written[row.name])
        elif isinstance(row.kind, ListOfTables):
            _assert_every_key(row.kind.table, written[row.name][0])


def test_tables_and_dataclasses_have_the_same_keys_in_the_same_order() -> None:
    pending = [ROOT]
    while pending:
        table = pending.pop()
        names = [row.name for row in dataclasses.fields(table.cls)]
        assert [row.name for row in table.fields] == [name for name in names if (table, name) != (PORT_POLICY, "port")]
        kinds = [getattr(row.kind, "table", row.kind) for row in table.fields]
        pending += [kind for kind in kinds if isinstance(kind, Table)]


@pytest.mark.parametrize(
    ("text", "get", "value"),
    [
        (with_inbound("proxy_protocol: off"), lambda c: c.inbound[0].proxy_protocol, config.ProxyProtocol.NONE),
        (with_inbound("proxy_protocol: 'off'"), lambda c: c.inbound[0].proxy_protocol, config.ProxyProtocol.NONE),
        (with_inbound("proxy_protocol: v2-tls"), lambda c: c.inbound[0].proxy_protocol, config.ProxyProtocol.V2_TLS),
        (with_inbound("alpn: [h2, http/1.1]"), lambda c: c.inbound[0].alpn, ("h2", "http/1.1")),
        (with_inbound("server_first: True"), lambda c: c.inbound[0].server_first, True),
        (with_route("to: 10.1.2.3"), lambda c: str(c.intercept.outbound.routes[0].to), "10.1.2.3/32"),
        (with_route("to: 10.0.0.0/8, ports: [80]", "to: 10.0.0.0/8"), lambda c: len(c.intercept.outbound.routes), 2),
        (with_route("to: 0.0.0.0/0", "to: '::/0'"), lambda c: len(c.intercept.outbound.routes), 2),
        (with_ports("{80: {mode: DISABLE}}"), lambda c: [one.port for one in c.intercept.inbound.ports], [80]),
        (with_ports("{'80': {mode: DISABLE}}"), lambda c: [one.port for one in c.intercept.inbound.ports], [80]),
        (with_top("intercept: null"), lambda c: c.intercept, None),
        (with_inbound("detection_timeout_s: 0"), lambda c: c.inbound[0].detection_timeout_s, 0.0),
        (with_top("tls: {min_version: 1.3}"), lambda c: c.tls.min_version, "1.3"),
        (with_top('tls: {min_version: "1.3"}'), lambda c: c.tls.min_version, "1.3"),
        (with_top("tls: {groups: [P-521]}"), lambda c: c.tls.groups, ("P-521",)),
        (with_top("tls: {engine: openssl}"), lambda c: c.tls.engine, config.Engine.OPENSSL),
        (with_top("tls: null"), lambda c: c.tls, config.TlsConfig()),
        (with_top("outbound:"), lambda c: c.outbound, ()),
        (with_top("admin: null"), lambda c: c.admin, None),
        (with_top("admin: {}"), lambda c: c.admin, config.AdminConfig()),
        (with_top("health: null"), lambda c: c.health, None),
        (with_top("timeouts: {idle_s: .5}"), lambda c: c.timeouts.idle_s, 0.5),
        (with_top("timeouts: {idle_s: 0}"), lambda c: c.timeouts.idle_s, 0.0),
        (with_top("limits: {connections: 0}"), lambda c: c.limits.connections, 0),
        (with_top("limits: {handshakes_per_s: 0.5}"), lambda c: c.limits.handshakes_per_s, 0.5),
        (with_top("workers: auto"), lambda c: c.workers, 0),
        (with_top("workers: 4"), lambda c: c.workers, 4),
        (with_top("log: {level: debug}"), lambda c: c.log, config.LogConfig(level=config.LogLevel.DEBUG)),
    ],
)
def test_a_value_is_read(text: str, get, value: object) -> None:
    assert get(read(text)) == value


@pytest.mark.parametrize(
    ("base", "cert"), [("", "tls.crt"), ("/etc/mtls", "/etc/mtls/tls.crt"), ("/", "/tls.crt"), ("a/b", "a/b/tls.crt")]
)
def test_relative_paths_start_at_the_base(base: str, cert: str) -> None:
    identity = read_config(GOOD.encode(), file="f", base=base).identity
    assert identity.cert == cert
    assert identity.bundles == {"example.org": cert.replace("tls.crt", "ca.crt")}


def test_absolute_paths_stay() -> None:
    text = GOOD.replace("tls.crt", "/run/tls.crt")
    assert read_config(text.encode(), file="f", base="/etc").identity.cert == "/run/tls.crt"


FAULTS = [
    # identity
    (with_line(1, ""), 1, "identity", "missing, and required"),
    (with_line(1, "identity: null"), 1, "identity", "expected a mapping with the keys cert, key"),
    (with_line(1, "identity: {cert: a, key: b}"), 1, "identity.bundles", "missing, and required"),
    (with_line(1, "identity: {cert: a, key: b, bundles: {}}"), 1, "identity.bundles", "got an empty one"),
    (with_line(1, "identity: {cert: a, key: b, bundles: x}"), 1, "identity.bundles", "expected a mapping"),
    (with_line(1, "identity: {cert: a, key: b, bundles: {A: c}}"), 1, "identity.bundles.A", "only a-z"),
    (
        with_line(1, "identity: {cert: a, key: b, bundles: {'spiffe://a': c}}"),
        1,
        "identity.bundles['spiffe://a']",
        "e.g.",
    ),
    (with_line(1, "identity: {cert: '', key: b, bundles: {a: c}}"), 1, "identity.cert", "empty text"),
    (with_line(1, "identity: {cert: ~/a, key: b, bundles: {a: c}}"), 1, "identity.cert", "write the path whole"),
    (with_line(1, "identity: {cert: [a], key: b, bundles: {a: c}}"), 1, "identity.cert", "got a list"),
    (
        with_line(1, "identity: {cert: yes, key: b, bundles: {a: c}}"),
        1,
        "identity.cert",
        "as a boolean: write it in quotes",
    ),
    (
        with_line(1, "identity: {cert: 2026-01-01, key: b, bundles: {a: c}}"),
        1,
        "identity.cert",
        "as a date: write it in",
    ),
    (with_line(1, "identity: {cret: x, cert: a, key: b, bundles: {a: c}}"), 1, "identity.cret", "did you mean `cert`?"),
    # listeners
    (f"{GOOD.splitlines()[0]}\ninbound: {{}}", 2, "inbound", "expected a list of listeners, got a mapping"),
    (with_line(3, ""), 3, "inbound", "expected a list of listeners, got a mapping; a listener begins with `- name"),
    (with_line(3, "name: a b"), 3, "inbound[0].name", "letters, digits"),
    (with_line(3, "name: 8080"), 3, "inbound[0].name", "as a number: write it in quotes"),
    (with_line(4, "listen: 15006"), 4, "inbound[0].listen", "write 127.0.0.1:15006"),
    (with_line(4, ""), 3, "inbound[0].listen", "missing, and required"),
    (with_line(5, "upstream: 127.0.0.1:0"), 5, "inbound[0].upstream", "from 1 to 65535"),
    (with_line(5, "upstream: systemd:a"), 5, "inbound[0].upstream", "names a socket to listen on"),
    (with_line(6, "allow: spiffe://example.org/a"), 6, "inbound[0].allow", "put it in brackets"),
    (with_line(6, "allow: ['spiffe://example.org/a*']"), 6, "inbound[0].allow[0]", "a whole segment"),
    (with_line(6, "allow: ['spiffe://*/a']"), 6, "inbound[0].allow[0]", "wildcard in the trust domain"),
    (with_line(6, "allow: [no]"), 6, "inbound[0].allow[0]", "'no' is no SPIFFE ID"),
    (with_line(6, "allow: null"), 6, "inbound[0].allow", "got nothing (null)"),
    (with_inbound("deny: [spiffe://a/b,\n  spiffe://a/b]"), 8, "inbound[0].deny[1]", "the same as [0]"),
    (with_inbound("mode: strict"), 7, "inbound[0].mode", "did you mean `STRICT`?"),
    (with_inbound("mode: off"), 7, "inbound[0].mode", "YAML reads this word as a boolean"),
    (with_inbound("app_tls: terminate"), 7, "inbound[0].app_tls", "expected one of refuse, passthrough"),
    (with_inbound("server_first: yes"), 7, "inbound[0].server_first", "got 'yes'; write true"),
    (with_inbound("server_first: 'true'"), 7, "inbound[0].server_first", "write true, without quotes"),
    (with_inbound("server_first: 0"), 7, "inbound[0].server_first", "write false"),
    (with_inbound("server-first: true"), 7, "inbound[0]['server-first']", "did you mean `server_first`?"),
    (with_inbound("detection_timeout_s: 61"), 7, "inbound[0].detection_timeout_s", "from 0 to 60"),
    (with_inbound("detection_timeout_s: 300ms"), 7, "inbound[0].detection_timeout_s", "write seconds as a number: 0.3"),
    (with_inbound("alpn: [no]"), 7, "inbound[0].alpn[0]", "as a boolean: write it in quotes"),
    (with_inbound("alpn: ['']"), 7, "inbound[0].alpn[0]", "empty text"),
    (with_inbound(f"alpn: [{'a' * 256}]"), 7, "inbound[0].alpn[0]", "has 256 bytes"),
    (with_inbound("alpn: [ü]"), 7, "inbound[0].alpn[0]", "printable ASCII"),
    (with_inbound("alpn: [http2]"), 7, "inbound[0].alpn[0]", "is h2"),
    (with_inbound("alpn: [h2, h2]"), 7, "inbound[0].alpn[1]", "the same as [0]"),
    (with_inbound("proxy_protocol: false"), 7, "inbound[0].proxy_protocol", "one of none, v2, v2-tls"),
    (with_inbound("proxy_protocol: v1"), 7, "inbound[0].proxy_protocol", "one of none, v2, v2-tls"),
    (with_inbound("idle_s: 3"), 7, "inbound[0].idle_s", "belongs under `timeouts`"),
    (with_inbound("server_ids: []"), 7, "inbound[0].server_ids", "belongs under `outbound`"),
    # tls
    (with_top("tls: {min_version: 1.1}"), 7, "tls.min_version", "RFC 8996"),
    (with_top("tls: {min_version: '1.0'}"), 7, "tls.min_version", "RFC 8996"),
    (with_top("tls: {max_version: TLSv1.3}"), 7, "tls.max_version", "write 1.3"),
    (with_top("tls: {max_version: 1.4}"), 7, "tls.max_version", "expected one of 1.2, 1.3"),
    (with_top("tls:\n  cipher_suites: []"), 8, "tls.cipher_suites", "at least 1, got 0"),
    (with_top("tls: {cipher_suites: [TLS_AES_128_GCM_SHA256]}"), 7, "tls.cipher_suites[0]", "are not configurable"),
    (
        with_top("tls: {cipher_suites: [ECDHE-RSA-AES128-GCM-SHA256]}"),
        7,
        "tls.cipher_suites[0]",
        "OpenSSL's name; write TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        with_top("tls: {cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265]}"),
        7,
        "tls.cipher_suites[0]",
        "did you mean `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`?",
    ),
    (
        with_top("tls: {cipher_suites: [TLS_RSA_WITH_NULL_MD5]}"),
        7,
        "tls.cipher_suites[0]",
        "one of TLS_ECDHE_ECDSA_WITH_",
    ),
    (with_top("tls: {groups: [secp256r1]}"), 7, "tls.groups[0]", "write P-256"),
    (with_top("tls: {groups: [prime256v1]}"), 7, "tls.groups[0]", "write P-256"),
    (with_top("tls: {groups: [x25519]}"), 7, "tls.groups[0]", "did you mean `X25519`?"),
    (with_top("tls: {groups: X25519}"), 7, "tls.groups", "put it in brackets"),
    (with_top("tls: {engine: wolfssl}"), 7, "tls.engine", "boringssl"),
    # numbers
    (with_top("timeouts: {idle_s: true}"), 7, "timeouts.idle_s", "got a boolean 'true'"),
    (with_top("timeouts: {idle_s: -1}"), 7, "timeouts.idle_s", "cannot be negative"),
    (with_top("timeouts: {idle_s: .inf}"), 7, "timeouts.idle_s", "plain decimal number"),
    (with_top("timeouts: {idle_s: .nan}"), 7, "timeouts.idle_s", "plain decimal number"),
    (with_top("timeouts: {idle_s: 1_000}"), 7, "timeouts.idle_s", "plain decimal number"),
    (with_top("timeouts: {idle_s: 0x10}"), 7, "timeouts.idle_s", "plain decimal number"),
    (with_top("timeouts: {idle_s: 1:30}"), 7, "timeouts.idle_s", "plain decimal number"),
    (with_top("timeouts: {idle_s: 1e3}"), 7, "timeouts.idle_s", "got text '1e3'; write it out, without an exponent"),
    (with_top("timeouts: {idle_s: 10s}"), 7, "timeouts.idle_s", "write seconds as a number: 10"),
    (with_top("timeouts: {idle_s: 1h}"), 7, "timeouts.idle_s", "write seconds as a number: 3600"),
    (with_top("timeouts: {idle_s: '10'}"), 7, "timeouts.idle_s", "remove the quotes"),
    (with_top("timeouts: {idle_s: 315360001}"), 7, "timeouts.idle_s", "from 0 to 315360000"),
    (with_top("timeouts: {idle_s: null}"), 7, "timeouts.idle_s", "got nothing (null)"),
    (with_top("timeouts: [idle_s]"), 7, "timeouts", "expected a mapping with the keys handshake_s"),
    (with_top("limits: {connections: 1.5}"), 7, "limits.connections", "plain decimal digits"),
    (with_top("limits: {connections: " + "9" * 5000 + "}"), 7, "limits.connections", "from 0 to 1000000000"),
    (with_top("limits: {connections: 010}"), 7, "limits.connections", "plain decimal digits"),
    (with_top("workers: 0"), 7, "workers", "from 1 to 1024, or auto"),
    (with_top("workers: two"), 7, "workers", "from 1 to 1024, or auto"),
    (with_top("workers: true"), 7, "workers", "got a boolean"),
    # the rest
    (with_top("admin: {listen: systemd:admin}"), 7, "admin.listen", "for inbound and outbound listeners"),
    (with_top("admin: 127.0.0.1:15000"), 7, "admin", "expected a mapping with the keys listen, allow_remote"),
    (with_top("health: {}"), 7, "health.listen", "missing, and required"),
    (with_top("log: {level: warn}"), 7, "log.level", "did you mean `warning`?"),
    (with_top("log: {format: text}"), 7, "log.format", "expected one of json, console"),
    # intercept
    (with_top("intercept: {}"), 7, "intercept", "nothing is intercepted"),
    (with_top("intercept: {inbound: 3}"), 7, "intercept.inbound", "expected a mapping with the keys listen, ports"),
    (with_intercept("inbound: {listen: '[::]:1'}"), 8, "intercept.inbound", "no port would be let in"),
    (with_intercept("inbound: {ports: {80: {mode: DISABLE}}}"), 8, "intercept.inbound.listen", "missing"),
    (with_ports("[80]"), 8, "intercept.inbound.ports", "expected a mapping from ports to policies, got a list"),
    (with_ports("{80: 3}"), 8, "intercept.inbound.ports['80']", "expected a mapping with the keys mode, allow"),
    (with_ports("{80: {}}"), 8, "intercept.inbound.ports['80'].allow", "`allow` is missing"),
    (with_ports("{80: {mode: DISABLE, allow: []}}"), 8, "intercept.inbound.ports['80'].allow", "judges nobody"),
    (with_ports("{80: {mode: DISABLE, x: 1}}"), 8, "intercept.inbound.ports['80'].x", "unknown key"),
    (with_ports("{http: {mode: DISABLE}}"), 8, "intercept.inbound.ports.http", "expected a port from 1 to 65535"),
    (with_ports("{0: {mode: DISABLE}}"), 8, "intercept.inbound.ports['0']", "expected a port from 1 to 65535"),
    (with_ports("{0x50: {mode: DISABLE}}"), 8, "intercept.inbound.ports['0x50']", "expected a port from 1 to 65535"),
    (with_ports("{15006: {mode: DISABLE}}"), 8, "intercept.inbound.ports['15006']", "(inbound[0].listen)"),
    (with_outbound("listen: localhost:15001"), 8, "intercept.outbound.listen", "not to names"),
    (with_outbound("listen: unix:/a"), 8, "intercept.outbound.listen", "the kernel redirects to a TCP port"),
    (with_outbound("listen: 127.0.0.1:15006"), 8, "intercept.outbound.listen", "is taken by inbound[0].listen"),
    (with_outbound("default: allow"), 8, "intercept.outbound.default", "expected one of passthrough, refuse"),
    (with_intercept("outbound: {listen: '[::]:1'}"), 8, "intercept.outbound.default", "missing, and required"),
    (with_route("to: 10.1.2.3/8"), 8, "intercept.outbound.routes[0].to", "write 10.0.0.0/8"),
    (with_route("to: payments.shop.svc"), 8, "intercept.outbound.routes[0].to", "a network is ADDRESS/PREFIX"),
    (with_route("ports: []"), 8, "intercept.outbound.routes[0].ports", "at least 1"),
    (with_route("ports: [0]"), 8, "intercept.outbound.routes[0].ports[0]", "a port from 1 to 65535"),
    (with_route("server_ids: []"), 8, "intercept.outbound.routes[0].server_ids", "at least 1"),
    (with_route("name: http"), 8, "intercept.outbound.routes[0].name", "the name http is taken by inbound[0].name"),
    (with_route("name: intercept-x"), 8, "intercept.outbound.routes[0].name", "are those of `intercept`"),
    (with_route("ports: [80], to: 10.0.0.0/8", "to: 10.1.0.0/16, ports: [80]"), 8, *COVERED),
    (with_route("to: 10.0.0.0/8", "to: 10.0.0.0/8, ports: [80]"), 8, *COVERED),
    (with_route("to: 'fd00::/8'", "to: 'fd00::/8'"), 8, *COVERED),
    (with_top("timeout: {}"), 7, "timeout", "did you mean `timeouts`?"),
    (with_top("drain_s: 3"), 7, "drain_s", "belongs under `timeouts`"),
    (with_top("x: 1"), 7, "x", "known here are identity, inbound"),
    (with_top("? " + "k" * 5000 + "\n: 1"), 7, "k" * 5000, "known here are"),
]


@pytest.mark.parametrize(("text", "line", "path", "says"), FAULTS)
def test_a_fault_is_named_with_its_line_and_path(text: str, line: int, path: str, says: str) -> None:
    found_line, found_path, message = the_fault(text)
    assert (found_line, found_path) == (line, path)
    assert says in message


@pytest.mark.parametrize("text", ["[]", "5", "hello"])
def test_a_file_that_is_no_mapping_is_one_fault(text: str) -> None:
    assert "expected a mapping with the keys identity, inbound" in the_fault(text)[2]


def test_a_listener_that_is_no_mapping_hides_nothing() -> None:
    text = with_line(2, "inbound:\n  - http").replace("upstream: 127.0.0.1:8080", "upstream: x") + "workers: 0\n"
    assert [path for _, path, _ in faults(text)] == ["inbound[0]", "inbound[1].upstream", "workers"]


@given(st.lists(st.sampled_from([case for case in FAULTS if case[0].startswith(GOOD)]), min_size=2, max_size=6))
def test_no_fault_hides_another(cases: list[tuple[str, int, str, str]]) -> None:
    by_key = {case[0][len(GOOD) :].split(":")[0].strip(): case for case in cases}  # one of each key, or they repeat
    inbound = [case for case in by_key.values() if case[0][len(GOOD) :].startswith(" ")]
    top = [case for case in by_key.values() if case not in inbound]
    text = GOOD + "".join(case[0][len(GOOD) :] for case in inbound + top)
    found = faults(text)
    assert {(path, message) for _, path, message in found} == {
        (path, the_fault(case)[2]) for case, _, path, _ in inbound + top
    }
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in found)


def test_a_port_that_stands_twice_is_a_fault() -> None:
    line, path, message = the_fault(with_ports("{80: {mode: DISABLE}, 80: {mode: DISABLE}}"))
    assert (line, path, message) == (8, "intercept.inbound.ports['80']", "the key stands twice; the first is on line 8")


def test_the_admin_port_is_not_the_apps_also_at_its_default() -> None:
    ports = with_ports("{15000: {mode: DISABLE}}")
    assert "(the default of `admin`)" in the_fault(ports)[2]
    assert "(admin.listen)" in the_fault(ports + "admin: {listen: 127.0.0.1:15000}\n")[2]
    assert faults(ports + "admin: null\n") == []


def test_faults_print_one_line_each_by_line() -> None:
    text = with_line(4, "listen: x") + "workers: 0\n"
    with pytest.raises(ConfigFaults) as caught:
        read(text)
    assert str(caught.value).splitlines() == [
        "sidecar.yaml:4: inbound[0].listen: expected HOST:PORT, [v6]:PORT, unix:/path or systemd:NAME, got 'x': "
        "the port is missing; write HOST:PORT",
        "sidecar.yaml:7: workers: expected a whole number from 1 to 1024, or auto (one worker per usable core), "
        "got '0'",
    ]


def test_no_message_carries_a_control_character_or_a_megabyte() -> None:
    text = with_top('"a\\eb": 1\nworkers: "\\e[31m' + "x" * 100_000 + '"')
    for _, path, message in faults(text):
        assert (path + message).isprintable()
        assert len(message) < 1000


WORDS = st.sampled_from(
    [row.name for row in ROOT.fields]
    + ["name", "listen", "allow", "cert", "mode", "null", "off", "{}", "[]", "1.2", "-1", "&a", "*a", "!x", "<<"]
)
YAMLISH = st.lists(
    st.tuples(
        st.sampled_from(["", "  ", "  - ", "- ", "    ", "\t"]), WORDS, st.sampled_from([": ", ":\n", ", ", " "]), WORDS
    )
).map(lambda rows: "\n".join("".join(row) for row in rows))


@given(
    st.text(max_size=200)
    | YAMLISH
    | st.sampled_from([GOOD]).flatmap(lambda good: st.text(max_size=20).map(good.__add__))
)
def test_any_text_is_a_config_or_faults(text: str) -> None:
    assert all(message for _, _, message in faults(text.encode("utf-8", "surrogatepass")))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_config_or_faults(text: bytes) -> None:
    assert faults(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.datetimes()
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={row.name: JSON for row in ROOT.fields}))
def test_any_values_at_the_known_keys_are_a_config_or_faults(values: dict[str, object]) -> None:
    assert faults(yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("path", "line"), [("tls", 3), ("tls.groups", 4), ("tls.engine", 3), ("tls.groups.x", 4), ("log", 1), ("", 1)]
)
def test_a_key_has_a_line_and_an_absent_one_that_of_what_would_hold_it(path: str, line: int) -> None:
    assert line_of(b"a: 1\ntls:\n  x: 1\n  groups: [P-256]\n", path) == line


def test_what_cannot_be_read_has_no_lines() -> None:
    assert line_of(b"tls: [", "tls") is None

"""The schema and the page follow the reader: what the reader accepts, the schema accepts, and both are up to date."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxy.core.config import CIPHER_SUITES, GROUPS, Mode
from proxy.core.configfields import ROOT
from proxy.core.configtables import ListOfTables, Table
from tests.configtexts import GOOD, faults, with_inbound, with_line, with_top

REPOSITORY = Path(__file__).parents[2]
SCHEMA = json.loads((REPOSITORY / "config" / "schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def accepts(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(text))


def test_generated_pages_are_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("example", sorted((REPOSITORY / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_fits_the_schema_and_names_it(example: Path) -> None:
    text = example.read_text()
    VALIDATOR.validate(yaml.safe_load(text))
    assert text.startswith("# yaml-language-server: $schema=./schema.json\n")


def test_every_key_is_in_the_page() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    for section in ROOT.fields:
        table = section.kind.table if isinstance(section.kind, ListOfTables) else section.kind
        prefix = f"{section.name}[]." if isinstance(section.kind, ListOfTables) else f"{section.name}."
        rows = table.fields if isinstance(table, Table) else ()
        for key in [section.name, *(prefix + row.name for row in rows)]:
            assert f"| `{key}` |" in page


@pytest.mark.parametrize(
    "text",
    [
        with_line(1, ""),
        with_line(4, "listen: 15006"),
        with_line(6, ""),
        with_line(6, "allow: []"),
        with_inbound("mode: DISABLE"),
        with_inbound("mode: strict"),
        with_inbound("app_tls: passthrough"),
        with_inbound("server_first: 'yes'"),
        with_inbound("alpn: [h2, h2]"),
        with_inbound("x: 1"),
        with_top("tls: {min_version: 1.1}"),
        with_top("tls: {groups: [secp256r1]}"),
        with_top("tls: {engine: gnutls}"),
        with_top("timeouts: {idle_s: -1}"),
        with_top("timeouts: {idle_s: 10s}"),
        with_top("workers: 0"),
        with_top("health: {}"),
        with_top("intercept: {}"),
        GOOD.splitlines()[0],
        GOOD.splitlines()[0] + "\ninbound: []",
    ],
)
def test_an_editor_sees_the_common_faults(text: str) -> None:
    assert faults(text)
    assert not accepts(text)


def some(values: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(values, max_size=3)


SECONDS = st.integers(0, 100) | st.floats(0, 60, allow_subnormal=False).map(lambda number: round(number, 2))
ADDRESSES = st.sampled_from(
    ["127.0.0.1:8080", "[::1]:80", "unix:/a", "systemd:a", "a.b:1", "0.0.0.0:0", 8080, "a", None]
)
PATTERNS = some(st.sampled_from(["spiffe://a/b", "spiffe://a/**", "spiffe://a/*/c", "spiffe://a", "*", 1, None]))
ALPN = some(st.sampled_from(["h2", "http/1.1", "", 2]))
INBOUND_KEYS: dict[str, st.SearchStrategy[object]] = {
    "name": st.sampled_from(["a", "b", "", 1]),
    "listen": ADDRESSES,
    "upstream": ADDRESSES,
    "mode": st.sampled_from([*map(str, Mode), "strict", None]),
    "allow": PATTERNS,
    "deny": PATTERNS,
    "app_tls": st.sampled_from(["refuse", "passthrough", "x"]),
    "app_tls_server_names": some(st.sampled_from(["a.b", "*.b", "*", "1.2.3.4"])),
    "server_first": st.booleans() | st.just("yes"),
    "server_first_hold_s": SECONDS,
    "detection_timeout_s": SECONDS,
    "alpn": ALPN,
    "proxy_protocol": st.sampled_from(["none", "v2", "v2-tls", "off", False, True]),
}
GOOD_OBJECT = yaml.safe_load(GOOD)
PERMISSIVE = {"mode": "PERMISSIVE", "app_tls": "passthrough", "app_tls_server_names": ["*.b"], "server_first": True}
MODES = st.sampled_from([{}, PERMISSIVE, {"mode": "DISABLE", "allow": None}])


@st.composite
def inbound(draw: st.DrawFn) -> dict[str, object]:
    """A listener that is good, with some of its keys written anew: a good share of them is still good."""
    listener = GOOD_OBJECT["inbound"][0] | draw(MODES)
    for key in draw(st.lists(st.sampled_from(sorted(INBOUND_KEYS)), max_size=2)):
        listener[key] = draw(INBOUND_KEYS[key])
    if draw(st.booleans()) and listener["allow"] is None:
        del listener["allow"]
    return listener


OUTBOUND = st.fixed_dictionaries(
    {"name": st.sampled_from(["d", "e", "f"]), "listen": ADDRESSES, "upstream": ADDRESSES, "server_ids": PATTERNS},
    optional={"sni": st.sampled_from(["a.b", None, "1.2.3.4"]), "resume": st.booleans(), "alpn": ALPN},
)
POLICIES = st.sampled_from(
    [{"mode": "DISABLE"}, {"allow": ["spiffe://a/b"]}, {"mode": "DISABLE", "allow": []}, {}, PERMISSIVE, None]
)
REDIRECTED = st.sampled_from(["0.0.0.0:1", "[::]:2", "127.0.0.1:15001", "a.b:1", "unix:/a", 3])
ROUTES = st.sampled_from(
    [
        {},
        {"to": "::/0", "ports": [80, 65535], "name": "r", "sni": "a.b", "resume": False, "alpn": ["h2"]},
        {"to": "10.0.0.1", "sni": None},
        {"to": "10.0.0.1/8"},
        {"to": 7},
        {"ports": []},
        {"ports": ["80"]},
        {"name": "intercept"},
        {"server_ids": []},
    ]
).map(lambda keys: {"to": "10.0.0.0/8", "server_ids": ["spiffe://a/**"], **keys})
INTERCEPT = st.fixed_dictionaries(
    {},
    optional={
        "inbound": st.none()
        | st.fixed_dictionaries(
            {"listen": REDIRECTED},
            optional={
                "ports": st.dictionaries(st.sampled_from([80, 443, "8080", 0, "http", "080"]), POLICIES, max_size=2),
                "default": POLICIES,
            },
        ),
        "outbound": st.none()
        | st.fixed_dictionaries(
            {
                "listen": st.just("127.0.0.1:15001") | REDIRECTED,
                "default": st.sampled_from(["passthrough", "refuse", "x"]),
            },
            optional={"routes": st.none() | st.lists(ROUTES, max_size=2)},
        ),
    },
)
SECTIONS = {
    "intercept": st.none() | INTERCEPT,
    "inbound": st.none() | st.lists(inbound(), max_size=1),
    "outbound": st.none() | st.lists(OUTBOUND, max_size=2),
    "tls": st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "min_version": st.sampled_from(["1.2", 1.2, 1.3, "1.1"]),
            "max_version": st.sampled_from(["1.3", 1.2, 1.3, None]),
            "cipher_suites": some(st.sampled_from(CIPHER_SUITES)),
            "groups": some(st.sampled_from([*GROUPS, "secp256r1"])),
            "engine": st.sampled_from(["auto", "openssl", "boringssl"]),
        },
    ),
    "timeouts": st.none() | st.dictionaries(st.sampled_from(["idle_s", "drain_s", "x"]), SECONDS, max_size=2),
    "limits": st.none() | st.dictionaries(st.sampled_from(["connections", "handshakes_per_s"]), SECONDS, max_size=2),
    "admin": st.none()
    | st.fixed_dictionaries({}, optional={"listen": ADDRESSES, "allow_remote": st.booleans() | st.none()}),
    "health": st.none() | st.fixed_dictionaries({}, optional={"listen": ADDRESSES}),
    "log": st.none() | st.fixed_dictionaries({}, optional={"level": st.sampled_from(["info", "warn"])}),
    "workers": st.sampled_from([1, 2, 0, "auto", None, True]),
}


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.data())
def test_what_the_reader_accepts_the_schema_accepts(data: st.DataObject) -> None:
    # A few sections at a time, so that a good share of the files is good.
    chosen = data.draw(st.lists(st.sampled_from(sorted(SECTIONS)), max_size=2, unique=True))
    written = GOOD_OBJECT | {name: data.draw(SECTIONS[name]) for name in chosen}
    text = yaml.safe_dump(written)
    assume(not faults(text))
    VALIDATOR.validate(yaml.safe_load(text))


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(inbound())
def test_any_listener_that_the_reader_accepts_the_schema_accepts(listener: dict[str, object]) -> None:
    text = yaml.safe_dump({"identity": GOOD_OBJECT["identity"], "inbound": [listener]})
    assume(not faults(text))
    assert accepts(text)

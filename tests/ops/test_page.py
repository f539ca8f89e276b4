"""The page for people says what an operator in trouble asks, and holds no word that a browser would act on."""

import base64
import hashlib
import re

import msgspec
import pytest

from proxy.ops.page import HEADERS, STYLE, Facts, page_of
from tests.ops.test_markup import Reader

EVIL = "<script>alert(1)</script>\x1b[2J"
FACTS = Facts(
    ready=(True, "ready"),
    certs={
        "generation": 3,
        "spiffe_id": "spiffe://example.org/ns/shop/sa/orders",
        "our_clock": "2026-11-24T12:00:00Z",
        "lapses_at": "2026-11-24T13:00:00Z",
        "lapses_in": "1 h",
        "published_at": "2026-11-24T11:00:00Z",
        "bundles": {"example.org": [{}, {}]},
        "warnings": ["the key is open to others"],
    },
    config={
        "inbound": [{"name": "http", "mode": "STRICT", "upstream": "127.0.0.1:8080"}],
        "outbound": [{"name": "db", "upstream": "db.shop:15006"}],
        "listening": [
            {"direction": "inbound", "listener": "http", "address": "0.0.0.0:15006"},
            {"direction": "outbound", "listener": "db", "address": "127.0.0.1:9001"},
            {"direction": "inbound", "listener": "intercept", "address": "0.0.0.0:15005"},
        ],
    },
    connections=[{"direction": "inbound", "listener": "http"}, {"direction": "inbound", "listener": "http"}],
    recent={
        "refusals": [
            {
                "time": "2026-11-24T11:59:00Z",
                "count": 7,
                "reason": "NOT_ALLOWED",
                "direction": "inbound",
                "listener": "http",
                "who": "spiffe://example.org/ns/shop/sa/crawler",
                "downstream_remote_address": "10.0.0.7:1",
                "detail": "no pattern matches",
                "advice": "Add it to `allow`.",
                "worker": 2,
            }
        ],
        "reloads": [
            {
                "time": "2026-11-24T11:00:00Z",
                "what": "identity",
                "result": "published",
                "reason": "RELOADED",
                "generation": 3,
                "detail": "serial 1",
            }
        ],
    },
    metrics="""\
# TYPE mtls_sidecar_connections counter
mtls_sidecar_connections_total{direction="inbound",listener="http",security="mutual_tls"} 41.0
mtls_sidecar_connections_total{direction="inbound",listener="http",security="plaintext"} 1.0
mtls_sidecar_rejected_total{direction="inbound",listener="http",reason="NOT_ALLOWED"} 1e+03
mtls_sidecar_closed_total{direction="inbound",listener="http",reason="NOT_ALLOWED"} 5.0
""",
    routes=[("GET", "/certs", "identity"), ("POST", "/drain", "unready"), ("GET", "/", "this page")],
)


def text_of(facts: Facts) -> str:
    return " ".join(Reader(page_of(facts)).text.split())


def changed(**parts: object) -> Facts:
    return msgspec.structs.replace(FACTS, **parts)


@pytest.mark.parametrize(
    "text",
    [
        "time left 1 h lapses at 2026-11-24T13:00:00Z",
        "trust bundles example.org (2 CA) generation 3",
        "warning: the key is open to others",
        "http inbound STRICT 0.0.0.0:15006 127.0.0.1:8080 2 42 1000",
        "db outbound mutual TLS out 127.0.0.1:9001 db.shop:15006 0 0 0",
        "intercept inbound see /config 0.0.0.0:15005 - 0 0 0",
        "NOT_ALLOWED spiffe://example.org/ns/shop/sa/crawler",
        "on the inbound listener http, worker 2, 7 times, last at 2026-11-24T11:59:00Z, from 10.0.0.7:1",
        "no pattern matches To do: Add it to `allow`.",
        "2026-11-24T11:00:00Z identity published RELOADED 3 serial 1",
        "curl -X POST /drain unready",
    ],
)
def test_the_page_says(text: str) -> None:
    assert text in text_of(FACTS)


def test_an_unready_sidecar_says_why_first() -> None:
    facts = changed(ready=(False, "starting: no valid identity (FILE_MISSING)"), certs={}, config={}, connections=[])
    said = text_of(facts)
    assert said.index("not ready: starting: no valid identity (FILE_MISSING)") < said.index("Identity")
    assert "no identity yet" in said
    assert "It listens nowhere." in said


def test_a_reload_that_fails_is_said_with_its_advice() -> None:
    failure = {"reason": "KEY_MISMATCH", "detail": "two issuances", "advice": "Issue together.", "since": "11:00"}
    said = text_of(changed(certs={"identity_failure": failure}))
    assert "The identity cannot be reloaded since 11:00, what was in force stays: KEY_MISMATCH: two issuances." in said


def test_a_part_that_cannot_be_had_is_named_and_the_rest_is_shown() -> None:
    said = text_of(changed(config=None, connections=None, recent=None, metrics="", missing=["/config (TimeoutError)"]))
    assert "not to be had: /config (TimeoutError)" in said
    assert "time left 1 h" in said
    assert "Nobody was refused lately." in said


def evil(value: object) -> object:
    """The same shape with a stranger's text in every place."""
    if isinstance(value, str):
        return EVIL
    if isinstance(value, dict):
        return {key: evil(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [evil(inner) for inner in value]
    return value


def test_no_text_from_anywhere_becomes_markup() -> None:
    facts = changed(
        ready=(False, EVIL),
        certs=evil(FACTS.certs),
        config=evil(FACTS.config),
        recent=evil(FACTS.recent),
        missing=[EVIL],
        metrics=f'mtls_sidecar_rejected_total{{direction="inbound",listener="{EVIL}"}} 1\n',
    )
    document = page_of(facts)
    assert "script" not in Reader(document).names
    assert "\x1b" not in document


def test_the_page_needs_nothing_but_itself() -> None:
    seen = Reader(page_of(FACTS))
    assert {"script", "img", "link", "iframe"} & set(seen.names) == set()
    assert [value for name, value in seen.attributes if name in ("href", "src")] == ["/certs"]
    assert re.search(r"url\(|@import|http", STYLE) is None
    assert "prefers-color-scheme:dark" in STYLE
    assert len(page_of(FACTS)) < 8000


def test_only_its_own_style_may_be_used() -> None:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert f"<style>{STYLE}</style>" in page_of(FACTS)
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in dict(HEADERS)["Content-Security-Policy"]

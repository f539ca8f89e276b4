"""The page for people of a real sidecar, alone and with workers: who was refused, and what was reloaded."""

import http.client
from collections.abc import Callable

import pytest

from tests.e2e.apps import App, Serve, echo, exchange
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound
from tests.e2e.tlspeers import client_context, what_is_seen
from tests.e2e.waiting import PATIENCE_S, until


def page_of(sidecar: Sidecar) -> str:
    """What a browser gets."""
    connection = http.client.HTTPConnection(*sidecar.admin, timeout=PATIENCE_S)
    connection.request("GET", "/", headers={"Accept": "text/html,application/xhtml+xml"})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    assert (response.status, response.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    return body


@pytest.mark.parametrize("workers", [1, 2])
def test_the_page_tells_who_was_refused_and_what_was_reloaded(
    start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App], pki: Pki, workers: int
) -> None:
    allow = ["spiffe://example.org/ns/shop/sa/cart"]
    listeners = [inbound("orders", start_app(echo).address, allow=allow)]
    sidecar = start_sidecar(pki.identity("orders"), inbound=listeners, workers=workers)
    crawler = pki.identity("crawler")
    what_is_seen(sidecar.at("orders"), client_context(crawler, trust=crawler.bundle))
    exchange(sidecar.at("orders"), b"GET / HTTP/1.1\r\n\r\n")
    sidecar.closed(2)
    refusals = {row["reason"]: row for row in sidecar.show("/recent")["refusals"]}
    assert refusals.keys() == {"NOT_ALLOWED", "PLAINTEXT_REFUSED"}
    assert refusals["NOT_ALLOWED"]["who"] == crawler.spiffe_id
    assert {reload["what"] for reload in sidecar.show("/recent")["reloads"]} == {"identity"}
    page = page_of(sidecar)
    for text in ("<b>ready</b>", crawler.spiffe_id, "NOT_ALLOWED", "PLAINTEXT_REFUSED", "STRICT", "time left"):
        assert text in page
    assert "not to be had" not in page


def test_the_page_is_there_before_an_identity_is_and_says_what_is_missing(
    start_sidecar: Callable[..., Sidecar], pki: Pki
) -> None:
    section = {**pki.identity("orders").section(), "cert": "/nonexistent/tls.crt"}
    sidecar = start_sidecar(section, inbound=[inbound("orders", ("127.0.0.1", 9))], ready=False)
    until(lambda: sidecar.lines("reload"), "the reading has failed")
    page = page_of(sidecar)
    assert "not ready</b>: starting: no valid identity has been read yet (FILE_MISSING" in page
    assert "It listens nowhere." in page

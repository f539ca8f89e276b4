"""How the parts of an application's probe are spelled, and what the configuration says about them."""

import pytest

from proxy.core.appprobe import AppProbe, ProbeKind, parse_header, parse_probe_name, parse_request_target
from tests.configtexts import faults, read, the_fault, with_top

HEALTH = "health:\n  listen: 0.0.0.0:15021\n  app_probes:\n"


@pytest.mark.parametrize("text", ["orders/livez", "a/readyz", f"{'c' * 63}/startupz", "x-1/prestopz", "x/poststartz"])
def test_a_name_is_a_container_and_an_ending(text: str) -> None:
    assert text == parse_probe_name(text)


@pytest.mark.parametrize("text", ["orders", "/livez", "Orders/livez", "a/b/livez", "a-/livez", "../livez", "a/live"])
def test_any_other_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="container"):
        parse_probe_name(text)


@pytest.mark.parametrize("text", ["X: 1", "Accept: text/plain, */*", "Empty:", "Host: orders.example:80"])
def test_a_header_is_a_name_and_a_value(text: str) -> None:
    assert text == parse_header(text)


@pytest.mark.parametrize("text", ["X", ": 1", "X Y: 1", "X: a\r\nY: b", "X: \x00", "X: ü", "Content-Length: 3"])
def test_what_could_change_the_request_is_no_header(text: str) -> None:
    with pytest.raises(ValueError, match="header"):
        parse_header(text)


@pytest.mark.parametrize("character", [chr(number) for number in range(256)])
def test_a_target_holds_visible_ascii_alone(character: str) -> None:
    if "!" <= character <= "~":
        assert f"/{character}" == parse_request_target(f"/{character}")
    else:
        with pytest.raises(ValueError, match="path"):
            parse_request_target(f"/{character}")


def test_probes_are_read_with_their_defaults() -> None:
    config = read(
        with_top(
            HEALTH + "    - {name: orders/livez, kind: http, port: 8080, path: /healthz, headers: ['X: 1']}\n"
            "    - {name: orders/readyz, kind: grpc, port: 9090, timeout_s: 3}"
        )
    )
    assert config.health is not None
    assert config.health.app_probes == (
        AppProbe(name="orders/livez", kind=ProbeKind.HTTP, port=8080, path="/healthz", headers=("X: 1",)),
        AppProbe(name="orders/readyz", kind=ProbeKind.GRPC, port=9090, timeout_s=3.0),
    )


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("    - {name: a/livez, kind: tcp, port: 0}", "port", "a port from 1 to 65535"),
        ("    - {name: a/livez, kind: tcp, port: 65536}", "port", "a port from 1 to 65535"),
        ("    - {name: a/livez, kind: exec, port: 1}", "kind", "one of http, tcp, grpc"),
        ("    - {name: a/livez, kind: tcp, port: 1, path: /x}", "path", "is for kind http"),
        ("    - {name: a/livez, kind: grpc, port: 1, headers: ['X: 1']}", "headers", "is for kind http"),
        ("    - {name: a/livez, kind: http, port: 1, service: s}", "service", "is for kind grpc"),
        ("    - {name: a/livez, kind: tcp, port: 1, timeout_s: 61}", "timeout_s", "from 0 to 60"),
        ("    - {name: a/livez, kind: tcp}", "port", "missing"),
    ],
)
def test_a_faulty_probe_is_named(text: str, path: str, message: str) -> None:
    line, where, what = the_fault(with_top(HEALTH + text))
    assert (10, f"health.app_probes[0].{path}") == (line, where)
    assert message in what


def test_a_name_that_stands_twice_is_a_fault() -> None:
    twice = "    - {name: a/livez, kind: tcp, port: 1}\n    - {name: a/livez, kind: tcp, port: 2}"
    assert [fault[:2] for fault in faults(with_top(HEALTH + twice))] == [(11, "health.app_probes[1].name")]


def test_what_is_no_list_is_told_what_begins_one() -> None:
    assert "a probe begins with" in the_fault(with_top("health: {listen: 0.0.0.0:1, app_probes: {name: a/livez}}"))[2]

"""The rules between keys: each broken one is one fault at its place, and nothing else is."""

import pytest

from tests.configtexts import GOOD, faults, the_fault, with_inbound, with_line, with_top

IDENTITY = GOOD.splitlines()[0]


def outbound(listen: str, upstream: str = "peer.example:443", name: str = "out") -> str:
    """Three lines under a listener of its own; with_top puts its `listen` on line 9."""
    return (
        f"outbound:\n  - name: {name}\n    listen: '{listen}'\n    upstream: '{upstream}'\n"
        "    server_ids: [spiffe://example.org/peer]"
    )


RULES = [
    (f"{IDENTITY}\n", 1, "", "no listener"),
    (f"{IDENTITY}\ninbound: []\noutbound: null\n", 1, "", "no listener"),
    # allow and deny
    (with_line(6, ""), 3, "inbound[0].allow", "`allow` is missing"),
    (with_line(6, "allow: []"), 6, "inbound[0].allow", "`allow` is empty: nobody could connect"),
    (with_line(6, "mode: PERMISSIVE"), 3, "inbound[0].allow", "`allow` is missing"),
    (with_inbound("mode: DISABLE"), 6, "inbound[0].allow", "mode DISABLE judges nobody"),
    (with_line(6, "allow: []") + "    mode: DISABLE\n", 6, "inbound[0].allow", "mode DISABLE judges nobody"),
    (
        with_line(6, "mode: DISABLE") + "    deny: [spiffe://example.org/a]\n",
        7,
        "inbound[0].deny",
        "mode DISABLE judges nobody",
    ),
    # app_tls
    (
        with_inbound("app_tls: passthrough\napp_tls_server_names: [a.b]"),
        7,
        "inbound[0].app_tls",
        "is for mode PERMISSIVE, and `mode` is STRICT",
    ),
    (with_inbound("mode: PERMISSIVE\napp_tls: passthrough"), 8, "inbound[0].app_tls", "needs `app_tls_server_names`"),
    (
        with_inbound("mode: PERMISSIVE\napp_tls_server_names: [a.b]"),
        8,
        "inbound[0].app_tls_server_names",
        "no effect without `app_tls: passthrough`",
    ),
    # server_first
    (with_inbound("server_first_hold_s: 1"), 7, "inbound[0].server_first_hold_s", "no effect without mode PERMISSIVE"),
    (
        with_inbound("server_first: true\nserver_first_hold_s: 1"),
        8,
        "inbound[0].server_first_hold_s",
        "no effect without mode PERMISSIVE",
    ),
    (
        with_inbound("mode: PERMISSIVE\nserver_first_hold_s: 1"),
        8,
        "inbound[0].server_first_hold_s",
        "no effect without mode PERMISSIVE and `server_first: true`",
    ),
    # loops, names, addresses
    (with_line(5, "upstream: 127.0.0.1:15006"), 5, "inbound[0].upstream", "is this listener's own address"),
    (with_top(outbound("127.0.0.1:1", "localhost:1")), 10, "outbound[0].upstream", "is this listener's own address"),
    (with_top(outbound("127.0.0.1:1", name="http")), 8, "outbound[0].name", "is taken by inbound[0].name on line 3"),
    (with_top(outbound("127.0.0.1:15006")), 9, "outbound[0].listen", "taken by inbound[0].listen on line 4"),
    (with_top(outbound("[::]:15006")), 9, "outbound[0].listen", "taken by inbound[0].listen on line 4"),
    (with_top(outbound("127.0.0.1:15000")), 9, "outbound[0].listen", "taken by the default of `admin`"),
    (with_top("admin: {listen: 127.0.0.1:15006}"), 7, "admin.listen", "taken by inbound[0].listen on line 4"),
    (with_top("health: {listen: 0.0.0.0:15000}"), 7, "health.listen", "taken by the default of `admin`"),
    (
        with_top("admin: {listen: unix:/a}\nhealth: {listen: unix:/a}"),
        8,
        "health.listen",
        "taken by admin.listen on line 7",
    ),
    # tls and admin
    (with_top("tls: {min_version: 1.3, max_version: 1.2}"), 7, "tls.min_version", "above max_version 1.2"),
    (with_top("tls: {max_version: 1.2, groups: [X25519MLKEM768]}"), 7, "tls.groups", "need TLS 1.3"),
    (with_top("admin: {listen: 0.0.0.0:15000}"), 7, "admin.listen", "write `allow_remote: true`"),
    (with_top("admin: {listen: '[::]:15000'}"), 7, "admin.listen", "write `allow_remote: true`"),
    (with_top("admin: {listen: admin.example:15000}"), 7, "admin.listen", "write `allow_remote: true`"),
]


@pytest.mark.parametrize(("text", "line", "path", "says"), RULES)
def test_a_broken_rule_is_one_fault_at_its_place(text: str, line: int, path: str, says: str) -> None:
    found_line, found_path, message = the_fault(text)
    assert (found_line, found_path) == (line, path)
    assert says in message


@pytest.mark.parametrize(
    "text",
    [
        with_line(6, "mode: DISABLE"),
        with_line(6, "mode: DISABLE") + "    deny: []\n",
        with_inbound("app_tls: refuse\napp_tls_server_names: []\nserver_first: false\nserver_first_hold_s: 0.3"),
        with_inbound("mode: PERMISSIVE\napp_tls: passthrough\napp_tls_server_names: ['*.shop.svc']"),
        with_inbound("mode: PERMISSIVE\nserver_first: true\nserver_first_hold_s: 0"),
        with_inbound("server_first: true"),
        with_inbound("detection_timeout_s: 5"),
        with_line(4, "listen: 127.0.0.1:0") + outbound("127.0.0.1:0"),
        with_line(4, "listen: 127.0.0.1:15006") + outbound("127.0.0.2:15006"),
        with_top(outbound("127.0.0.1:9001", "127.0.0.1:15006")),
        with_top("admin: null\n" + outbound("127.0.0.1:15000")),
        with_top("admin: {listen: 127.0.0.1:1}\n" + outbound("127.0.0.1:15000")),
        with_top("admin: {listen: 0.0.0.0:15000, allow_remote: true}"),
        with_top("admin: {listen: localhost:15000}"),
        with_top("admin: {listen: unix:/run/admin.sock}"),
        with_top("health: {listen: 0.0.0.0:15021}"),
        f"{IDENTITY}\n{outbound('127.0.0.1:1')}\n",
    ],
)
def test_what_no_rule_forbids_is_good(text: str) -> None:
    assert faults(text) == []


def test_a_faulty_value_brings_no_second_fault_from_the_rules() -> None:
    text = with_line(6, "mode: DISABLED") + "    app_tls: pass\n    app_tls_server_names: [a.b]\n    server_first: 1\n"
    assert [path for _, path, _ in faults(text)] == ["inbound[0].mode", "inbound[0].app_tls", "inbound[0].server_first"]


def test_rules_are_judged_though_other_values_are_faulty() -> None:
    text = with_line(4, "listen: x") + "    mode: DISABLE\n    alpn: 3\nadmin: {listen: 0.0.0.0:1}\nworkers: -1\n"
    assert [path for _, path, _ in faults(text)] == [
        "inbound[0].listen",
        "inbound[0].allow",
        "inbound[0].alpn",
        "admin.listen",
        "workers",
    ]

"""Addresses and host names: what is one, what a refusal says, and which two are the same place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.addresses import (
    AddressFault,
    is_loopback,
    leads_back,
    parse_endpoint,
    parse_listen,
    parse_server_name,
    parse_server_name_pattern,
    parse_upstream,
    want_same_socket,
)
from proxy.core.config import SystemdAddress, TcpAddress, UnixAddress

PARSERS = [parse_listen, parse_endpoint, parse_upstream, parse_server_name, parse_server_name_pattern]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("localhost:1", TcpAddress("localhost", 1)),
        ("payments.shop.svc.cluster.local.:65535", TcpAddress("payments.shop.svc.cluster.local.", 65535)),
        ("my_db:3306", TcpAddress("my_db", 3306)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("[0:0:0:0:0:0:0:1]:8080", TcpAddress("::1", 8080)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:/" + "a" * 106, UnixAddress("/" + "a" * 106)),
    ],
)
def test_an_address_is_read_alike_for_listening_and_dialling(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_upstream(text) == parse_listen(text) == parse_endpoint(text) == address


def test_socket_activation_is_for_listening_alone() -> None:
    assert parse_listen("systemd:http") == SystemdAddress("http")
    for parse in (parse_endpoint, parse_upstream):
        with pytest.raises(AddressFault):
            parse("systemd:http")


def test_port_0_is_for_listening_alone() -> None:
    assert parse_listen("127.0.0.1:0") == TcpAddress("127.0.0.1", 0)
    with pytest.raises(AddressFault, match="from 1 to 65535"):
        parse_upstream("127.0.0.1:0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8080", "write 127.0.0.1:8080, or 0.0.0.0:8080 for every interface"),
        (":8080", "write 127.0.0.1:8080, or 0.0.0.0:8080 for every interface"),
        ("*:8080", "write 0.0.0.0:8080"),
        ("http://app:80", "no scheme"),
        ("app", "the port is missing"),
        ("app:", "from 0 to 65535"),
        ("app:http", "from 0 to 65535"),
        ("app:65536", "from 0 to 65535"),
        ("app:-1", "from 0 to 65535"),
        ("app:٣", "from 0 to 65535"),
        ("::1:8080", "needs brackets"),
        ("[::1]", "written [ADDRESS]:PORT"),
        ("[::1:80", "written [ADDRESS]:PORT"),
        ("[app]:80", "not an IPv6 address"),
        ("256.0.0.1:80", "not an IPv4 address"),
        ("1.2.3:80", "not an IPv4 address"),
        ("-app:80", "labels of 1 to 63"),
        ("a..b:80", "labels of 1 to 63"),
        ("a b:80", "labels of 1 to 63"),
        ("a" * 64 + ":80", "labels of 1 to 63"),
        ("a." * 127 + "a:80", "at most 253"),
        ("bücher.example:80", "xn--"),
        ("unix:run/app.sock", "absolute path"),
        ("unix:", "absolute path"),
        ("unix:@app", "abstract"),
        ("unix:/run/", "folder"),
        ("unix:/" + "a" * 107, "at most 107"),
        ("unix:/" + "ü" * 60, "121 bytes"),
        ("systemd:", "FileDescriptorName"),
        ("systemd:a:b", "FileDescriptorName"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(AddressFault) as caught:
        parse_listen(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "::1", "app:80", "app.", "", "a..b", "-a", "*.b", "a b", "bücher.example", "٣.٣"]
)
def test_a_server_name_is_a_host_name_and_nothing_else(text: str) -> None:
    with pytest.raises(AddressFault):
        parse_server_name(text)


def test_server_names_are_folded_to_lower_case() -> None:
    assert parse_server_name("Shop.Example") == "shop.example"
    assert parse_server_name_pattern("*.Shop.svc") == "*.shop.svc"


@pytest.mark.parametrize("text", ["*", "*.", "*.*.svc", "a.*.svc", "a*.svc", "**.svc"])
def test_a_wildcard_is_the_whole_first_label(text: str) -> None:
    with pytest.raises(AddressFault):
        parse_server_name_pattern(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "[::1]:80", False),
        ("[::]:80", "[::1]:80", True),
        ("[::]:80", "127.0.0.1:80", True),
        ("[::]:80", "0.0.0.0:80", True),
        ("0.0.0.0:80", "app.example:80", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("localhost:80", "LOCALHOST:80", True),
        ("localhost:80", "10.0.0.1:80", False),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", True),
        ("0.0.0.0:0", "0.0.0.0:0", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("systemd:a", "systemd:a", True),
        ("unix:/a", "127.0.0.1:80", False),
    ],
)
def test_two_listeners_want_the_same_socket(one: str, other: str, same: bool) -> None:
    assert want_same_socket(parse_listen(one), parse_listen(other)) is same
    assert want_same_socket(parse_listen(other), parse_listen(one)) is same


@pytest.mark.parametrize(
    ("upstream", "listen", "loops"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("localhost:80", "0.0.0.0:80", True),
        ("[::1]:80", "[::]:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("10.0.0.1:80", "10.0.0.1:80", True),
        ("10.0.0.1:80", "0.0.0.0:80", False),
        ("payments.shop.svc:80", "0.0.0.0:80", False),
        ("[::1]:80", "0.0.0.0:80", False),
        ("127.0.0.1:8080", "127.0.0.1:80", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "systemd:a", False),
    ],
)
def test_an_upstream_leads_back_to_its_own_listener(upstream: str, listen: str, loops: bool) -> None:
    assert leads_back(parse_upstream(upstream), parse_listen(listen)) is loops


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/a", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
        ("systemd:a", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(text: str, loopback: bool) -> None:
    assert is_loopback(parse_listen(text)) is loopback


@given(st.text(max_size=80) | st.from_regex(r"(unix:|systemd:|\[)?[a-z0-9.:%*@\]/-]{0,30}:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_an_address_that_reads_back_alike_or_an_address_fault(text: str) -> None:
    for parse in PARSERS:
        try:
            value = parse(text)
        except AddressFault:
            continue
        assert parse(str(value)) == value

"""YAML to nodes: lines, duplicate keys, and bounds that no file gets past."""

import time

import pytest

from proxy.core.configyaml import MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, Faults, Mapping, Scalar, ScalarType, load
from tests.configtexts import GOOD, faults, the_fault, with_top


def test_nodes_keep_their_text_and_line() -> None:
    found = Faults()
    root = load(b"a: off\nb:\n  - 010\n", found)
    assert isinstance(root, Mapping)
    assert [(entry.key, entry.line) for entry in root.entries] == [("a", 1), ("b", 2)]
    assert root.entries[0].value == Scalar(ScalarType.BOOL, "off", 1)
    assert found.found == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (b"", 1, "empty"),
        (b"# nothing\n", 1, "empty"),
        (b"a: 1\n\tb: 2\n", 2, "a tab stands where only spaces may indent"),
        (b"a: [1, 2\n", 2, "not valid YAML"),
        (b"a: 'b\n", 2, "not valid YAML"),
        (b"a: *b\n", 1, "not valid YAML"),
        (b"a: 1\n b: 2\n", 2, "not valid YAML"),
        (b"a: 1\n---\nb: 2\n", 2, "one document"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8: byte 0xff"),
        (b"\xff\xfea\x00", 1, "not UTF-8"),
        (b"a: 1\nb: \x00\n", 2, "U+0000"),
        (b"a: 1\nb: \x1b\n", 2, "U+001B"),
        (b'a: "\\UFFFFFFFF"\n', 1, "not valid YAML"),
        (b"%YAML " + b"9" * 5000 + b".1\n---\na: 1\n", 1, "not valid YAML"),
        (b"a: &a [*a]\n", 1, "inside the value that it names"),
        (b"a: &a {b: *a}\n", 1, "inside the value that it names"),
        (b"[" * 5000, 1, "levels deep"),
        (b"a: " + b"[" * (MAX_DEPTH + 1), 1, "levels deep"),
    ],
)
def test_what_cannot_be_read_is_one_fault_with_its_line(text: bytes, line: int, says: str) -> None:
    found_line, _, message = the_fault(text)
    assert found_line == line
    assert says in message


def test_a_byte_order_mark_and_crlf_are_no_faults() -> None:
    assert faults(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()) == []


def test_a_file_of_more_than_a_mebibyte_is_not_parsed() -> None:
    assert the_fault(b"#" * (MAX_FILE_BYTES + 1)) == (None, "", "the file has more than 1048576 bytes")


def test_aliases_are_values_like_any_other() -> None:
    text = with_top("""\
outbound:
  - {name: a, listen: 127.0.0.1:1, upstream: "b:1", server_ids: &ids [spiffe://example.org/b]}
  - {name: c, listen: 127.0.0.1:2, upstream: "d:1", server_ids: *ids}""")
    assert faults(text) == []


def test_aliases_that_unfold_into_millions_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    started = time.monotonic()
    _, _, message = the_fault("\n".join(lines))
    assert f"more than {MAX_NODES} values" in message
    assert time.monotonic() - started < 5


def test_many_values_are_refused() -> None:
    assert f"more than {MAX_NODES} values" in the_fault("a: [" + "1," * MAX_NODES + "]")[2]


def test_a_key_that_stands_twice_is_a_fault_and_both_values_are_read() -> None:
    text = with_top("timeouts:\n  idle_s: x\n  idle_s: y\nworkers: 1\nworkers: 0")
    assert [(line, path) for line, path, _ in faults(text)] == [
        (8, "timeouts.idle_s"),
        (9, "timeouts.idle_s"),
        (9, "timeouts.idle_s"),
        (11, "workers"),
        (11, "workers"),
    ]
    assert faults(text)[1][2] == "the key stands twice; the first is on line 8"


def test_a_section_that_stands_twice_is_not_said_to_miss_what_the_other_half_has() -> None:
    line, path, message = the_fault(GOOD + "identity:\n  refresh_s: 1\n")
    assert (line, path) == (7, "identity")
    assert "stands twice" in message


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("? [a]\n: 1", "", "a key must be text"),
        ("<<: {workers: 1}", "['<<']", "merge keys"),
        ("tls: !!python/object:os.system {}", "tls", "means nothing here"),
        ("tls: !mine {}", "tls", "means nothing here"),
        ("workers: !mine 1", "workers", "means nothing here"),
        ("outbound: !!set {}", "outbound", "means nothing here"),
    ],
)
def test_what_yaml_can_do_and_a_configuration_need_not_is_a_fault(text: str, path: str, says: str) -> None:
    found = [(line, where, message) for line, where, message in faults(with_top(text)) if says in message]
    assert [(line, where) for line, where, _ in found] == [(7, path)]


def test_a_key_that_yaml_takes_for_a_number_wants_quotes() -> None:
    assert the_fault(GOOD.replace("example.org: ca.crt", "example.org: ca.crt, 1.0: other.crt")) == (
        1,
        "identity.bundles['1.0']",
        "YAML reads this key as a decimal number; write it in quotes",
    )


@pytest.mark.parametrize("escape", ["\\0", "\\uD800"])
def test_a_value_holds_no_nul_and_no_surrogate(escape: str) -> None:
    found = faults(GOOD.replace("tls.crt", f'"{escape}"'))
    assert (1, "identity.cert", "a NUL or half of a surrogate pair cannot stand in a value") in found


def test_every_prefix_of_a_good_file_is_read_or_refused() -> None:
    for end in range(len(GOOD)):
        faults(GOOD[:end])

"""The axes of --matrix as they are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.lab.matrix import AXES, MOST_CELLS, Cell, MatrixFault, parse_matrix
from proxy.tls.keys import KeyType


def only(words: list[str], **how: bool) -> Cell:
    (cell,) = parse_matrix(words, **how).cells
    return cell


def test_without_words_it_is_versions_by_keys_by_full_and_resumed() -> None:
    matrix = parse_matrix([])
    assert [(cell.key, cell.mode, cell.version) for cell in matrix.cells] == [
        (key, mode, version)
        for key in ("ecdsa-p256", "rsa-2048")
        for mode in ("full", "resumed")
        for version in ("1.2", "1.3")
    ]
    assert {(cell.group, cell.cipher, cell.chain_length, cell.concurrency) for cell in matrix.cells} == {
        ("X25519", "AES-128-GCM", 1, 16)
    }
    assert matrix.left_out == ()


@pytest.mark.parametrize("word", ["p256", "P-256", "ecdsa-p256", "ECDSA P256", "ec-p256"])
def test_one_key_may_be_written_in_many_ways(word: str) -> None:
    assert only(["version=1.3", f"key={word}", "mode=full"]).key == "ecdsa-p256"


def test_every_key_that_can_be_minted_can_be_chosen() -> None:
    assert {cell.key for cell in parse_matrix([f"key={','.join(KeyType)}"]).cells} == set(KeyType)


def test_a_short_cipher_becomes_the_suite_that_goes_with_version_and_key() -> None:
    cells = parse_matrix(["cipher=chacha20", "mode=full"]).cells
    assert [(cell.version, cell.key, cell.suites) for cell in cells] == [
        ("1.2", "ecdsa-p256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("1.3", "ecdsa-p256", "TLS_CHACHA20_POLY1305_SHA256"),
        ("1.2", "rsa-2048", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("1.3", "rsa-2048", "TLS_CHACHA20_POLY1305_SHA256"),
    ]
    assert {cell.cipher for cell in cells} == {"ChaCha20-Poly1305"}  # so that 1.2 and 1.3 are twins for a comparison


def test_combinations_that_tls_does_not_have_are_left_out_and_named() -> None:
    matrix = parse_matrix(["group=x25519,x25519mlkem768", "key=p256", "mode=full"])
    assert [(cell.version, cell.group) for cell in matrix.cells] == [
        ("1.2", "X25519"),
        ("1.3", "X25519"),
        ("1.3", "X25519MLKEM768"),
    ]
    assert matrix.left_out == ("X25519MLKEM768 exists in TLS 1.3 alone",)


def test_a_suite_by_its_name_goes_with_its_version_and_key_alone() -> None:
    matrix = parse_matrix(["cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "mode=full"])
    assert [(cell.version, cell.key) for cell in matrix.cells] == [("1.2", "rsa-2048")]
    assert len(matrix.left_out) == 2


def test_of_a_target_key_and_chain_are_its_own_and_it_chooses_group_and_cipher() -> None:
    cells = parse_matrix([], target=True).cells
    assert [(cell.version, cell.mode) for cell in cells] == [
        ("1.2", "full"),
        ("1.3", "full"),
        ("1.2", "resumed"),
        ("1.3", "resumed"),
    ]
    assert {(cell.key, cell.group, cell.suites, cell.chain_length) for cell in cells} == {(None, None, None, 0)}


def test_a_target_is_offered_the_suites_of_both_kinds_of_key() -> None:
    cell = only(["cipher=aes128", "version=1.2", "mode=full"], target=True)
    assert cell.suites == "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"


def test_a_target_without_a_client_certificate_is_loaded_without_one() -> None:
    assert only(["version=1.3", "mode=full"], target=True, has_certificate=False).client_certificate is False


@pytest.mark.parametrize(
    ("words", "target", "said"),
    [
        (["colour=red"], False, "'colour=red' is no axis"),
        (["version"], False, "'version' is no axis"),
        (["key=dsa"], False, "key=dsa: 'dsa' is not one of p256"),
        (["key="], False, "key=: '' is not one of"),
        (["version=1.1"], False, "version=1.1: '1.1' is not one of 1.2, 1.3"),
        (["concurrency=0"], False, "no number from 1 to"),
        (["concurrency=1e3"], False, "no number from 1 to"),
        (["chain=9"], False, "no number from 1 to 8"),
        (["cipher=rc4"], False, "'rc4' is not one of aes128"),
        (["version=1.2", "version=1.3"], False, "the axis version is there twice"),
        (["client=none"], False, "a STRICT sidecar lets nobody in without a certificate"),
        (["version=1.2", "group=mlkem768"], False, "no combination is left: MLKEM768 exists in TLS 1.3 alone"),
        (["key=p256"], True, "key is the target's own"),
        (["engine=openssl"], True, "cannot be chosen for a --target"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], target: bool, said: str) -> None:
    with pytest.raises(MatrixFault) as fault:
        parse_matrix(words, target=target)
    assert said in str(fault.value)


def test_a_client_certificate_that_is_not_there_cannot_be_asked_for() -> None:
    with pytest.raises(MatrixFault, match="give --cert and --key"):
        parse_matrix(["client=cert"], target=True, has_certificate=False)


def test_a_matrix_that_takes_for_ever_is_refused_before_it_is_built() -> None:
    numbers = ",".join(map(str, range(1, 200)))
    with pytest.raises(MatrixFault, match=f"at most {MOST_CELLS}"):
        parse_matrix([f"concurrency={numbers}", "chain=1,2,3,4,5,6,7,8"])


@given(st.lists(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(list(AXES)), st.text(max_size=20))))
def test_junk_is_a_sentence_or_a_matrix(words: list[str]) -> None:
    try:
        assert parse_matrix(words).cells
    except MatrixFault:
        pass

"""The writers: a reader that looks at any moment sees a whole file, and in a swapped folder a whole set."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from proxy.tls.authority import Authority
from proxy.tls.identityfiles import (
    BUNDLE_FILE,
    CA_KEY_FILE,
    CERT_FILE,
    KEY_FILE,
    Content,
    Publication,
    publish,
    read_authority,
    write_atomically,
    write_authority,
    write_svid,
)
from proxy.tls.keys import public_key_bytes
from tests import minting

ROUNDS = 60


@pytest.fixture(scope="module")
def root() -> Authority:
    return minting.authority()


@contextmanager
def looking(look: Callable[[], str | None]) -> Iterator[list[str]]:
    """Call `look` again and again from another thread while the block runs; what it complains of is collected."""
    complaints: list[str] = []
    looks = 0
    over = threading.Event()

    def loop() -> None:
        nonlocal looks
        while not over.is_set() or looks == 0:
            complaint = look()
            looks += 1
            if complaint:
                complaints.append(complaint)

    reader = threading.Thread(target=loop)
    reader.start()
    try:
        yield complaints
    finally:
        over.set()
        reader.join()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    versions = [bytes([letter]) * 200_000 for letter in b"ab"]
    write_atomically(path, versions[0])

    with looking(lambda: None if path.read_bytes() in versions else "half a file") as complaints:
        for turn in range(ROUNDS):
            write_atomically(path, versions[turn % 2])
    assert complaints == []


def test_a_swapped_set_is_never_seen_mixed(tmp_path: Path, root: Authority) -> None:
    write_svid(tmp_path, minting.svid(root), bundles={BUNDLE_FILE: root.bundle_pem}, publication=Publication.SWAP)

    def look() -> str | None:
        # One folder resolved once is how a careful reader takes a set (its files never change).
        current = tmp_path / os.readlink(tmp_path / "..data")
        try:
            certificate = load_pem_x509_certificate((current / CERT_FILE).read_bytes())
            key = load_pem_private_key((current / KEY_FILE).read_bytes(), None)
        except FileNotFoundError:
            return None  # overtaken by two swaps since the link was read; nothing mixed was seen
        same = public_key_bytes(certificate.public_key()) == public_key_bytes(key.public_key())
        return None if same else "a key beside another key's certificate"

    with looking(look) as complaints:
        for _ in range(3):
            write_svid(tmp_path, minting.svid(root), bundles={BUNDLE_FILE: root.bundle_pem})
    assert complaints == []


def test_the_names_of_a_swapped_set_never_go_missing(tmp_path: Path) -> None:
    publish(tmp_path, {"a": Content(b"0")}, publication=Publication.SWAP)

    with looking(lambda: None if (tmp_path / "a").read_bytes().isdigit() else "not a whole file") as complaints:
        for turn in range(3):
            publish(tmp_path, {"a": Content(b"%d" % turn)})
    assert complaints == []
    assert (tmp_path / "a").read_bytes() == b"2"


@pytest.mark.parametrize("publication", [Publication.RENAME, Publication.SWAP])
def test_an_svid_folder_holds_the_three_usual_names_and_a_secret_key(
    tmp_path: Path, root: Authority, publication: Publication
) -> None:
    folder = tmp_path / "new" / "svid"
    svid = minting.svid(root)
    write_svid(folder, svid, bundles={BUNDLE_FILE: root.bundle_pem}, publication=publication)
    assert svid.cert_pem == (folder / CERT_FILE).read_bytes()
    assert svid.key_pem == (folder / KEY_FILE).read_bytes()
    assert root.bundle_pem == (folder / BUNDLE_FILE).read_bytes()
    assert mode_of(folder / KEY_FILE) == 0o600


def test_a_key_is_created_with_its_mode_and_never_changed_afterwards(
    tmp_path: Path, root: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, created = os.open, []

    def spy(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            created.append((bool(flags & os.O_EXCL), mode))
        return real_open(path, flags, mode)

    def forbidden(*args: object) -> None:
        raise AssertionError("a mode is set when a file is created, not later")

    monkeypatch.setattr(os, "open", spy)
    monkeypatch.setattr(os, "chmod", forbidden)
    monkeypatch.setattr(os, "fchmod", forbidden)
    write_svid(tmp_path, minting.svid(root), bundles={})
    assert created == [(True, 0o600), (True, 0o644)]


@pytest.mark.parametrize("publication", [Publication.RENAME, Publication.SWAP])
def test_a_failed_write_leaves_the_old_set_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publication: Publication
) -> None:
    publish(tmp_path, {"a": Content(b"old")}, publication=publication)
    before = sorted(entry.name for entry in tmp_path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path, {"a": Content(b"new")}, publication=publication)
    assert before == sorted(entry.name for entry in tmp_path.iterdir())
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_swap_keeps_one_set_before_and_removes_older_ones(tmp_path: Path) -> None:
    for turn in range(4):
        publish(tmp_path, {"a": Content(b"%d" % turn)}, publication=Publication.SWAP)
    sets = [entry for entry in tmp_path.iterdir() if entry.name.startswith("..set-")]
    assert len(sets) == 2
    assert {b"2", b"3"} == {(entry / "a").read_bytes() for entry in sets}


def test_a_name_that_left_the_set_is_removed_and_foreign_files_stay(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    publish(tmp_path, {"a": Content(b"1"), "partner.crt": Content(b"2")}, publication=Publication.SWAP)
    publish(tmp_path, {"a": Content(b"3")})
    visible = sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".."))
    assert visible == ["README", "a"]


def test_a_folder_keeps_the_way_it_was_published(tmp_path: Path) -> None:
    publish(tmp_path / "plain", {"a": Content(b"1")})
    assert not (tmp_path / "plain" / "a").is_symlink()
    publish(tmp_path / "swapped", {"a": Content(b"1")}, publication=Publication.SWAP)
    publish(tmp_path / "swapped", {"a": Content(b"2")})
    assert os.readlink(tmp_path / "swapped" / "a") == "..data/a"


def test_plain_files_become_a_swapped_set(tmp_path: Path) -> None:
    publish(tmp_path, {"a": Content(b"1")})
    (tmp_path / "..data_tmp").symlink_to("left-by-a-killed-writer")
    publish(tmp_path, {"a": Content(b"2")}, publication=Publication.SWAP)
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "a").is_symlink()) == (b"2", True)


def test_a_written_authority_is_read_back(tmp_path: Path, root: Authority) -> None:
    write_authority(tmp_path, root)
    assert root.chain == read_authority(tmp_path).chain
    assert mode_of(tmp_path / CA_KEY_FILE) == 0o600

"""The stable reading under every kind of writer. Time stands still: pauses are where these writers work."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.config import IdentityConfig
from proxy.core.reasons import Reason, Rejected
from proxy.tls.authority import Svid
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, Publication, write_svid
from proxy.tls.identityreader import PATIENCE_S, IdentityFiles, Sleep, read_identity
from proxy.tls.material import check_identity
from tests import minting
from tests.minting import DOMAIN

ROOT = minting.authority()
OLD, NEW = minting.svid(ROOT), minting.svid(ROOT)
BUNDLES = {BUNDLE_FILE: ROOT.bundle_pem}


class Pauses:
    """A sleep that takes no time: the n-th pause does the n-th step, the last step again and again if `for_ever`."""

    def __init__(self, *steps: Callable[[], object], for_ever: bool = False) -> None:
        self.taken: list[float] = []
        self._steps = list(steps)
        self._for_ever = for_ever

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        if self._steps:
            self._steps[0]()
            if len(self._steps) > 1 or not self._for_ever:
                self._steps.pop(0)


def identity(folder: Path, publication: Publication = Publication.RENAME, svid: Svid = OLD) -> IdentityConfig:
    return minting.write_identity(folder, svid, {DOMAIN: ROOT}, publication=publication)


async def refusal(config: IdentityConfig, sleep: Sleep) -> tuple[Reason, str]:
    with pytest.raises(Rejected) as caught:
        await read_identity(config, sleep=sleep)
    return caught.value.reason, caught.value.detail


def of(files: IdentityFiles) -> str:
    """Which set a reading is: it must be one or the other, never something else."""
    sets = {(svid.cert_pem, svid.key_pem, ROOT.bundle_pem): name for svid, name in ((OLD, "the old"), (NEW, "the new"))}
    return sets.get((files.cert, files.key, files.bundles[DOMAIN]), "a mix")


async def test_files_at_rest_are_read_after_one_pause(tmp_path: Path) -> None:
    pauses = Pauses()
    files = await read_identity(identity(tmp_path), sleep=pauses)
    assert of(files) == "the old"
    assert files.key_mode == 0o600
    assert files.paths["identity.key"] == str(tmp_path / KEY_FILE)
    assert len(pauses.taken) == 1


async def test_the_loop_s_own_sleep_fits(tmp_path: Path) -> None:
    assert of(await read_identity(identity(tmp_path), sleep=asyncio.sleep)) == "the old"


async def test_one_file_in_two_roles_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(OLD.key_pem + OLD.cert_pem)
    config = replace(identity(tmp_path), cert=str(both), key=str(both))
    opened: list[object] = []
    really = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **named: opened.append(path) or really(path, *rest, **named))
    files = await read_identity(config, sleep=Pauses())
    assert (files.cert, files.key) == (OLD.key_pem + OLD.cert_pem, OLD.key_pem + OLD.cert_pem)
    assert opened.count(str(both)) == 2  # one for each of the two readings


@pytest.mark.parametrize("publication", [Publication.SWAP, Publication.RENAME])
async def test_a_whole_set_published_between_two_readings_is_read_again(
    tmp_path: Path, publication: Publication
) -> None:
    config = identity(tmp_path, publication)
    pauses = Pauses(lambda: write_svid(tmp_path, NEW, bundles=BUNDLES))
    assert of(await read_identity(config, sleep=pauses)) == "the new"
    assert len(pauses.taken) == 2


async def test_a_swap_in_the_middle_of_one_reading_is_never_taken_as_a_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = identity(tmp_path, Publication.SWAP)
    really = os.open
    swapped: list[bool] = []

    def open_and_swap(path: str, *rest: int, **named: int) -> int:
        descriptor = really(path, *rest, **named)
        if path == config.cert and not swapped:
            swapped.append(True)  # between the certificate and the key
            write_svid(tmp_path, NEW, bundles=BUNDLES)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_swap)
    assert of(await read_identity(config, sleep=Pauses())) == "the new"
    assert swapped == [True]


async def test_a_path_that_leads_elsewhere_is_a_change_even_with_the_same_bytes(tmp_path: Path) -> None:
    config = identity(tmp_path, Publication.SWAP)
    pauses = Pauses(lambda: write_svid(tmp_path, OLD, bundles=BUNDLES))
    assert of(await read_identity(config, sleep=pauses)) == "the old"
    assert len(pauses.taken) == 2


def in_place(folder: Path, svid: Svid) -> list[Callable[[], object]]:
    """spiffe-helper's way, step by step: each file is truncated, half written, written."""

    def steps(path: Path, data: bytes) -> list[Callable[[], object]]:
        return [lambda: path.write_bytes(b""), lambda: path.write_bytes(data[:99]), lambda: path.write_bytes(data)]

    return [*steps(folder / CERT_FILE, svid.cert_pem), *steps(folder / KEY_FILE, svid.key_pem)]


async def test_while_a_writer_works_in_place_nothing_is_accepted(tmp_path: Path) -> None:
    config = identity(tmp_path)
    pauses = Pauses(*in_place(tmp_path, NEW))
    assert of(await read_identity(config, sleep=pauses)) == "the new"
    assert len(pauses.taken) == 7


@pytest.mark.parametrize("steps", range(1, 6))
async def test_a_writer_that_rests_half_way_is_caught_by_the_check(tmp_path: Path, steps: int) -> None:
    config = identity(tmp_path)
    for step in in_place(tmp_path, NEW)[:steps]:
        step()
    files = await read_identity(config, sleep=Pauses())
    with pytest.raises(Rejected) as caught:
        check_identity(files, minting.now_s())
    assert caught.value.reason is (Reason.KEY_MISMATCH if steps == 3 else Reason.PEM_MALFORMED)


async def test_a_writer_that_never_rests_is_refused_in_bounded_time(tmp_path: Path) -> None:
    config = identity(tmp_path)
    turn = iter(range(1000))
    pauses = Pauses(lambda: (tmp_path / CERT_FILE).write_text(str(next(turn))), for_ever=True)
    reason, detail = await refusal(config, pauses)
    assert reason is Reason.FILES_UNSTABLE
    assert detail == f"identity.cert ({config.cert}) kept changing or vanishing for 2 s"
    assert sum(pauses.taken) == pytest.approx(PATIENCE_S)
    assert pauses.taken[:3] == [0.02, 0.04, 0.08]
    assert len(pauses.taken) < 10


@pytest.mark.parametrize("name", [CERT_FILE, KEY_FILE, BUNDLE_FILE, "..data"])
async def test_what_is_missing_for_a_moment_is_waited_for(tmp_path: Path, name: str) -> None:
    config = identity(tmp_path, Publication.SWAP)
    away = tmp_path / "away"
    (tmp_path / name).rename(away)
    pauses = Pauses(lambda: None, lambda: away.rename(tmp_path / name))
    assert of(await read_identity(config, sleep=pauses)) == "the old"
    assert len(pauses.taken) == 3


async def test_a_folder_that_is_replaced_wholesale_is_read_from_its_new_place(tmp_path: Path) -> None:
    folder = tmp_path / "svid"
    config = identity(folder)
    write_svid(tmp_path / "fresh", NEW, bundles=BUNDLES)

    def replace_it() -> None:
        shutil.rmtree(folder)
        (tmp_path / "fresh").rename(folder)

    assert of(await read_identity(config, sleep=Pauses(replace_it))) == "the new"


@pytest.mark.parametrize("publication", [Publication.SWAP, Publication.RENAME, None])
async def test_five_rotations_in_a_row_are_each_read_whole(tmp_path: Path, publication: Publication | None) -> None:
    config = identity(tmp_path, publication or Publication.RENAME)
    for turn in range(5):
        svid = (NEW, OLD)[turn % 2]
        steps = (
            [lambda one=svid: write_svid(tmp_path, one, bundles=BUNDLES)] if publication else in_place(tmp_path, svid)
        )
        files = await read_identity(config, sleep=Pauses(*steps))
        assert of(files) == ("the new", "the old")[turn % 2]
        assert check_identity(files, minting.now_s()).chain == svid.chain


async def test_a_missing_file_is_named_with_who_we_are(tmp_path: Path) -> None:
    config = identity(tmp_path)
    (tmp_path / KEY_FILE).unlink()
    pauses = Pauses()
    reason, detail = await refusal(config, pauses)
    assert reason is Reason.FILE_MISSING
    assert detail == (
        f"cannot read identity.key ({config.key}): no such file or directory (we run as uid {os.geteuid()})"
    )
    assert sum(pauses.taken) == pytest.approx(PATIENCE_S)


async def test_every_missing_file_is_named(tmp_path: Path) -> None:
    config = identity(tmp_path)
    shutil.rmtree(tmp_path)
    reason, detail = await refusal(config, Pauses())
    assert reason is Reason.FILE_MISSING
    assert [one.split(" (")[0] for one in detail.split("; ")] == [
        "cannot read identity.cert",
        "cannot read identity.key",
        "cannot read identity.bundles[example.org]",
    ]


async def test_an_unreadable_file_is_named_with_its_owner_and_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = identity(tmp_path)
    really = os.open

    def refuse_the_key(path: str, *rest: int, **named: int) -> int:
        if path == config.key:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root is never refused by the kernel
        return really(path, *rest, **named)

    monkeypatch.setattr(os, "open", refuse_the_key)
    reason, detail = await refusal(config, Pauses())
    assert reason is Reason.FILE_MISSING
    assert detail == (
        f"cannot read identity.key ({config.key}): permission denied (we run as uid {os.geteuid()}; "
        f"its owner is uid {os.geteuid()}, gid {os.stat(config.key).st_gid}, its mode 0600)"
    )


def as_directory(path: Path) -> None:
    path.mkdir()


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(("make", "word"), [(as_directory, "directory"), (as_fifo, "FIFO"), (as_device, "device")])
async def test_what_is_no_regular_file_is_refused_and_holds_nobody(
    tmp_path: Path, make: Callable[[Path], None], word: str
) -> None:
    config = identity(tmp_path)
    (tmp_path / CERT_FILE).unlink()
    make(tmp_path / CERT_FILE)
    reason, detail = await refusal(config, Pauses())
    assert reason is Reason.FILE_MISSING
    assert detail == f"identity.cert ({config.cert}) is a {word}, and a regular file was expected"


async def test_a_file_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    config = identity(tmp_path)
    (tmp_path / BUNDLE_FILE).write_bytes(b"x" * 2 * 1024 * 1024)
    reason, detail = await refusal(config, Pauses())
    assert reason is Reason.PEM_MALFORMED
    assert "identity.bundles[example.org]" in detail
    assert "more than 1048576 bytes" in detail


async def test_a_name_that_no_file_can_have_is_a_missing_file(tmp_path: Path) -> None:
    assert (await refusal(replace(identity(tmp_path), cert="zero\0byte"), Pauses()))[0] is Reason.FILE_MISSING


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    config = identity(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    await read_identity(config, sleep=Pauses())
    (tmp_path / KEY_FILE).write_bytes(b"x" * 2 * 1024 * 1024)
    await refusal(config, Pauses())
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_cancelled_reading_ends_at_its_pause(tmp_path: Path) -> None:
    config = identity(tmp_path)

    async def cancelled(_seconds: float) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await read_identity(config, sleep=cancelled)


def test_the_digest_tells_apart_what_concatenation_would_not() -> None:
    ways = [
        IdentityFiles(cert=b"ab", key=b"c", bundles={"a": b"x"}),
        IdentityFiles(cert=b"a", key=b"bc", bundles={"a": b"x"}),
        IdentityFiles(cert=b"ab", key=b"c", bundles={"a": b"", "b": b"x"}),
        IdentityFiles(cert=b"ab", key=b"c", bundles={"b": b"x"}),
    ]
    assert len({files.digest for files in ways}) == 4
    assert ways[0].digest == IdentityFiles(cert=b"ab", key=b"c", bundles={"a": b"x"}, key_mode=0o640).digest

"""The watch: five rotations in a row by every kind of writer are noticed by events alone, and by the poll alone."""

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncinotify
import pytest

from proxy.ops.watcher import FileWatch
from proxy.tls.identityfiles import Content, Publication, publish, write_atomically

DEADLINE_S = 10.0
ROTATIONS = 5
NEVER_S = 3600.0  # a poll that cannot come in time: what is noticed was noticed by an event


class Changes:
    """Counts the calls, and waits for the next one."""

    def __init__(self) -> None:
        self.seen = 0
        self._called = asyncio.Event()

    def __call__(self) -> None:
        self.seen += 1
        self._called.set()

    async def one_more(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self._called.wait()
        self._called.clear()


@asynccontextmanager
async def watching(
    *paths: Path, poll_s: float = NEVER_S, said: list[str] | None = None, settle_s: float = 0.01
) -> AsyncIterator[Changes]:
    changes = Changes()
    said = [] if said is None else said
    watch = FileWatch(map(str, paths), changes, poll_s=poll_s, settle_s=settle_s, on_poll_only=said.append)
    task = asyncio.get_running_loop().create_task(watch.run())
    await asyncio.sleep(0)  # the task runs up to its first wait: every watch is set
    try:
        yield changes
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def the_loop_turns() -> None:
    """Long enough for a queued event to become a call: events are queued before the write returns."""
    for _ in range(20):
        await asyncio.sleep(0)


def write_in_place(folder: Path, turn: int) -> None:
    (folder / "tls.crt").write_text(f"certificate {turn}")


def write_by_rename(folder: Path, turn: int) -> None:
    write_atomically(folder / "tls.crt", f"certificate {turn}".encode())


def swap_data(folder: Path, turn: int) -> None:
    publish(folder, {"tls.crt": Content(f"certificate {turn}".encode())}, publication=Publication.SWAP)


def take_away_and_bring_back(folder: Path, turn: int) -> None:
    (folder / "tls.crt").unlink(missing_ok=True)
    (folder / "tls.crt").write_text(f"certificate {turn}")


def replace_the_folder(folder: Path, turn: int) -> None:
    fresh, old = folder.with_name("fresh"), folder.with_name("old")
    fresh.mkdir()
    write_in_place(fresh, turn)
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)


def touch_alone(folder: Path, turn: int) -> None:
    os.utime(folder / "tls.crt", ns=(turn, turn))


def change_mode_alone(folder: Path, turn: int) -> None:
    (folder / "tls.crt").chmod(0o600 + turn % 2 * 0o040)


WRITERS = [
    write_in_place,
    write_by_rename,
    swap_data,
    take_away_and_bring_back,
    replace_the_folder,
    touch_alone,
    change_mode_alone,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "svid"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("write", WRITERS)
async def test_five_rotations_in_a_row_are_noticed(folder: Path, write: Callable[[Path, int], None]) -> None:
    (swap_data if write is swap_data else write_in_place)(folder, 0)
    async with watching(folder / "tls.crt") as changes:
        for turn in range(1, ROTATIONS + 1):
            write(folder, turn)
            await changes.one_more()


@pytest.mark.parametrize("write", WRITERS)
async def test_without_inotify_the_poll_notices_the_same(
    folder: Path, write: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncinotify, "Inotify", no_instances)
    (swap_data if write is swap_data else write_in_place)(folder, 0)
    said: list[str] = []
    async with watching(folder / "tls.crt", poll_s=0.005, said=said) as changes:
        write(folder, 1)
        await changes.one_more()
    assert said == ["inotify cannot be had (too many open files)"]


def no_instances(**_: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


async def test_a_lost_event_costs_one_poll(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_in_place(folder, 0)
    monkeypatch.setattr(FileWatch, "_counts", lambda _self, _event: False)
    async with watching(folder / "tls.crt", poll_s=0.005) as changes:
        write_by_rename(folder, 1)
        await changes.one_more()


async def test_with_no_watches_left_it_says_so_once_and_polls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object, _path: object, _mask: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(asyncinotify.Inotify, "add_watch", refuse)
    said: list[str] = []
    async with watching(folder / "tls.crt", poll_s=0.005, said=said) as changes:
        write_in_place(folder, 1)
        await changes.one_more()
        write_in_place(folder, 2)
        await changes.one_more()
    assert len(said) == 1
    assert said[0].endswith("cannot be watched (no space left on device)")


async def test_a_burst_is_one_call(folder: Path) -> None:
    paths = [folder / name for name in ("tls.crt", "tls.key", "ca.crt")]
    async with watching(*paths, settle_s=0.2) as changes:
        for path in paths:
            path.write_text("one")
        await changes.one_more()
    assert changes.seen == 1


async def test_a_writer_that_never_rests_is_reported_all_the_same(folder: Path) -> None:
    async with watching(folder / "tls.crt", settle_s=0.001) as changes:

        async def write_for_ever() -> None:
            turn = 0
            while True:
                turn += 1
                write_in_place(folder, turn)
                await asyncio.sleep(0)

        writer = asyncio.get_running_loop().create_task(write_for_ever())
        await changes.one_more()
        await changes.one_more()
        writer.cancel()


async def test_other_files_of_the_folder_are_no_change(folder: Path) -> None:
    write_in_place(folder, 0)
    async with watching(folder / "tls.crt", settle_s=0) as changes:
        (folder / "noise").write_text("noise")
        (folder.parent / "noise").write_text("noise")
        (folder / "noise").unlink()
        await the_loop_turns()
        assert changes.seen == 0
        write_in_place(folder, 1)
        await the_loop_turns()
        assert changes.seen > 0


async def test_reading_the_files_is_no_change(folder: Path) -> None:
    write_in_place(folder, 0)
    async with watching(folder / "tls.crt", settle_s=0) as changes:
        (folder / "tls.crt").read_text()
        await the_loop_turns()
    assert changes.seen == 0


async def test_a_folder_that_comes_into_being_later_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet" / "there"
    async with watching(folder / "tls.crt") as changes:
        folder.mkdir(parents=True)
        await changes.one_more()
        for turn in range(ROTATIONS):
            write_in_place(folder, turn)
            await changes.one_more()


async def test_a_file_that_is_reached_through_a_far_symlink_is_noticed(tmp_path: Path, folder: Path) -> None:
    far = tmp_path / "far" / "away"
    far.mkdir(parents=True)
    swap_data(far, 0)
    (folder / "tls.crt").symlink_to(far / "tls.crt")
    async with watching(folder / "tls.crt") as changes:
        for turn in range(1, ROTATIONS + 1):
            swap_data(far, turn)
            await changes.one_more()


async def test_a_hard_link_written_elsewhere_is_noticed(tmp_path: Path, folder: Path) -> None:
    """As with a bind mount of one file (subPath): the write has no event in the folder that we watch."""
    source = tmp_path / "source"
    source.write_text("zero")
    (folder / "tls.crt").hardlink_to(source)
    async with watching(folder / "tls.crt") as changes:
        for turn in range(ROTATIONS):
            source.write_text(f"certificate {turn}")
            await changes.one_more()


async def test_symlinks_in_a_circle_and_impossible_names_are_only_missing(tmp_path: Path, folder: Path) -> None:
    (folder / "circle").symlink_to("circle")
    async with watching(folder / "circle", Path("zero\0byte"), folder / "tls.crt") as changes:
        write_in_place(folder, 0)
        await changes.one_more()


async def test_a_working_directory_that_is_removed_concerns_no_absolute_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    async with watching(folder / "tls.crt", Path("relative.pem")) as changes:
        gone.rmdir()
        for turn in range(ROTATIONS):
            write_in_place(folder, turn)
            await changes.one_more()


async def test_a_bug_is_reported_and_watching_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bugs: list[BaseException] = []
    changes = Changes()
    watch = FileWatch([str(folder / "tls.crt")], changes, poll_s=0.005, settle_s=0.01)
    with monkeypatch.context() as patch:
        patch.setattr("proxy.ops.watcher._entries", lambda _path: 1 / 0)
        task = asyncio.get_running_loop().create_task(watch.keep_running(bugs.append))
        await changes.one_more()
    assert isinstance(bugs[0], ZeroDivisionError)
    write_in_place(folder, 0)
    await changes.one_more()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_left_open_when_it_ends(folder: Path) -> None:
    write_in_place(folder, 0)
    with no_descriptor_leaked():
        async with watching(folder / "tls.crt") as changes:
            write_in_place(folder, 1)
            await changes.one_more()
    assert len(asyncio.all_tasks()) == 1


@contextmanager
def no_descriptor_leaked() -> Iterator[None]:
    def open_ones() -> set[str]:
        return {target for name in os.listdir("/proc/self/fd") if (target := link(f"/proc/self/fd/{name}"))}

    before = open_ones()
    yield
    assert open_ones() == before


def link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None  # the descriptor that listed the folder

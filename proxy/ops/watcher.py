"""
Notices that one of a few files may have changed, and says so: one call for one burst of changes. Nothing more.

What a path leads to can change without any event on the file itself: Kubernetes renames a symlink `..data` in its
folder, others rename a file or the whole folder into place. A watch on the file then hangs on to an inode that nobody
can reach any more, and is silent from the second rotation on. So the watch follows names:

- Each path is walked entry by entry through all its symlinks. For the path as written and for each link's target, the
  last two entries count, (folder, name): the file in its parent and the parent in its grandparent. inotify watches
  these folders, and only events about these names count, any kind of event, attributes alone included.
- A folder that is missing is stood in for by the nearest one above it that exists.
- The file itself is watched too, since writes through a bind mount (a Kubernetes subPath) have no event in its folder.
- After every burst the walk is done again from the start, so that watches are on what the names mean now.

Behind it stands a slow poll that compares inode, size and times: an event that was lost, or that the file system never
had (NFS, FUSE), costs one poll at most. Where there is no inotify (macOS, no instances left) the poll stands alone.

It refuses to know what is in the files: whether bytes are new, whole or good is decided by who reads them.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncinotify import Event, Inotify

SETTLE_S = 0.1  # a burst is over when nothing happened for this long
_SETTLE_TURNS = 10  # and is reported after so many turns even if it is not over
_DEFAULT_POLL_S = 5.0  # for poll_s 0, where the poll stands alone
_LINKS = 40  # as many as the kernel follows
_ENTRIES = 2  # of each written path or link target: the name in its parent, and the parent in its grandparent
_EVENTS_AT_ONCE = 256  # a folder that somebody writes to all the time must not hold the loop
_ARMING_TURNS = 4  # a folder may appear between the walk and the watch; the poll sees what is missed after that


class _Entry(NamedTuple):
    folder: str
    name: str


def _ignore(_why: str) -> None:
    pass


class FileWatch:
    """A watch over a few files, which may be missing. It holds descriptors only while `run` runs."""

    def __init__(
        self,
        paths: Iterable[str],
        on_change: Callable[[], None],
        *,
        poll_s: float,
        settle_s: float = SETTLE_S,
        on_poll_only: Callable[[str], None] = _ignore,
    ) -> None:
        """
        on_change:    called on the loop, once for each burst; the files may be as they were
        poll_s:       how often stats are compared; 0: only where there is no inotify, and then every 5 s
        settle_s:     how long a burst has to be over before it is reported
        on_poll_only: called once at most, with why inotify watches nothing or not everything
        """
        self._paths = tuple(dict.fromkeys(paths))
        self._on_change = on_change
        self._poll_s = poll_s
        self._settle_s = settle_s
        self._on_poll_only = on_poll_only
        self._said_poll_only = False
        self._stirred = asyncio.Event()
        # Watch descriptor -> the names that count in it; None: every event counts (the file itself).
        self._names: dict[int, set[str] | None] = {}

    async def keep_running(self, report_bug: Callable[[BaseException], None]) -> None:
        """Watch until cancelled. An exception of ours is reported and costs a pause: it must not end what serves."""
        while True:
            try:
                await self.run()
            except Exception as error:
                report_bug(error)
            await asyncio.sleep(self._poll_s or _DEFAULT_POLL_S)
            self._on_change()  # the next run tells only what changes from its start on

    async def run(self) -> None:
        """Watch until cancelled. What changed before the first call is not reported."""
        known = self._stats()
        with self._notifying() as inotify:
            poll_s = self._poll_s if inotify is not None else self._poll_s or _DEFAULT_POLL_S
            while True:
                self._arm(inotify)
                stats = self._stats()  # after arming: what happens from here on has an event
                if stats != known:
                    known = stats
                    self._on_change()
                if await self._stirred_within(poll_s or None):
                    await self._settle()
                    self._arm(inotify)
                    known = self._stats()
                    self._on_change()

    def _stats(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_stat(path) for path in self._paths)

    async def _stirred_within(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            return False
        return True

    async def _settle(self) -> None:
        for _ in range(_SETTLE_TURNS):
            self._stirred.clear()
            await asyncio.sleep(self._settle_s)
            if not self._stirred.is_set():
                return

    @contextmanager
    def _notifying(self) -> "Iterator[Inotify | None]":
        """An inotify instance whose events reach `_on_readable`; None where there is none."""
        inotify = self._open_inotify()
        if inotify is None:
            yield None
            return
        loop = asyncio.get_running_loop()
        descriptor = inotify.fd
        try:
            # The library's own `await get()` is for a task that does nothing else; a reader needs no task at all.
            loop.add_reader(descriptor, self._on_readable, inotify)
            yield inotify
        finally:
            loop.remove_reader(descriptor)
            inotify.close()
            self._names.clear()

    def _open_inotify(self) -> "Inotify | None":
        try:
            # Not at the top: it is there on Linux alone, and its import runs programs to find the C library.
            from asyncinotify import Inotify

            return Inotify(sync_timeout=0)
        except (ImportError, RuntimeError, AttributeError) as error:
            self._say_poll_only(f"there is no inotify here ({error})")
        except OSError as error:
            self._say_poll_only(f"inotify cannot be had ({os.strerror(error.errno or 0).lower()})")
        return None

    def _on_readable(self, inotify: "Inotify") -> None:
        for _ in range(_EVENTS_AT_ONCE):
            event = inotify.sync_get()
            if event is None:
                return
            if self._counts(event):
                self._stirred.set()

    def _counts(self, event: "Event") -> bool:
        if event.watch is None:
            return True  # the queue overflowed: anything may have happened
        if event.watch.wd not in self._names:
            return False  # the last words of a watch that was given up
        names = self._names[event.watch.wd]
        return names is None or event.name is None or str(event.name) in names

    def _arm(self, inotify: "Inotify | None") -> None:
        """Put the watches on what the paths mean now, and give up those on what they meant before."""
        if inotify is None:
            return
        before: dict[int, set[str] | None] | None = None
        for _ in range(_ARMING_TURNS):
            names = self._watch_all(inotify)
            if names == before:
                break
            before = self._names = names
        for watch in inotify.watches:
            if watch.wd not in self._names:
                try:
                    inotify.rm_watch(watch)
                except OSError:
                    pass  # it went by itself, with its folder

    def _watch_all(self, inotify: "Inotify") -> dict[int, set[str] | None]:
        names: dict[int, set[str] | None] = {}
        for entry in dict.fromkeys(entry for path in self._paths for entry in _entries(path)):
            folder, name = entry
            descriptor = self._watch(inotify, folder)
            while descriptor is None and folder != os.path.dirname(folder):
                folder, name = os.path.split(folder)
                descriptor = self._watch(inotify, folder)
            if descriptor is not None:
                known = names.setdefault(descriptor, set())
                if known is not None:
                    known.add(name)
        for path in self._paths:
            descriptor = self._watch(inotify, path)
            if descriptor is not None:
                names[descriptor] = None
        return names

    def _watch(self, inotify: "Inotify", path: str) -> int | None:
        from asyncinotify import Mask  # not at the top, as in `_open_inotify`

        # Without MODIFY: a write counts when the file is closed, and a busy log file beside ours wakes nobody.
        mask = Mask.CLOSE_WRITE | Mask.ATTRIB | Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF
        try:
            return int(inotify.add_watch(path, mask | Mask.MOVE_SELF).wd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._say_poll_only(f"{path} cannot be watched ({os.strerror(error.errno or 0).lower()})")
        except ValueError:
            pass  # a zero byte in a path: no such file will ever be
        return None

    def _say_poll_only(self, why: str) -> None:
        if not self._said_poll_only:
            self._said_poll_only = True
            self._on_poll_only(why)


def _entries(path: str) -> Iterator[_Entry]:
    """The directory entries that decide where a path leads: the last two of it and of each link's target on the way."""
    try:
        # Not asked for where the path does not need it: the working directory of a process can be removed.
        pending = [(path if path.startswith("/") else os.path.join(os.getcwd(), path)).split("/")]
    except FileNotFoundError:
        return  # the path starts at nothing, and leads nowhere
    current = "/"
    links = 0
    while pending:
        parts = pending[-1]
        if not parts:
            pending.pop()
            continue
        name = parts.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            current = os.path.dirname(current)
            continue
        if len(parts) < _ENTRIES:
            yield _Entry(current, name)
        entry = os.path.join(current, name)
        try:
            target = os.readlink(entry)
        except (OSError, ValueError):
            current = entry  # no link, or nothing at all yet
            continue
        links += 1
        if links > _LINKS:
            return
        current = "/" if target.startswith("/") else current
        pending.append(target.split("/"))


def _stat(path: str) -> tuple[int, ...]:
    """What changes when the file does; the error's number where there is no file."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    except ValueError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

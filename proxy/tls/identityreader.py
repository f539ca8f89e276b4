"""
Our identity files as one stable reading: all of them at one moment, or a refusal. What they say is material.py's.

Nobody locks these files, and their writers are of every kind: one rename of `..data` (Kubernetes), one rename for each
file, a truncating write in place for each file (spiffe-helper), files that are gone for a moment. A reader that opens
them one after the other can see the certificate of one set beside the key of another, or a file that is empty for now.

So all files are read, and after a pause all are read again; only two readings in a row that agree in every byte, and in
where every path leads, are taken. Otherwise the pause grows and the newest reading is compared with the next one. This
cannot tell a set that is whole from one whose writer rests half-way for longer than the pause; that is what the check
of the set as a set is for, and the next change on disk brings the next reading. A path that leads elsewhere while its
bytes are the same counts as a change: another file of the set may be about to follow.

The reads block the event loop: a few files of a few KiB that are nearly always in the page cache cost less than the
hand-over to a thread. Nothing but a regular file is read, so a FIFO or a device cannot hold the loop.
"""

import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.core.config import IdentityConfig
from proxy.core.reasons import Reason, Rejected

MAX_FILE_BYTES = 1024 * 1024  # about 700 certificates; a mounted log or a device would fill memory
PATIENCE_S = 2.0
_FIRST_PAUSE_S = 0.02  # spiffe-helper writes its three files within a millisecond or so
_PAUSE_GROWTH = 2.0

CERT = "identity.cert"
KEY = "identity.key"

Sleep = Callable[[float], Awaitable[object]]


def bundle_key(trust_domain: str) -> str:
    """The YAML path of a bundle, which names it in refusals."""
    return f"identity.bundles[{trust_domain}]"


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """
    The bytes of one reading. They are not shown by repr, since one of them is a key.

    bundles:  trust domain name -> PEM
    key_mode: permission bits of the key file, 0o600
    paths:    YAML path -> path on disk, for refusals; may be left empty
    """

    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)
    bundles: Mapping[str, bytes] = field(repr=False)
    key_mode: int = 0o600
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        """SHA-256 over all names and bytes, each with its length: equal for equal contents alone."""
        parts = [(CERT, self.cert), (KEY, self.key)]
        parts += [(bundle_key(name), data) for name, data in sorted(self.bundles.items())]
        whole = hashlib.sha256()
        for name, data in parts:
            for part in (name.encode(), data):
                whole.update(len(part).to_bytes(8, "big"))
                whole.update(part)
        return whole.digest()

    def place(self, key: str) -> str:
        """Name a file for the operator: "identity.cert (/run/svid/tls.crt)"."""
        path = self.paths.get(key)
        return f"{key} ({path})" if path else key


class _File(NamedTuple):
    """One file of one reading; target: the path with all symlinks followed."""

    target: str
    data: bytes
    mode: int


async def read_identity(config: IdentityConfig, *, sleep: Sleep, patience_s: float = PATIENCE_S) -> IdentityFiles:
    """
    Read all identity files as they are together. A file that has several roles is read once.

    sleep:      asyncio.sleep, or a test's own; nothing else suspends here
    patience_s: the sum of all pauses
    Raises:     Rejected(FILES_UNSTABLE), Rejected(FILE_MISSING), or Rejected(PEM_MALFORMED) for more than 1 MiB
    """
    paths = paths_of(config)
    names = _names(paths)
    before: dict[str, _File] | None = None
    refusal = Rejected(Reason.FILES_UNSTABLE, "")
    for pause_s in (*_pauses(patience_s), None):
        try:
            now = _read_all(names)
        except Rejected as rejected:
            # Never final: `..data` of some writers is gone for a moment, and a file may be replaced just now.
            before, refusal = None, rejected
        else:
            if now == before:
                return IdentityFiles(
                    cert=now[config.cert].data,
                    key=now[config.key].data,
                    bundles={domain: now[path].data for domain, path in config.bundles.items()},
                    key_mode=now[config.key].mode,
                    paths=paths,
                )
            refusal = _unstable(before, now, names, patience_s)
            before = now
        if pause_s is not None:
            await sleep(pause_s)
    raise refusal


def paths_of(config: IdentityConfig) -> dict[str, str]:
    """All identity files: YAML path -> path on disk."""
    return {CERT: config.cert, KEY: config.key} | {bundle_key(domain): path for domain, path in config.bundles.items()}


def _names(paths: Mapping[str, str]) -> dict[str, str]:
    """Path -> how refusals call it, once for each path: "identity.cert and identity.key (/run/svid/both.pem)"."""
    keys: dict[str, list[str]] = {}
    for key, path in paths.items():
        keys.setdefault(path, []).append(key)
    return {path: f"{' and '.join(several)} ({path})" for path, several in keys.items()}


def _pauses(patience_s: float) -> Iterable[float]:
    """Growing pauses that add up to patience_s."""
    pause_s = _FIRST_PAUSE_S
    while patience_s > 0:
        yield min(pause_s, patience_s)
        patience_s -= pause_s
        pause_s *= _PAUSE_GROWTH


def _unstable(
    before: Mapping[str, _File] | None, now: Mapping[str, _File], names: Mapping[str, str], patience_s: float
) -> Rejected:
    changed = [name for path, name in names.items() if before is not None and before[path] != now[path]]
    which = ", ".join(changed) if changed else "the identity files"
    return Rejected(Reason.FILES_UNSTABLE, f"{which} kept changing or vanishing for {patience_s:g} s")


def _read_all(names: Mapping[str, str]) -> dict[str, _File]:
    """One reading. A refusal names every file that cannot be read: who mounts a folder wrongly misses all of them."""
    files: dict[str, _File] = {}
    refusals: list[Rejected] = []
    for path, name in names.items():
        try:
            files[path] = _read(path, name)
        except Rejected as rejected:
            refusals.append(rejected)
    if refusals:
        raise Rejected(refusals[0].reason, "; ".join(refusal.detail for refusal in refusals))
    return files


def _read(path: str, name: str) -> _File:
    try:
        target = os.path.realpath(path)
        # Without O_NONBLOCK the open of a FIFO waits for its writer, for ever and with it the loop.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Rejected(
                    Reason.FILE_MISSING, f"{name} is {_kind(status.st_mode)}, and a regular file was expected"
                )
            return _File(target, _read_bytes(descriptor, name), stat.S_IMODE(status.st_mode))
        finally:
            os.close(descriptor)
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Rejected(Reason.FILE_MISSING, f"cannot read {name}: {words}{_rights(path, error)}") from error
    except ValueError as error:
        raise Rejected(Reason.FILE_MISSING, f"cannot read {name}: no file can have such a name") from error


def _read_bytes(descriptor: int, name: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := os.read(descriptor, MAX_FILE_BYTES + 1 - size):
        parts.append(part)
        size += len(part)
        if size > MAX_FILE_BYTES:
            raise Rejected(Reason.PEM_MALFORMED, f"{name} has more than {MAX_FILE_BYTES} bytes; no PEM of ours has")
    return b"".join(parts)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "no file"


def _rights(path: str, error: OSError) -> str:
    """Who we are, and whose the file is: what somebody who has to mend permissions looks up next."""
    if not isinstance(error, PermissionError):
        return f" (we run as uid {os.geteuid()})"
    try:
        status = os.stat(path)
    except OSError:
        return f" (we run as uid {os.geteuid()}, which may not look into a folder above it)"
    owner = f"its owner is uid {status.st_uid}, gid {status.st_gid}, its mode {stat.S_IMODE(status.st_mode):04o}"
    return f" (we run as uid {os.geteuid()}; {owner})"

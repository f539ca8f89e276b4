"""The file of a listening unix socket."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.net import unixsocket


def test_it_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    listening = unixsocket.listen(str(tmp_path / "s"))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    listening.socket.close()


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    unixsocket.listen(str(tmp_path / "s")).socket.close()
    listening = unixsocket.listen(str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
    listening.socket.close()


def test_a_living_listener_is_left_alone(tmp_path: Path) -> None:
    listening = unixsocket.listen(str(tmp_path / "s"))
    with pytest.raises(OSError, match="in use") as caught:
        unixsocket.listen(str(tmp_path / "s"))
    assert caught.value.errno == errno.EADDRINUSE
    assert (tmp_path / "s").stat().st_ino == listening.inode
    listening.socket.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_not_a_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        (tmp_path / "target").write_text("precious")
        path.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="not a socket"):
        unixsocket.listen(str(path))
    assert os.path.lexists(path)


def test_the_file_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = unixsocket.listen(str(path))
    # The file is kept under another name, so that its inode cannot be given to the successor.
    path.rename(tmp_path / "old")
    second = unixsocket.listen(str(path))
    first.unlink()
    assert path.exists()
    second.unlink()
    assert not path.exists()
    second.unlink()
    first.socket.close()
    second.socket.close()

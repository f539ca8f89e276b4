"""
Where a configuration comes from: a path, or `-` for standard input. Opens it, bounded, and hands the bytes to core/.

A file that cannot be read is a fault like any other, so that every caller has one thing to catch and to show.
"""

import os
import sys

import msgspec

from proxy.core.config import Config, ConfigFault
from proxy.core.configfile import ConfigFaults, line_of, read_config
from proxy.core.configyaml import MAX_FILE_BYTES
from proxy.ops.boundedread import PATIENCE_S, read_bounded

STDIN = "-"


class Source(msgspec.Struct, frozen=True):
    """A configuration before it is read. file: what messages call it; base: where relative paths in it start."""

    text: bytes
    file: str
    base: str = ""

    def parse(self) -> Config:
        """Read it. Raises: ConfigFaults."""
        return read_config(self.text, file=self.file, base=self.base)

    def fault(self, path: str, message: str) -> ConfigFaults:
        """What to raise where a key that could be read turns out to be a fault. path: as line_of's"""
        return ConfigFaults(self.file, (ConfigFault(path, message, line_of(self.text, path)),))


def read_source(path: str, *, patience_s: float = PATIENCE_S) -> Source:
    """
    Fetch the bytes of the configuration at `path`.

    patience_s: for a pipe; 0 while the proxy runs, which would stand still for as long
    Raises:     ConfigFaults when there are none to be had
    """
    try:
        if path == STDIN:
            return Source(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "<stdin>")
        text = read_bounded(path, MAX_FILE_BYTES, patience_s=patience_s)  # one byte too many is a fault of its own
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigFaults(path, (ConfigFault("", f"the configuration cannot be read: {why}"),)) from None
    except ValueError:  # what the system says to a NUL
        raise ConfigFaults(path, (ConfigFault("", "that is not the path of a file"),)) from None
    return Source(text, path, os.path.dirname(path))


def read_config_file(path: str) -> Config:
    """
    Read the configuration at `path`; relative paths in it start at its folder (for `-`: at the working directory).

    Raises: ConfigFaults
    """
    return read_source(path).parse()

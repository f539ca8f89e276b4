"""
Where a configuration comes from: a path, or `-` for standard input. Opens it, bounded, and hands the bytes to core/.

A file that cannot be read is a fault like any other, so that every caller has one thing to catch and to show.
"""

import os
import sys

from proxy.core.config import Config, ConfigFault
from proxy.core.configfile import ConfigFaults, read_config
from proxy.core.configyaml import MAX_FILE_BYTES

STDIN = "-"


def read_config_file(path: str) -> Config:
    """
    Read the configuration at `path`; relative paths in it start at its folder (for `-`: at the working directory).

    Raises: ConfigFaults
    """
    try:
        if path == STDIN:
            return read_config(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), file="<stdin>")
        with open(path, "rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)  # /dev/zero has no end; one byte too many is a fault of its own
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigFaults(path, (ConfigFault("", f"the configuration cannot be read: {why}"),)) from None
    except ValueError:  # what open() says to a NUL
        raise ConfigFaults(path, (ConfigFault("", "that is not the path of a file"),)) from None
    return read_config(text, file=path, base=os.path.dirname(path))

"""
A configuration file -> one typed Config, or every fault in it at once.

Three passes, each of which goes on after a fault: YAML to nodes (configyaml.py), nodes to sections by the tables of
configfields.py (configsections.py), and the rules between keys (configrules.py). Only a file without any fault becomes
a Config, so nobody downstream meets half of one. It takes bytes and opens nothing; whether the identity files are there
and good is for tls/material.py.
"""

import dataclasses
from collections import Counter

from proxy.core.config import Config, ConfigFault, ListenAddress, TcpAddress
from proxy.core.configfields import ROOT
from proxy.core.configrules import check_rules
from proxy.core.configsections import read_section
from proxy.core.configyaml import Faults, Mapping, load


class ConfigFaults(Exception):  # noqa: N818  # the operator's faults, as ConfigFault is one
    """A configuration file has faults. str(): one line each, `FILE:LINE: inbound[0].allow: message`, by line."""

    def __init__(self, file: str, faults: tuple[ConfigFault, ...]) -> None:
        super().__init__(file, faults)
        self.file = file
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(self._line(fault) for fault in self.faults)

    def _line(self, fault: ConfigFault) -> str:
        place = self.file if fault.line is None else f"{self.file}:{fault.line}"
        return f"{place}: {fault.path}: {fault.message}" if fault.path else f"{place}: {fault.message}"


def read_config(text: bytes, *, file: str, base: str = "") -> Config:
    """
    Read one configuration file.

    text:   the bytes of the file, at most 1 MiB
    file:   what messages call it
    base:   the folder that relative paths under `identity` start at; empty: the working directory
    Raises: ConfigFaults, with every fault that is independent of the others, sorted by line
    """
    faults = Faults()
    node = load(text, faults)
    root = None if node is None else read_section(ROOT, node, "", faults)
    if root is not None:
        check_rules(root, faults)
    if root is None or faults.found:
        # An alias used twice is read twice: the same fault at the same place is said once. Within a line the order of
        # finding stays, since sorted() is stable.
        once = dict.fromkeys(faults.found)
        raise ConfigFaults(file, tuple(sorted(once, key=lambda fault: fault.line or 0)))
    config = root.build()
    assert isinstance(config, Config), "the root table is Config's"
    return _rebase(_tell_apart(config), base)


def line_of(text: bytes, path: str) -> int | None:
    """
    Where the value of a key stands, for a fault that shows only when the configuration is used.

    path:    keys of mappings, "tls.groups"
    Returns: 1-based; of the innermost section that is there, where the key is absent; None where nothing can be read
    """
    node = load(text, Faults())
    for key in path.split("."):
        inner = [entry.value for entry in node.entries if entry.key == key] if isinstance(node, Mapping) else []
        if not inner:
            break
        node = inner[0]
    return None if node is None else node.line


def _tell_apart(config: Config) -> Config:
    """Number the listeners that leave their port to the kernel: each is to get a socket of its own."""
    seen: Counter[str] = Counter()

    def number(address: ListenAddress) -> ListenAddress:
        if not isinstance(address, TcpAddress) or address.port:
            return address
        seen[address.host] += 1
        return dataclasses.replace(address, nth=seen[address.host] - 1)

    inbound = tuple(dataclasses.replace(one, listen=number(one.listen)) for one in config.inbound)
    outbound = tuple(dataclasses.replace(one, listen=number(one.listen)) for one in config.outbound)
    return dataclasses.replace(config, inbound=inbound, outbound=outbound)


def _rebase(config: Config, base: str) -> Config:
    if not base:
        return config

    def join(path: str) -> str:
        return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"

    identity = dataclasses.replace(
        config.identity,
        cert=join(config.identity.cert),
        key=join(config.identity.key),
        bundles={domain: join(path) for domain, path in config.identity.bundles.items()},
    )
    return dataclasses.replace(config, identity=identity)

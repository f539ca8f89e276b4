"""Configurations for tests: one good file of six lines, and ways to spoil it at a known line."""

import textwrap

from proxy.core.config import Config
from proxy.core.configfile import ConfigFaults, read_config

GOOD = """\
identity: {cert: tls.crt, key: tls.key, bundles: {example.org: ca.crt}}
inbound:
  - name: http
    listen: 0.0.0.0:15006
    upstream: 127.0.0.1:8080
    allow: [spiffe://example.org/ns/web/**]
"""
NEXT_LINE = 7


def with_line(number: int, text: str) -> str:
    """GOOD with one line replaced; its indentation stays, and empty text removes it."""
    lines = GOOD.splitlines(keepends=True)
    old = lines[number - 1]
    indent = "  - " if old.startswith("  - ") else old[: len(old) - len(old.lstrip())]
    lines[number - 1] = f"{indent}{text}\n" if text else ""
    return "".join(lines)


def with_inbound(text: str) -> str:
    """GOOD with more keys of its listener, from line 7 on."""
    return GOOD + textwrap.indent(text, "    ") + "\n"


def with_top(text: str) -> str:
    """GOOD with more keys at the top level, from line 7 on."""
    return GOOD + text + "\n"


def read(text: str | bytes) -> Config:
    return read_config(text.encode() if isinstance(text, str) else text, file="sidecar.yaml")


def faults(text: str | bytes) -> list[tuple[int | None, str, str]]:
    """Line, path and message of every fault; empty where there is none."""
    try:
        read(text)
    except ConfigFaults as found:
        return [(fault.line, fault.path, fault.message) for fault in found.faults]
    return []


def the_fault(text: str | bytes) -> tuple[int | None, str, str]:
    """The only fault of a file."""
    found = faults(text)
    assert len(found) == 1, found
    return found[0]

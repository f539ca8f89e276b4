"""What the pages tell a reader to write or to type works: configurations parse, commands and their options exist."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from proxy.cli.main import COMMANDS, available_commands
from proxy.core.config import AdminConfig, TcpAddress
from proxy.core.configfile import read_config
from proxy.core.reasons import Reason
from tests.docs.reading import PAGES, REPOSITORY, Block, blocks_of, commands_of

CONFIGURATIONS = [
    block for page in PAGES for block in blocks_of(page) if block.language == "yaml" and "identity:" in block.text
]
COMMAND_LINES = [(page, line) for page in PAGES for line in commands_of(page)]


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: f"{block.page.name}-{block.text.splitlines()[0]}")
def test_a_configuration_in_a_page_has_no_fault(block: Block) -> None:
    assert read_config(block.text.encode(), file=block.page.name) is not None


def test_configurations_and_commands_were_found() -> None:
    """Else the other tests of this file would be true of nothing."""
    assert {block.page.name for block in CONFIGURATIONS} >= {"README.md", "operations.md"}
    assert {line.split()[0] for _, line in COMMAND_LINES} >= available_commands().keys() - {"demo"}


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES, ids=str)
def test_a_command_in_a_page_exists_with_its_options(page: Path, line: str) -> None:
    words = shlex.split(line, comments=True)
    command = words[0].strip(":,.")
    if command.isupper() or command.startswith("-"):  # COMMAND, --version
        return
    assert command in COMMANDS, f"{page.name}: mtls-sidecar {line}"
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    subcommand = words[1:2] if command in ("certs", "report", "bench") else []
    assert options - options_of(command, *subcommand) == set(), f"{page.name}: mtls-sidecar {line}"


@cache
def options_of(*command: str) -> set[str]:
    shown = subprocess.run(
        [sys.executable, "-m", "proxy", *command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(re.findall(r"--[a-z][a-z-]*", shown.stdout))


def test_every_command_is_in_the_readme_or_the_changelog() -> None:
    text = (REPOSITORY / "README.md").read_text() + (REPOSITORY / "CHANGELOG.md").read_text()
    assert {name for name in available_commands() if f"`{name}`" not in text} == set()


def test_the_words_of_the_table_of_modes_are_reasons_or_relays() -> None:
    rows = [line for line in (REPOSITORY / "docs" / "modes.md").read_text().splitlines() if line.startswith("|")]
    cells = {cell.strip() for row in rows[2:] for cell in row.strip("|").split("|")[1:]}
    relays = {"relayed plaintext", "relayed mutual_tls", "relayed app_tls"}
    assert cells - relays - set(Reason) == set()
    assert cells >= relays


def test_the_troubleshooting_table_names_reasons_alone() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    words = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", page))
    assert words - set(Reason) == set()


def test_the_image_asks_the_admin_listener_at_its_default_address_for_its_health() -> None:
    found = re.search(r"^ +CMD (\[.*\])$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    program = json.loads(found.group(1))[-1]
    default = AdminConfig().listen
    assert isinstance(default, TcpAddress)
    assert f"('{default.host}', {default.port}, timeout=2)" in program
    compile(program, "HEALTHCHECK", "exec")


def test_every_dependency_has_its_line() -> None:
    page = (REPOSITORY / "docs" / "dependencies.md").read_text()
    lists = [file.read_text() for file in (REPOSITORY / "requirements").glob("*.in")]
    names = set(re.findall(r"^([a-z][a-z0-9-]*)", "\n".join(lists), re.MULTILINE))
    assert {name for name in names if not re.search(rf"^\| (?:[\w, -]+, )?{name}\b", page, re.MULTILINE)} == set()

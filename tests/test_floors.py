"""The rules of the house that no linter knows (docs/architecture.md), read from the source with `ast`."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "proxy"
TREES = {
    file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py")
}

FLOORS = ("core", "tls", "net", "ops", "pod", "lab", "cli")  # from the ground up; imports point down
NOT_IN_CORE = {"asyncio", "OpenSSL", "socket", "ssl", "os", "time", "random", "secrets", "structlog"}
MAX_LINES = 400
TASK_OWNERS = {"net/server.py", "ops/http.py"}  # where a task that is no TaskGroup's is kept until its end
WORDS_OF_NO_VERIFICATION = {"VERIFY_NONE", "CERT_NONE", "SSL_VERIFY_NONE"}


def imports() -> Iterator[tuple[str, str]]:
    """Every (file, module) of an import, wherever it stands; `from proxy.tls import x` is proxy.tls.x."""
    for file, node in nodes():
        if isinstance(node, ast.Import):
            yield from ((file, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((file, f"{'.' * node.level}{node.module}.{alias.name}") for alias in node.names)


def nodes() -> Iterator[tuple[str, ast.AST]]:
    return ((file, node) for file, tree in TREES.items() for node in ast.walk(tree))


def floor_of(file: str) -> int:
    """The number of a file's floor; `__init__` and `__main__` stand above all."""
    room, _, rest = file.partition("/")
    return FLOORS.index(room) if rest else len(FLOORS)


def test_the_floors_are_these() -> None:
    assert {file.partition("/")[0] for file in TREES if "/" in file} == set(FLOORS)


def test_imports_point_down() -> None:
    """TYPE_CHECKING imports count too: a type of a higher floor is knowledge of it."""
    ours = [(file, module.split(".")) for file, module in imports() if module.startswith("proxy.")]
    upward = [
        f"{file} imports {'.'.join(parts)}"
        for file, parts in ours
        if parts[1] in FLOORS and FLOORS.index(parts[1]) > floor_of(file)
    ]
    assert upward == []


def test_imports_are_absolute() -> None:
    assert [f"{file} imports {module}" for file, module in imports() if module.startswith(".")] == []


def test_the_core_is_pure() -> None:
    impure = [f"{file} imports {module}" for file, module in imports() if module.partition(".")[0] in NOT_IN_CORE]
    assert [line for line in impure if line.startswith("core/")] == []


def test_openssl_lives_in_tls_alone() -> None:
    users = {file for file, module in imports() if module.partition(".")[0] == "OpenSSL"}
    assert {file for file in users if not file.startswith("tls/")} == set()


def test_what_pyopenssl_does_not_publish_is_touched_in_one_file() -> None:
    touching = {file for file, node in nodes() if isinstance(node, ast.Attribute) and node.attr in ("_lib", "_ffi")}
    assert touching == {"tls/binding.py"}


def test_boringssl_is_imported_in_one_file() -> None:
    assert {file for file, module in imports() if module.startswith("mtls_sidecar_boringssl")} == {
        "tls/boringbinding.py"
    }


def test_every_task_has_an_owner() -> None:
    """The linter bans asyncio.create_task; this is the same method on a loop, which it does not see."""
    calls = [(file, node.func) for file, node in nodes() if isinstance(node, ast.Call)]
    ownerless = [
        f"{file}:{function.lineno} {ast.unparse(function)}"
        for file, function in calls
        if isinstance(function, ast.Attribute) and function.attr in ("create_task", "ensure_future")
        if file not in TASK_OWNERS and ast.unparse(function) != "tasks.create_task"  # a TaskGroup, by its name here
    ]
    assert ownerless == []


def test_no_state_is_global() -> None:
    assert [f"{file}:{node.lineno}" for file, node in nodes() if isinstance(node, ast.Global)] == []


def test_verification_is_never_off() -> None:
    words = [(file, getattr(node, "attr", None) or getattr(node, "id", None)) for file, node in nodes()]
    assert [(file, word) for file, word in words if word in WORDS_OF_NO_VERIFICATION] == []


def test_a_file_has_at_most_400_lines() -> None:
    lines = {file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in TREES}
    assert {file for file, count in lines.items() if count > MAX_LINES} == set()


def test_every_room_is_in_the_architecture_page() -> None:
    """A room that the page does not name is a room that a newcomer does not find."""
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {file for file in TREES if not file.endswith("__.py")}
    assert {room for room in rooms if f"`{room}`" not in page} == set()

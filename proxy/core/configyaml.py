"""
YAML bytes -> plain nodes that know their line. What a key means is configfields.py's; this file knows none.

PyYAML's safe loader scans, parses and composes; values are never constructed, so no tag can make an object. Nodes keep
the text as it was written, because YAML 1.1 (PyYAML) and 1.2 (editors) read some of it differently: `off`, `010`,
`1:30`. The readers of configkinds.py accept only what both read alike.

Everything is bounded before it is followed: bytes of the file, depth, and nodes counted after aliases are expanded
(a short file of aliases to aliases unfolds into millions: "billion laughs"). A fault of the syntax ends the reading,
for what follows it cannot be trusted; duplicate keys and the like are collected, and the reading goes on.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

import yaml

from proxy.core.config import ConfigFault
from proxy.core.spiffe import quote

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000

_TAG = "tag:yaml.org,2002:"


class ScalarType(StrEnum):
    """What PyYAML takes a scalar for; the value is how a message names it."""

    STRING = "text"
    INT = "a number"
    FLOAT = "a decimal number"
    BOOL = "a boolean"
    NULL = "nothing (null)"
    DATE = "a date"
    MERGE = "a merge key"
    VALUE = "text that YAML reserves"


_SCALAR_TYPES = {
    f"{_TAG}str": ScalarType.STRING,
    f"{_TAG}int": ScalarType.INT,
    f"{_TAG}float": ScalarType.FLOAT,
    f"{_TAG}bool": ScalarType.BOOL,
    f"{_TAG}null": ScalarType.NULL,
    f"{_TAG}timestamp": ScalarType.DATE,
    f"{_TAG}merge": ScalarType.MERGE,
    f"{_TAG}value": ScalarType.VALUE,
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, as the text of the file. line: 1-based, as in every node."""

    type: ScalarType
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: "tuple[Node, ...]"
    line: int


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One `key: value`.

    repeated: the key stood in this mapping before, and a fault says so
    type:     what PyYAML takes the key for: text, or a number, which is a key where ports are keys
    """

    key: str
    value: "Node"
    line: int
    repeated: bool
    type: ScalarType = ScalarType.STRING

    def check_is_text(self, path: str, faults: "Faults") -> None:
        """Note a fault where the key is a number. path: of the key"""
        if self.type is not ScalarType.STRING:
            faults.add(path, self.line, f"YAML reads this key as {self.type.value}; write it in quotes")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Entries in the order of the file, repeated ones included, so that their faults are found as well."""

    entries: tuple[Entry, ...]
    line: int


Node = Scalar | Sequence | Mapping


@dataclass(slots=True)
class Faults:
    """Where one reading gathers what it finds."""

    found: list[ConfigFault] = field(default_factory=list)

    def add(self, path: str, line: int | None, message: str) -> None:
        """Note one fault and go on."""
        self.found.append(ConfigFault(path, message, line))


def describe(node: Node) -> str:
    """What a message calls a node that is not what was expected."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.type is ScalarType.NULL:
        return ScalarType.NULL.value
    return f"{node.type.value} {quote(node.text)}"


def child_path(path: str, key: str) -> str:
    """The YAML path of a key: `tls.groups`, `identity.bundles['example.org']`."""
    if key.isidentifier() and key.isascii():
        return f"{path}.{key}" if path else key
    return f"{path}[{quote(key)}]"


class _Unreadable(Exception):  # noqa: N818  # it carries a ConfigFault
    """The file cannot be read any further."""

    def __init__(self, message: str, *, line: int | None, path: str = "") -> None:
        super().__init__(message)
        self.fault = ConfigFault(path, message, line)


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's composer, which recurses, with a depth and a count."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, unless it is one too many."""
        self.depth += 1
        self.count += 1
        _check_bounds(self.depth, self.count, self.line + 1)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _check_bounds(depth: int, count: int, line: int) -> None:
    if depth > MAX_DEPTH:
        raise _Unreadable(f"nested more than {MAX_DEPTH} levels deep; no configuration needs that", line=line)
    if count > MAX_NODES:
        raise _Unreadable(f"more than {MAX_NODES} values (aliases counted where they are used)", line=line)


def load(text: bytes, faults: Faults) -> Node | None:
    """
    Read one YAML document.

    Returns: its root, or None where nothing can be read; then and for what is wrong inside, `faults` has grown
    """
    try:
        root = _compose(_decode(text))
        if root is None:
            raise _Unreadable("the file is empty; `identity` and a listener are the least", line=1)
        return _Converter(faults).convert(root, path="", depth=1)
    except _Unreadable as refused:
        faults.found.append(refused.fault)
        return None


def _decode(text: bytes) -> str:
    if len(text) > MAX_FILE_BYTES:
        raise _Unreadable(f"the file has more than {MAX_FILE_BYTES} bytes", line=None)
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _Unreadable(f"not UTF-8: byte 0x{text[error.start]:02x} cannot stand here", line=line) from None


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _BoundedLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Unreadable(
            f"the character U+{ord(text[error.position]):04X} is not allowed in YAML", line=line
        ) from None
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(error)
    except (ValueError, ArithmeticError):
        # PyYAML lets Python's own errors through for an impossible escape ("\UFFFFFFFF") or a %YAML version of
        # thousands of digits; the reader's position is the nearest known line.
        raise _Unreadable("not valid YAML: an escape or a directive is out of range", line=loader.line + 1) from None
    finally:
        loader.dispose()


def _refuse_syntax(error: yaml.MarkedYAMLError) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "the syntax is broken"
    if "another document" in problem:
        message = "a second YAML document begins here (`---`); a configuration is one document"
    elif "'\\t'" in problem:
        message = "not valid YAML: a tab stands where only spaces may indent"
    else:
        message = f"not valid YAML: {problem}" + (f" ({error.context})" if error.context and error.problem else "")
    raise _Unreadable(message, line=mark.line + 1 if mark else None) from None


class _Converter:
    """yaml.Node -> Node, aliases expanded under a count, duplicate keys found."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._count = 0
        self._open: set[int] = set()  # ids of the collections that are being converted, to see one inside itself

    def convert(self, node: yaml.Node, *, path: str, depth: int) -> Node:
        line = node.start_mark.line + 1
        self._count += 1
        _check_bounds(depth, self._count, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, line)
        if id(node) in self._open:
            raise _Unreadable("an alias stands inside the value that it names, so it never ends", line=line, path=path)
        if node.tag != (f"{_TAG}seq" if isinstance(node, yaml.SequenceNode) else f"{_TAG}map"):
            self._faults.add(path, line, f"the tag {quote(node.tag)} means nothing here; remove it")
        self._open.add(id(node))
        converted: Node
        if isinstance(node, yaml.SequenceNode):
            items = (self.convert(item, path=f"{path}[{i}]", depth=depth + 1) for i, item in enumerate(node.value))
            converted = Sequence(tuple(items), line)
        else:
            assert isinstance(node, yaml.MappingNode), "YAML has three kinds of nodes"
            converted = Mapping(tuple(self._entries(node, path, depth)), line)
        self._open.discard(id(node))
        return converted

    def _scalar(self, node: yaml.ScalarNode, path: str, line: int) -> Scalar:
        kind = _SCALAR_TYPES.get(node.tag)
        if kind is None:
            self._faults.add(path, line, f"the tag {quote(node.tag)} means nothing here; remove it")
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in node.value):
            # Escapes can spell what neither a path, nor a log line, nor a header can carry.
            self._faults.add(path, line, "a NUL or half of a surrogate pair cannot stand in a value")
        return Scalar(kind or ScalarType.STRING, node.value, line)

    def _entries(self, node: yaml.MappingNode, path: str, depth: int) -> list[Entry]:
        first_lines: dict[str, int] = {}
        entries = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._faults.add(path, line, "a key must be text, not a list or a mapping")
                continue
            key = self._scalar(key_node, path, line)
            here = child_path(path, key.text)
            if key.type is ScalarType.MERGE:
                self._faults.add(
                    here, line, "merge keys (`<<`) are not part of YAML 1.2; use an alias for whole values"
                )
                continue
            if key.type not in (ScalarType.STRING, ScalarType.INT):
                self._faults.add(here, line, f"YAML reads this key as {key.type.value}; write it in quotes")
            repeated = key.text in first_lines
            if repeated:
                self._faults.add(here, line, f"the key stands twice; the first is on line {first_lines[key.text]}")
            first_lines.setdefault(key.text, line)
            entries.append(
                Entry(key.text, self.convert(value_node, path=here, depth=depth + 1), line, repeated, key.type)
            )
        return entries

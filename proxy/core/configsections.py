"""
Nodes -> sections, by the tables of configfields.py: unknown keys, missing keys, and each value by its Kind.

A Section is a mapping of the file that has been read key by key: what is known of it, what was faulty and where each
key stood. The rules between keys work on sections, because they need the lines; a Config is built when none objects.
"""

from dataclasses import dataclass, field
from typing import Any

from proxy.core.configfields import HOMES
from proxy.core.configkinds import BAD, suggestion
from proxy.core.confignumbers import port_kind
from proxy.core.configtables import Field, ListOfTables, Null, Table, TablesByPort
from proxy.core.configyaml import Entry, Faults, Mapping, Node, Scalar, ScalarType, Sequence, child_path, describe


@dataclass(slots=True)
class Section:
    """
    One mapping of the file.

    line:   where it begins
    values: key -> typed value (a Section, or a tuple of them, where the key is a section), BAD where it is faulty
    lines:  key -> where its value begins, for every key that stands in the file
    """

    table: Table
    path: str
    line: int
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def get(self, name: str) -> Any:  # the table's Kind decides the type
        """The value, the default where the key is absent, BAD where it is faulty or required and missing."""
        if name in self.values:
            return self.values[name]
        return BAD if self.table.is_required(name) else self.table.default(name)

    def where(self, name: str) -> tuple[str, int]:
        """Path and line of a key; the line of the section where the key is absent."""
        return child_path(self.path, name), self.lines.get(name, self.line)

    def sections(self, name: str) -> "list[Section]":
        """The readable sections under a key: none, one, or those of a list."""
        value = self.values.get(name)
        if isinstance(value, Section):
            return [value]
        return [item for item in value if isinstance(item, Section)] if isinstance(value, tuple) else []

    def build(self) -> Any:  # an instance of table.cls
        """The dataclass of a section without any fault."""
        return self.table.cls(**{name: _built(value) for name, value in self.values.items()})


def _built(value: object) -> object:
    if isinstance(value, Section):
        return value.build()
    return tuple(_built(item) for item in value) if isinstance(value, tuple) else value


def read_section(table: Table, node: Node, path: str, faults: Faults, *, whole: bool = True) -> Section | None:
    """
    Read every key of a mapping, faulty neighbours or not; None where there is no mapping to read.

    whole: every required key has to be there; False for a section that stands twice, whose halves may make one
    """
    if not isinstance(node, Mapping):
        keys = ", ".join(row.name for row in table.fields)
        faults.add(path, node.line, f"expected a mapping with the keys {keys}; got {describe(node)}")
        return None
    rows = {row.name: row for row in table.fields}
    section = Section(table, path, node.line)
    for entry in node.entries:
        entry.check_is_text(child_path(path, entry.key), faults)
        row = rows.get(entry.key)
        if row is None:
            faults.add(child_path(path, entry.key), entry.line, _unknown_key(table, entry.key))
        else:
            _read_entry(section, row, entry, faults)
    for row in table.fields:
        if whole and table.is_required(row.name) and row.name not in section.lines:
            faults.add(child_path(path, row.name), node.line, f"missing, and required: {row.meaning}")
    return section


def _read_entry(section: Section, row: Field, entry: Entry, faults: Faults) -> None:
    path = child_path(section.path, row.name)
    node = entry.value
    value: object
    if isinstance(node, Scalar) and node.type is ScalarType.NULL and row.null is not Null.FAULT:
        if row.null is Null.DEFAULT:
            return
        value = None
    elif isinstance(row.kind, Table):
        found = read_section(row.kind, node, path, faults, whole=not entry.repeated)
        value = BAD if found is None else found
    elif isinstance(row.kind, ListOfTables):
        value = _read_sections(row.kind, node, path, faults)
    elif isinstance(row.kind, TablesByPort):
        value = _read_by_port(row.kind, node, path, faults)
    else:
        value = row.kind.read(node, path, faults)
    if not entry.repeated:  # a repeated key is read for its faults alone; that it is repeated is noted already
        section.values[row.name] = value
        section.lines[row.name] = entry.value.line


def _read_sections(kind: ListOfTables, node: Node, path: str, faults: Faults) -> object:
    if not isinstance(node, Sequence):
        hint = f"; a {kind.item} begins with `- name: ...`" if isinstance(node, Mapping) else ""
        faults.add(path, node.line, f"expected a list of {kind.item}s, got {describe(node)}{hint}")
        return BAD
    # What is no mapping stays in the list as BAD: the file did mean to have a section there.
    sections = [read_section(kind.table, item, f"{path}[{i}]", faults) for i, item in enumerate(node.items)]
    return tuple(BAD if section is None else section for section in sections)


def _read_by_port(kind: TablesByPort, node: Node, path: str, faults: Faults) -> object:
    """The sections, each of which holds its key as `port`."""
    if not isinstance(node, Mapping):
        faults.add(path, node.line, f"expected a mapping from ports to policies, got {describe(node)}")
        return BAD
    sections: list[object] = []
    for entry in node.entries:
        here = child_path(path, entry.key)
        # Text of digits is a port too: JSON, and what templates make of it, can have no other keys.
        kind_of_key = ScalarType.INT if entry.key.isdecimal() else entry.type
        port = port_kind().read(Scalar(kind_of_key, entry.key, entry.line), here, faults)
        section = read_section(kind.table, entry.value, here, faults, whole=not entry.repeated)
        if section is not None:
            section.values["port"], section.lines["port"] = port, entry.line
        sections.append(BAD if section is None or port is BAD else section)
    return tuple(sections)


def _unknown_key(table: Table, key: str) -> str:
    if key in HOMES:  # before the spelling: a key that exists was hardly meant to be another one
        return f"unknown key here; it belongs {' or '.join(HOMES[key])}"
    near = suggestion(key, (row.name for row in table.fields))
    if near:
        return f"unknown key; {near}"
    return f"unknown key; known here are {', '.join(row.name for row in table.fields)}"

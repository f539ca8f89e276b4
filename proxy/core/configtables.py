"""
What the tables of the configuration are made of: a section is a Table of Fields, and a Field holds a Kind, a Table, a
list of Tables or a mapping from ports to Tables.
"""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.core.configkinds import Kind


class Null(StrEnum):
    """What `key: null` (or a key with nothing behind it) means."""

    FAULT = "fault"  # an empty `deny:` may be a slip of the editor: say so instead of guessing
    DEFAULT = "default"
    OFF = "off"  # the value None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key. demand: when an absent key is a fault, as docs say it; empty: never."""

    name: str
    kind: "Kind | Table | ListOfTables | TablesByPort"
    meaning: str
    null: Null = Null.FAULT
    demand: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One section: the dataclass that it becomes, and its keys."""

    cls: type[Any]
    meaning: str
    fields: tuple[Field, ...]

    def default(self, name: str) -> object:
        """The default of a key; dataclasses.MISSING where there is none."""
        return next(row.default for row in dataclasses.fields(self.cls) if row.name == name)

    def is_required(self, name: str) -> bool:
        """Whether the key must stand in every file."""
        return self.default(name) is dataclasses.MISSING


@dataclass(frozen=True, slots=True)
class ListOfTables:
    """A list of sections of one form. item: what one of them is to an operator."""

    table: Table
    item: str = "listener"


@dataclass(frozen=True, slots=True)
class TablesByPort:
    """A mapping from TCP ports to sections of one form, whose dataclass has the port as its field `port`."""

    table: Table

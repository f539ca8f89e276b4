"""
What a value of the configuration can be: each Kind reads a node, says in words what it expects, and is a JSON Schema.

The three stand side by side so that a message, docs/configuration.md and config/schema.json cannot disagree. A reader
never stops at a fault: it notes it and returns BAD, and its neighbours are read all the same. Numbers and booleans are
confignumbers.py's.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Protocol

from proxy.core.configyaml import Faults, Node, Scalar, ScalarType, Sequence, child_path, describe
from proxy.core.configyaml import Mapping as MappingNode
from proxy.core.reasons import Rejected
from proxy.core.spiffe import PatternFault, parse_trust_domain, quote

Schema = Mapping[str, object]

MAX_SUGGESTED_CHARS = 64  # difflib is quadratic in the length; no key or word is nearly as long


class Bad(Enum):
    """The one value of a node that was faulty; the fault is noted, so nothing more is said about it."""

    BAD = "bad"


BAD: Final = Bad.BAD


class Wrong(ValueError):  # noqa: N818  # turned into a ConfigFault where path and line are known
    """Why one scalar is not what was expected; str() is the message."""


class Kind(Protocol):
    """What a value can be."""

    @property
    def words(self) -> str:
        """What is expected, as the middle of a sentence: "a number of seconds, 0 or more"."""

    def schema(self) -> Schema:
        """The JSON Schema of the value. It takes everything that `read` takes, and may take more."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """The typed value, or BAD with at least one more fault."""


@dataclass(frozen=True, slots=True)
class ScalarKind:
    """One scalar. parse: the scalar -> the value; raises Wrong."""

    words: str
    json: Schema
    parse: Callable[[Scalar], object]

    def schema(self) -> Schema:
        """As given."""
        return self.json

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """Parse a scalar; refuse a list, a mapping and null."""
        if not isinstance(node, Scalar) or node.type is ScalarType.NULL:
            faults.add(path, node.line, f"expected {self.words}, got {describe(node)}")
            return BAD
        try:
            return self.parse(node)
        except Wrong as wrong:
            faults.add(path, node.line, str(wrong))
            return BAD


@dataclass(frozen=True, slots=True)
class ListKind:
    """A list of one kind. unique: the same text twice is a fault (lists of sections have their own rules)."""

    item: Kind
    words: str
    least: int = 0
    most: int = 4096
    unique: bool = True

    def schema(self) -> Schema:
        """An array."""
        bounds = {"minItems": self.least, "maxItems": self.most, "uniqueItems": self.unique}
        return {"type": "array", "items": self.item.schema(), **bounds}

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """Read every item, whatever becomes of the others."""
        if not isinstance(node, Sequence):
            hint = "; put it in brackets: [...]" if isinstance(node, Scalar) and node.type is ScalarType.STRING else ""
            faults.add(path, node.line, f"expected {self.words}, got {describe(node)}{hint}")
            return BAD
        values = [self.item.read(item, f"{path}[{i}]", faults) for i, item in enumerate(node.items)]
        if not self.least <= len(values) <= self.most:
            amount = f"at least {self.least}" if len(values) < self.least else f"at most {self.most}"
            faults.add(path, node.line, f"expected {self.words}: {amount}, got {len(values)}")
            return BAD
        if BAD in values or (self.unique and self._repeats(node, values, path, faults)):
            return BAD
        return tuple(values)

    def _repeats(self, node: Sequence, values: list[object], path: str, faults: Faults) -> bool:
        first: dict[object, int] = {}
        for i, value in enumerate(values):
            if first.setdefault(value, i) != i:
                faults.add(f"{path}[{i}]", node.items[i].line, f"the same as [{first[value]}]; remove one")
        return len(first) < len(values)


@dataclass(frozen=True, slots=True)
class BundlesKind:
    """Trust domain -> path of its PEM roots; at least one."""

    path: Kind
    words: str = "a mapping from a trust domain to the PEM file of its roots"

    def schema(self) -> Schema:
        """An object whose keys are trust domains."""
        names = {"pattern": "^[a-z0-9._-]+$", "maxLength": 255}
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": names,
            "additionalProperties": self.path.schema(),
        }

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """Read every entry; the key must be the bare name of a trust domain."""
        if not isinstance(node, MappingNode):
            faults.add(path, node.line, f"expected {self.words}, got {describe(node)}")
            return BAD
        if not node.entries:
            faults.add(
                path, node.line, f"expected {self.words}, got an empty one; without roots no peer can be verified"
            )
            return BAD
        bundles: dict[str, object] = {}
        for entry in node.entries:
            here = child_path(path, entry.key)
            entry.check_is_text(here, faults)
            try:
                parse_trust_domain(entry.key)
            except Rejected as rejected:
                faults.add(here, entry.line, f"expected the name of a trust domain: {rejected.detail}")
            bundles[entry.key] = self.path.read(entry.value, here, faults)
        return BAD if BAD in bundles.values() else bundles


def text_kind(words: str, parse: Callable[[str], object], *, most_chars: int = 2048, **schema: object) -> ScalarKind:
    """A kind of text. parse: the text -> the value; raises ValueError with a sentence that does not repeat the text."""

    def read(scalar: Scalar) -> object:
        if not scalar.text:
            raise Wrong(f"expected {words}, got empty text")
        if len(scalar.text) > most_chars:
            raise Wrong(f"expected {words}, got {len(scalar.text)} characters; the most is {most_chars}")
        try:
            value = parse(scalar.text)
        except PatternFault as fault:
            raise Wrong(str(fault)) from None  # it quotes the pattern itself
        except ValueError as error:
            raise Wrong(f"expected {words}, got {quote(scalar.text)}: {error}") from None
        if scalar.type is not ScalarType.STRING:
            raise Wrong(f"expected {words}; YAML reads {quote(scalar.text)} as {scalar.type.value}: write it in quotes")
        return value

    return ScalarKind(words, {"type": "string", "minLength": 1, "maxLength": most_chars, **schema}, read)


def choice_kind(
    words: Iterable[str],
    *,
    bare: Mapping[str, str] | None = None,
    hints: Mapping[str, str] | None = None,
    number: bool = False,
) -> ScalarKind:
    """
    One of some words.

    bare:   what YAML may read as something else than text -> the word that it means
    hints:  other spellings, in lower case -> what to say about them
    number: the words look like numbers ("1.2"), so they may stand without quotes
    """
    allowed = tuple(words)
    expected = f"one of {', '.join(allowed)}" if len(allowed) > 1 else allowed[0]

    def parse(scalar: Scalar) -> str:
        text = (bare or {}).get(scalar.text.lower(), scalar.text)
        if text in allowed and (scalar.type is ScalarType.STRING or number or text != scalar.text):
            return text
        hint = (hints or {}).get(text.lower()) or suggestion(text, allowed)
        if scalar.type is ScalarType.BOOL and not hint:
            hint = "YAML reads this word as a boolean"
        raise Wrong(f"expected {expected}, got {quote(scalar.text)}" + (f"; {hint}" if hint else ""))

    values: list[object] = list(allowed)
    if number:
        values += [float(word) for word in allowed]
    if bare:
        values += [*bare, False]  # a YAML 1.1 reader sees false, a 1.2 reader the word
    return ScalarKind(expected, {"enum": values}, parse)


def enum_kind(
    words: type[StrEnum],
    *,
    bare: Mapping[str, str] | None = None,
    hints: Mapping[str, str] | None = None,
    only: Iterable[str] = (),
) -> ScalarKind:
    """One member of an enum. only: the members that are open to the operator, where not all are."""
    choice = choice_kind(tuple(only) or tuple(words), bare=bare, hints=hints)
    return ScalarKind(choice.words, choice.json, lambda scalar: words(str(choice.parse(scalar))))


def suggestion(text: str, allowed: Iterable[str]) -> str:
    """`did you mean X?` for a near miss in spelling or case, else nothing."""
    if len(text) > MAX_SUGGESTED_CHARS:
        return ""
    by_lower = {word.lower(): word for word in allowed}
    near = difflib.get_close_matches(text.lower().replace("-", "_"), by_lower, n=1, cutoff=0.7) or (
        difflib.get_close_matches(text.lower(), by_lower, n=1, cutoff=0.7)
    )
    return f"did you mean `{by_lower[near[0]]}`?" if near else ""

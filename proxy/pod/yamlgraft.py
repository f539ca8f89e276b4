"""
Changed values grafted on to a document that knows its comments: only what differs is touched.

ruamel.yaml reads a document into mappings and lists that carry comments, styles and anchors. Injection works on plain
values. `plain` makes these of a document, and `graft` brings the changes back, key by key: a key that is unchanged
keeps whatever its author wrote around it.

What is grafted is text that two generations of YAML must read alike: Kubernetes reads YAML 1.1, where `on` is true and
`1_0` a number, so whatever is not plainly a word is quoted.
"""

import re
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, SingleQuotedScalarString

from proxy.pod.refusal import Refused

MAX_NODES = 500_000  # a document of kilobytes can stand for more than any machine holds, by aliases of aliases
MAX_DEPTH = 100

_TEXT_TAG = "tag:yaml.org,2002:str"  # `!!str 1`
_PLAIN = re.compile(r"-{0,2}[A-Za-z/][A-Za-z0-9_./?=&*+@-]*(:[A-Za-z0-9_./?=&*+@-]+)*")
_SIMPLE = re.compile(r"[\x20-\x26\x28-\x7e]*\"[\x20-\x26\x28-\x7e]*")  # holds double quotes and no single ones
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def plain(node: object) -> Any:
    """The values of a document alone. Raises: Refused for one that is too large, too deep, or contains itself."""
    return _Plain().of(node, 0)


class _Plain:
    def __init__(self) -> None:
        self._nodes = 0

    def of(self, node: object, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise Refused(["The document is too large or too deep, or stands for too much by its aliases."])
        if isinstance(node, dict):
            return {self.of(key, depth + 1): self.of(value, depth + 1) for key, value in node.items()}
        if isinstance(node, list):
            return [self.of(item, depth + 1) for item in node]
        if isinstance(node, bool) or node is None:
            return node
        for kind in (str, int, float):
            if isinstance(node, kind):
                return kind(node)
        if isinstance(node, TaggedScalar) and str(node.tag) == _TEXT_TAG:
            return str(node.value)
        return node  # a date, or a value with a tag: none of ours to look into


def graft(node: Any, old: Any, new: Any) -> None:
    """Change a document, whose plain value is `old`, so that it is `new`. Both are mappings."""
    for key in old.keys() - new.keys():
        del node[key]
    for at, (key, value) in enumerate(new.items()):
        if key not in old:
            node.insert(at, key, adopt(value))
        elif _differs(old[key], value):
            _graft_inner(node, key, old[key], value)


def _graft_inner(node: Any, key: Any, old: Any, new: Any) -> None:
    inner = node[key]
    # What an anchor names is read in other places as well, and only this one is to change.
    if getattr(getattr(inner, "anchor", None), "value", None) is None:
        if isinstance(inner, CommentedMap) and isinstance(old, dict) and isinstance(new, dict):
            graft(inner, old, new)
            return
        if isinstance(inner, CommentedSeq) and _are_named(old) and _are_named(new):
            _graft_list(inner, old, new)
            return
    fresh = adopt(new)
    _move_comment(node, key, _width(fresh) - _width(inner))
    node[key] = fresh


def _move_comment(node: Any, key: Any, by: int) -> None:
    """Keep the gap between a value and the comment behind it, or the way back would not lead to the same text."""
    tokens = node.ca.items.get(key)
    behind = tokens[2] if isinstance(node, CommentedMap) and tokens and len(tokens) > 2 else None
    if behind is not None and by:
        behind.column = max(0, behind.column + by)


def _width(value: object) -> int:
    """How long a scalar is where it stands."""
    return len(str(value)) + (2 if isinstance(value, DoubleQuotedScalarString | SingleQuotedScalarString) else 0)


def _graft_list(node: Any, old: list[Any], new: list[Any]) -> None:
    """A list of which every item has a name of its own: containers, volumes, objects."""
    names = {_name(item) for item in new}
    for number in reversed(range(len(old))):
        if _name(old[number]) not in names:
            comments = node.ca.items.get(number)
            del node[number]
            # What stands in front of an item belongs to whatever follows now.
            if comments is not None and number < len(node):
                node.ca.items.setdefault(number, comments)
    known = {_name(item): item for item in old}
    for number, item in enumerate(new):
        before = known.get(_name(item))
        if before is None:
            node.insert(number, adopt(item))
        elif _differs(before, item):
            _graft_inner(node, number, before, item)


def _are_named(value: object) -> bool:
    if not isinstance(value, list):
        return False
    names = [_name(item) for item in value]
    return None not in names and len(set(names)) == len(names)


def _name(item: object) -> object:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("name"), str):
        return item["name"]
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or "kind" not in item:
        return None
    return str(item["kind"]), str(metadata.get("namespace")), str(metadata.get("name"))


def _differs(old: object, new: object) -> bool:
    return bool(old != new) or (isinstance(old, dict) and isinstance(new, dict) and list(old) != list(new))


def adopt(value: Any) -> Any:
    """A plain value as a document holds it, in block style."""
    if isinstance(value, dict):
        return CommentedMap((key, adopt(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return CommentedSeq(adopt(item) for item in value)
    if not isinstance(value, str):
        return value
    if "\n" in value and not re.search(r"[^\n\x20-\x7e]|[ \t]\n|^[ \n]", value):
        return LiteralScalarString(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value  # and quoted by the writer where its syntax demands it
    return SingleQuotedScalarString(value) if _SIMPLE.fullmatch(value) else DoubleQuotedScalarString(value)

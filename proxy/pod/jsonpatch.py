"""
The difference between two JSON values as a JSON Patch (RFC 6902), in the few operations that injection needs.

Lists of named things (containers, volumes) are compared by name, so that a patch says what was added and where, and an
audit log shows that the application's own containers were not touched. Any other list that differs is replaced.
"""

from typing import Any

Operation = dict[str, Any]


def difference(old: Any, new: Any, path: str = "") -> list[Operation]:
    """The operations that make `new` of `old`, to be applied in order."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return _of_mappings(old, new, path)
    if isinstance(old, list) and isinstance(new, list):
        names, new_names = _names(old), _names(new)
        if names is not None and new_names is not None and _kept(names, new_names) == _kept(new_names, names):
            return _of_lists(old, new, path, set(names), set(new_names))
    return [{"op": "replace", "path": path, "value": new}]


def _of_mappings(old: dict[str, Any], new: dict[str, Any], path: str) -> list[Operation]:
    operations = [{"op": "remove", "path": f"{path}/{_escape(key)}"} for key in old if key not in new]
    for key, value in new.items():
        here = f"{path}/{_escape(key)}"
        if key in old:
            operations += difference(old[key], value, here)
        else:
            operations.append({"op": "add", "path": here, "value": value})
    return operations


def _of_lists(old: list[Any], new: list[Any], path: str, names: set[str], new_names: set[str]) -> list[Operation]:
    # From the back, so that the numbers of what is still there stay right.
    gone = [number for number, item in enumerate(old) if item["name"] not in new_names]
    operations: list[Operation] = [{"op": "remove", "path": f"{path}/{number}"} for number in reversed(gone)]
    before = {item["name"]: item for item in old}
    for number, item in enumerate(new):
        if item["name"] in names:
            operations += difference(before[item["name"]], item, f"{path}/{number}")
        else:
            operations.append({"op": "add", "path": f"{path}/{number}", "value": item})
    return operations


def _names(items: list[Any]) -> list[str] | None:
    """The names of a list in which everything has one of its own."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return [str(name) for name in names]


def _kept(names: list[str], others: list[str]) -> list[str]:
    there = set(others)
    return [name for name in names if name in there]


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")  # RFC 6901 3

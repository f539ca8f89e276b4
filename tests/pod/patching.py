"""A reader of JSON Patch, written from RFC 6902 alone: what our patches are applied with."""

import copy
from typing import Any


def apply_patch(value: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply add, remove and replace, in order; anything that does not fit raises."""
    holder = {"": copy.deepcopy(value)}
    for operation in operations:
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in operation["path"].split("/")]
        here: Any = holder
        for token in tokens[:-1]:
            here = here[int(token)] if isinstance(here, list) else here[token]
        _apply(here, tokens[-1], operation)
    return holder[""]


def _apply(here: Any, token: str, operation: dict[str, Any]) -> None:
    name = operation["op"]
    if isinstance(here, list):
        at = int(token)
        if name == "add":
            assert at <= len(here)
            here.insert(at, copy.deepcopy(operation["value"]))
        elif name == "replace":
            here[at] = copy.deepcopy(operation["value"])
        else:
            del here[at]
    elif name == "remove":
        del here[token]
    else:
        assert name == "add" or token in here
        here[token] = copy.deepcopy(operation["value"])

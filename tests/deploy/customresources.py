"""
A program of its own: reads custom resources (JSON on stdin) by types made from their definitions, and prints what is
not theirs. Its argument is the folder where `make interop` put the types, which no other process has on its path.
"""

import importlib
import json
import sys
from collections.abc import Iterator

MODULES = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def lost(ours: object, read: object, place: str) -> Iterator[str]:
    """What the definition has not taken: it refuses a wrong type, and drops a key that it does not know."""
    if isinstance(ours, dict) and isinstance(read, dict):
        for key in ours:
            yield from lost(ours[key], read.get(key), f"{place}.{key}")
    elif isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        for number, (one, other) in enumerate(zip(ours, read, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif ours != read:
        yield f"{place}: {ours!r} was read as {read!r}"


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    for one in json.load(sys.stdin):
        kind = getattr(importlib.import_module(MODULES[one["apiVersion"]]), one["kind"])
        name = f"{one['kind']} {one['metadata']['name']}"
        try:
            read = kind.model_validate(one).model_dump(by_alias=True, exclude_unset=True, mode="json")
        except ValueError as error:
            sys.stdout.write(f"{name}: {error}\n")
        else:
            sys.stdout.writelines(f"{line}\n" for line in lost(one, read, name))


if __name__ == "__main__":
    main()

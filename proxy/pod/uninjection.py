"""
The record of an injection, which the Pod carries in an annotation, and its way back: the Pod as it was.

Every injection begins by taking the former one away, so that injecting twice is injecting once, and injecting with
other settings is an update. What is taken away is what the record names; what somebody has changed by hand since then
stays, as far as it can.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from proxy.pod.podshape import Json, containers_of
from proxy.pod.probes import HANDLERS, Place, restore_probe
from proxy.pod.refusal import Refused
from proxy.pod.settings import STATUS

MAX_STATUS_CHARS = 128 * 1024
_PATHS = ("metadata", "metadata.annotations", "spec.initContainers", "spec.volumes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    What was added.

    containers, volumes, annotations: names
    made:   path -> "absent" or "null": what stood where a mapping or a list had to be made
    probes: (container, key of the probe, key of the handler, handler) of every probe that was rewritten
    """

    version: str
    containers: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    made: dict[str, str]
    probes: tuple[tuple[str, str, str, dict[str, Any]], ...] = ()

    def text(self) -> str:
        """As it stands in the annotation."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=True)


def is_injected(metadata: Json) -> bool:
    """Whether the Pod carries a record."""
    return STATUS in (metadata.get("annotations") or {})


def has_sidecar(pod: Json) -> bool:
    """Whether all containers that a record names are there. Raises: Refused where the record is damaged."""
    there = {container["name"] for _, _, container in containers_of(pod["spec"])}
    return there.issuperset(read_status(pod["metadata"]).containers)


def read_status(metadata: Json) -> Status:
    """Read the record. Raises: Refused where it is damaged, for nothing can be taken away by it."""
    text = metadata["annotations"][STATUS]
    try:
        if not isinstance(text, str) or len(text) > MAX_STATUS_CHARS:
            raise ValueError
        status = msgspec.json.decode(text.encode(), type=Status)
        if any(key not in HANDLERS for _, _, key, _ in status.probes) or not status.made.keys() <= set(_PATHS):
            raise ValueError
    except (msgspec.MsgspecError, RecursionError, ValueError):
        raise Refused(
            [f"The annotation {STATUS} is damaged, so the former injection cannot be taken away; restore the file."]
        ) from None
    return status


def take_away(pod: Json) -> None:
    """Undo an injection in place, if there is one. Raises: Refused."""
    metadata = pod.get("metadata") or {}
    if not is_injected(metadata):
        return
    status, spec = read_status(metadata), pod["spec"]
    for container, key, handler_key, handler in status.probes:
        restore_probe(spec, Place(container, key), handler_key, handler)
    for group, names in (
        ("initContainers", status.containers),
        ("containers", status.containers),
        ("volumes", status.volumes),
    ):
        if spec.get(group):
            spec[group] = [one for one in spec[group] if one.get("name") not in names]
    for name in (*status.annotations, STATUS):
        metadata["annotations"].pop(name, None)
    # Inner ones first; one that somebody has put something into since stays.
    for path in reversed(_PATHS):
        holder, name = _holder(pod, path)
        if path in status.made and not holder.get(name):
            if status.made[path] == "null":
                holder[name] = None
            else:
                holder.pop(name, None)


def make_room(pod: Json, made: dict[str, str], *, init_containers: bool) -> None:
    """Make the mappings and lists that injection fills, and note what stood there."""
    for path in _PATHS:
        if path == "spec.initContainers" and not init_containers:
            continue
        holder, name = _holder(pod, path)
        if holder.get(name) is not None:
            continue
        made[path] = "null" if name in holder else "absent"
        empty: Any = {} if path.startswith("metadata") else []
        if name in holder:
            holder[name] = empty
        else:
            _insert(holder, name, empty)


def _holder(pod: Json, path: str) -> tuple[Json, str]:
    outer, _, name = path.rpartition(".")
    holder = pod.get(outer) if outer else pod
    return ({} if holder is None else holder), name


def _insert(holder: Json, name: str, value: object) -> None:
    """Put a new key behind all others, so that no comment of the file's author comes to stand before it."""
    items = list(holder.items())
    at = list(holder).index("spec") if name == "metadata" and "spec" in holder else len(items)
    items.insert(at, (name, value))
    holder.clear()
    holder.update(items)

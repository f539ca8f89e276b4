"""
Objects of Kubernetes that make Pods: where the template of the Pod stands in each kind, and lists of them.

Kinds that make no Pods pass through untouched, and so does a custom resource whose kind happens to have a known name.
Where such an object has the template of a Pod all the same (a Rollout, a Deployment of a version long gone), that is
said: the app would speak plaintext, and nobody would know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from proxy.pod.injection import Injected, inject, uninject
from proxy.pod.names import SIDECAR
from proxy.pod.podshape import Json
from proxy.pod.refusal import Refused
from proxy.pod.settings import GENERATED_FOR, PREFIX, Settings

_TEMPLATE = ("spec", "template")
TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", *_TEMPLATE),
}
MAX_NAME_CHARS = 253


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done to every workload. settings None: take injections away."""

    settings: Settings | None
    to_config_map: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One sentence about one object. passed_over: it makes Pods, it seems, and they get no sidecar."""

    what: str
    sentence: str
    passed_over: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    An object after it.

    before:  ConfigMaps that belong in front of it
    reports: everything that was done
    """

    value: Any
    before: tuple[Json, ...] = ()
    reports: tuple[Report, ...] = ()


def template_path(value: object) -> tuple[str, ...] | None:
    """Where the Pod stands in an object; None where it makes none."""
    if not isinstance(value, dict) or not isinstance(value.get("apiVersion"), str):
        return None
    group = value["apiVersion"].rpartition("/")[0]
    return TEMPLATES.get((group, str(value.get("kind"))))


def is_list(value: object) -> bool:
    """Whether an object is a List, or a PodList and its like, of which each item is an object."""
    return (
        isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list)
    )


def describe(value: Json) -> str:
    """`Deployment shop/orders`, as a message names an object."""
    metadata = _mapping(value, "metadata")
    words = {key: text for key, text in metadata.items() if isinstance(text, str)}  # {{ a template }} is a mapping
    name = words.get("name") or words.get("generateName") or "without a name"
    namespace = f"{words['namespace']}/" if words.get("namespace") else ""
    return f"{value.get('kind', 'object')} {namespace}{name}"


def generated_for(value: object) -> str:
    """The workload that a ConfigMap of ours was generated for; empty for every other object."""
    if not isinstance(value, dict) or value.get("kind") != "ConfigMap":
        return ""
    return str(_mapping(value, "metadata", "annotations").get(GENERATED_FOR, ""))


def _mapping(value: Any, *path: str) -> Json:
    """What stands there if it is a mapping, else an empty one."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def carry_out(task: Task, value: object) -> Outcome:
    """
    Do it to one object, or to all objects of a list.

    Raises: Refused, each sentence of which names its object
    """
    if is_list(value):
        assert isinstance(value, dict)
        return _list(task, value)
    path = template_path(value)
    if path is None:
        return Outcome(value, reports=_passed_over(value) if task.settings is not None else ())
    assert isinstance(value, dict)
    what = describe(value)
    try:
        pod = _at(value, path)
        name = _config_map_name(value) if task.to_config_map and task.settings is not None else ""
        made = _apply(task, pod, str(value["kind"]), name)
    except Refused as refused:
        raise Refused(f"{what}: {sentence}" for sentence in refused.sentences) from None
    config_maps = (_config_map(value, name, made),) if made.files else ()
    told = (
        *made.notes,
        *_misplaced(value, path),
        *((f"ConfigMap {name} holds its configuration; a change of it needs no restart.",) if made.files else ()),
    )
    return Outcome(_with(value, path, made.pod), config_maps, tuple(Report(what, sentence) for sentence in told))


def _passed_over(value: object) -> tuple[Report, ...]:
    """A word about a template of a Pod in an object of a kind that is none of ours."""
    for path in dict.fromkeys(TEMPLATES.values()):
        if path and isinstance(value, dict) and _mapping(value, *path, "spec").get("containers"):
            kind = f"{value.get('kind')} of {value.get('apiVersion')}"
            sentence = (
                f"Warning: {kind} is no kind that injection knows: its Pods get no sidecar from this, and one from the "
                "webhook where that is installed."
            )
            return (Report(describe(value), sentence, passed_over=True),)
    return ()


def _list(task: Task, value: Json) -> Outcome:
    items: list[object] = []
    reports: list[Report] = []
    faults: list[str] = []
    whole = [_with_kind(value, item) for item in value["items"]]
    added = {
        id(one): one.keys() - item.keys() for one, item in zip(whole, value["items"], strict=True) if one is not item
    }
    for item in without_generated(whole):
        try:
            outcome = carry_out(task, item)
        except Refused as refused:
            faults += refused.sentences
            continue
        made = outcome.value
        if id(item) in added:
            made = {key: inner for key, inner in made.items() if key not in added[id(item)]}
        items += [*outcome.before, made]
        reports += outcome.reports
    if faults:
        raise Refused(faults)
    return Outcome(value | {"items": items}, (), tuple(reports))


def _with_kind(value: Json, item: object) -> Any:
    """An item as it is meant: one of a PodList may leave its kind out, and kubectl takes it from the list."""
    kind = str(value["kind"]).removesuffix("List")
    if not kind or not isinstance(item, dict) or item.get("kind"):
        return item
    return {"apiVersion": value.get("apiVersion"), "kind": kind} | item


def without_generated(values: list[Any]) -> Iterator[Any]:
    """All objects but the ConfigMaps that a former injection generated for a workload among them."""
    workloads = {describe(value) for value in values if template_path(value) is not None}
    for value in values:
        if generated_for(value) not in workloads:
            yield value


def _apply(task: Task, pod: Json, kind: str, config_map: str) -> Injected:
    if task.settings is None:
        return uninject(pod)
    return inject(pod, task.settings, owner_kind=kind, config_map=config_map)


def _at(value: Json, path: tuple[str, ...]) -> Json:
    """The Pod or template: `metadata` and `spec`, and of a whole Pod everything else too."""
    here: Any = value
    for name in path:
        here = here.get(name) if isinstance(here, dict) else None
    if not isinstance(here, dict) or not isinstance(here.get("spec"), dict):
        raise Refused([f"It has no {'.'.join((*path, 'spec'))}."])
    return here


def _with(value: Json, path: tuple[str, ...], pod: Json) -> Json:
    if not path:
        return pod
    return value | {path[0]: _with(value[path[0]], path[1:], pod)}


def _config_map_name(value: Json) -> str:
    name = _mapping(value, "metadata").get("name")
    if not isinstance(name, str) or not name:
        raise Refused(["It has no metadata.name, which its ConfigMap would be named after; use annotations instead."])
    # With the kind: a CronJob beside the Deployment of its name would otherwise have its policy, or give it its own.
    whole = f"{name}-{str(value['kind']).lower()}-{SIDECAR}"
    if len(whole) > MAX_NAME_CHARS:
        raise Refused([f"The name of its ConfigMap would have {len(whole)} characters; the most is {MAX_NAME_CHARS}."])
    return whole


def _config_map(value: Json, name: str, made: Injected) -> Json:
    metadata: Json = {"name": name}
    if value["metadata"].get("namespace"):
        metadata["namespace"] = value["metadata"]["namespace"]
    metadata["annotations"] = {GENERATED_FOR: describe(value)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(made.files)}


def _misplaced(value: Json, path: tuple[str, ...]) -> Iterator[str]:
    """Annotations at the object itself, where nobody reads them: a common slip."""
    for name in _mapping(value, "metadata", "annotations") if path else ():
        if str(name).startswith(PREFIX):
            yield f"Warning: {name} has no effect here; it belongs to {'.'.join((*path, 'metadata', 'annotations'))}."

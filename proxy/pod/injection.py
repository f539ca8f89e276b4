"""
A Pod in, the same Pod with a sidecar out: the one function behind `mtls-sidecar inject` and the admission webhook.

The steps, in this order: take a former injection away, read the settings, name every obstacle, plan the ports, rewrite
probes, write and check the configuration, and only then add. It works on plain JSON values and changes nothing but
annotations, initContainers, containers, volumes and the handlers of probes. How a Pod is written down (YAML with
comments, a JSON patch) is for others: yamlgraft.py and jsonpatch.py.
"""

import copy
from dataclasses import dataclass

from proxy import __version__
from proxy.pod.identityvolumes import IdentityParts, config_volume, identity_parts
from proxy.pod.names import CONFIG_FILE, HELPER_CONFIG_FILE
from proxy.pod.obstacles import notes, obstacles, port_conflicts
from proxy.pod.podshape import Json, check_shape
from proxy.pod.portplan import PortPlan, plan_ports
from proxy.pod.probes import Rewritten, rewrite_probes
from proxy.pod.refusal import Refused
from proxy.pod.settings import CONFIG, HELPER_CONFIG, STATUS, Settings, read_settings, wants_injection
from proxy.pod.sidecarconfig import sidecar_config
from proxy.pod.sidecarcontainer import intercept_container, sidecar_container
from proxy.pod.uninjection import Status, is_injected, make_room, take_away

MAX_ANNOTATIONS_BYTES = 256 * 1024  # names and values of one object together; the API server refuses more
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True, slots=True)
class Injected:
    """
    A Pod after injection.

    files: name -> text of the generated files, where they are to go into a ConfigMap; empty otherwise
    notes: what was done and why, a sentence each
    """

    pod: Json
    notes: tuple[str, ...]
    files: tuple[tuple[str, str], ...] = ()


def inject(pod: Json, defaults: Settings, *, owner_kind: str = "Pod", config_map: str = "") -> Injected:
    """
    Give a Pod a sidecar; one that asks to be left alone comes back without.

    pod:        `metadata` and `spec`, of a Pod or of a template; it is not changed
    owner_kind: the kind of object that makes the Pod, where it is known
    config_map: the name of the ConfigMap for the generated files; empty: they go into annotations
    Raises:     Refused
    """
    check_shape(pod)
    pod = copy.deepcopy(pod)
    take_away(pod)
    metadata = pod.get("metadata") or {}
    if wants_injection(metadata) is False:
        return Injected(pod, ("It asks not to be injected.",))
    settings = read_settings(metadata.get("annotations") or {}, defaults)
    plan, rewritten = _decide(metadata, pod["spec"], settings, owner_kind)
    assert settings.identity is not None, "its absence is an obstacle"
    identity = identity_parts(settings, settings.identity, pod["spec"])
    config = sidecar_config(settings, plan, identity.section, rewritten.entries, pod["spec"])
    files = {CONFIG: config.text}
    if identity.helper_config:
        files[HELPER_CONFIG] = identity.helper_config
    _add(pod, settings, plan, identity, rewritten, files, config_map)
    told = (*_told(settings, plan, identity, rewritten), *notes(metadata, pod["spec"], settings, plan))
    told += tuple(f"Warning: {warning}." for warning in config.warnings)
    named = tuple((_file(annotation), text) for annotation, text in files.items())
    return Injected(pod, told, named if config_map else ())


def uninject(pod: Json) -> Injected:
    """Take an injection away. Raises: Refused where the record of it is damaged."""
    check_shape(pod)
    pod = copy.deepcopy(pod)
    if not is_injected(pod.get("metadata") or {}):
        return Injected(pod, ("It has no sidecar of ours.",))
    take_away(pod)
    return Injected(pod, ("The sidecar was taken away, and probes are as they were.",))


def _decide(metadata: Json, spec: Json, settings: Settings, owner_kind: str) -> tuple[PortPlan, Rewritten]:
    """Plan the ports and rewrite the probes. Raises: Refused with everything that stands in the way."""
    faults = list(obstacles(metadata, spec, settings, owner_kind))
    try:
        plan = plan_ports(settings, spec)
        faults += port_conflicts(spec, plan, settings)
        rewritten = _rewrite(spec, settings, plan)
    except Refused as refused:
        raise Refused([*faults, *refused.sentences]) from None
    if faults:
        raise Refused(faults)
    return plan, rewritten


def _rewrite(spec: Json, settings: Settings, plan: PortPlan) -> Rewritten:
    if settings.rewrite_probes is False:
        return Rewritten((), ())
    return rewrite_probes(spec, (lambda _: True) if settings.rewrite_probes else plan.catches_kubelet)


def _add(
    pod: Json,
    settings: Settings,
    plan: PortPlan,
    identity: IdentityParts,
    rewritten: Rewritten,
    files: dict[str, str],
    config_map: str,
) -> None:
    intercepting = plan.intercepted or bool(settings.routes)
    made: dict[str, str] = {}
    make_room(pod, made, init_containers=intercepting or not settings.classic)
    spec, annotations = pod["spec"], pod["metadata"]["annotations"]
    rules = [intercept_container(settings, plan)] if intercepting else []
    stay = {} if settings.classic else {"restartPolicy": "Always"}
    helpers = [_with_restart(helper, stay) for helper in identity.helpers]
    sidecars = [*helpers, sidecar_container(settings, plan, identity.mounts)]
    volumes = [*(config_volume(_file(name), name, config_map) for name in files), *identity.volumes]
    added = {} if config_map else dict(files)
    if settings.classic:
        # The app's init containers run before the rules are there, since no sidecar is there yet for them.
        if rules:
            spec["initContainers"] = [*spec["initContainers"], *rules]
        if DEFAULT_CONTAINER not in annotations:
            added[DEFAULT_CONTAINER] = spec["containers"][0]["name"]
        spec["containers"] = [*sidecars, *spec["containers"]]
    else:
        spec["initContainers"] = [*rules, *sidecars, *spec["initContainers"]]
    spec["volumes"] = [*spec["volumes"], *volumes]
    status = Status(
        version=__version__,
        containers=tuple(one["name"] for one in (*rules, *sidecars)),
        volumes=tuple(one["name"] for one in volumes),
        annotations=tuple(added),
        made=made,
        probes=tuple((place.container, place.key, key, handler) for place, key, handler in rewritten.originals),
    )
    annotations.update(added)
    annotations[STATUS] = status.text()
    _check_size(annotations)


def _check_size(annotations: Json) -> None:
    size = sum(len(name.encode()) + len(str(text).encode()) for name, text in annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        raise Refused(
            [
                f"Its annotations would have {size} bytes with the sidecar's, and Kubernetes takes "
                f"{MAX_ANNOTATIONS_BYTES} at most. Name fewer patterns in `allow` (spiffe://example.org/ns/shop/** is "
                "a whole namespace) or fewer ports in `inbound`, or have `inject --config-map` write a ConfigMap."
            ]
        )


def _with_restart(helper: Json, stay: Json) -> Json:
    """The restart policy behind the arguments, where it is read."""
    items = list(helper.items())
    at = [name for name, _ in items].index("args") + 1
    return dict([*items[:at], *stay.items(), *items[at:]])


def _file(annotation: str) -> str:
    return HELPER_CONFIG_FILE if annotation == HELPER_CONFIG else CONFIG_FILE


def _told(settings: Settings, plan: PortPlan, identity: IdentityParts, rewritten: Rewritten) -> list[str]:
    told = [
        "A classic sidecar is the first container; its postStart hook holds the others until it is ready."
        if settings.classic
        else "A native sidecar is placed before the app's init containers and containers (Kubernetes 1.29 and newer).",
        identity.note,
    ]
    if plan.default is None:
        told.append("Nothing comes in through the sidecar.")
    else:
        what = "every port is" if not plan.ranges else "the ports of `ports` are"
        told += [f"Inbound: {what} redirected to the sidecar, mode {plan.default}."] if plan.intercepted else []
        told += [
            f"Inbound: the sidecar listens on {listen} for the app's port {port}, mode "
            f"{plan.modes.get(port, plan.default)}."
            for listen, port in plan.pairs
        ]
    told += [
        f"{place.key} of {place.container}: kubelet asks the sidecar, which makes the {key} probe over loopback."
        for place, key, _ in rewritten.originals
    ]
    return told

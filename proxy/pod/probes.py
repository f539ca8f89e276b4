"""
The application's probes and lifecycle requests: which of them the sidecar makes in kubelet's place, and how that is
written in the Pod.

Kubelet probes from the node, in plaintext, and interception sends it to the sidecar, where STRICT refuses it. Such a
probe becomes an HTTP probe of the sidecar's health port (`/app-health/CONTAINER/livez`), and what it was goes into the
sidecar's configuration. Its timing stays as it is. An exec probe never leaves the container, and a probe with a `host`
of its own is not for this Pod: both stay.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote as percent_encode

from proxy.core.appprobe import APP_HEALTH, MAX_PROBE_S, ProbeKind, parse_header, parse_request_target
from proxy.pod.names import CONTAINERS, HEALTH_PORT
from proxy.pod.podshape import Json, containers_of
from proxy.pod.refusal import Refused

HANDLERS = {"httpGet": ProbeKind.HTTP, "tcpSocket": ProbeKind.TCP, "grpc": ProbeKind.GRPC}
_PROBES = {"livenessProbe": "livez", "readinessProbe": "readyz", "startupProbe": "startupz"}
_HOOKS = {"postStart": "poststartz", "preStop": "prestopz"}
_HOOK_TIMEOUT_S = 30  # kubelet gives its hooks no deadline but the Pod's; the endpoint has to have one
_URL_SAFE = "/?&=%:@!$'()*+,;~-._"


class Place(NamedTuple):
    """Where a probe stands. key: livenessProbe and the like, or lifecycle.postStart and .preStop."""

    container: str
    key: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was rewritten. entries: for health.app_probes; originals: place, handler's key, handler."""

    entries: tuple[Json, ...]
    originals: tuple[tuple[Place, str, Json], ...]


def rewrite_probes(spec: Json, caught: Callable[[int], bool]) -> Rewritten:
    """
    Rewrite, in place, every probe whose port `caught` says yes to.

    Raises: Refused with every probe that cannot be rewritten
    """
    entries: list[Json] = []
    originals: list[tuple[Place, str, Json]] = []
    faults: list[str] = []
    for place, holder, ending, container in list(_requests(spec)):
        key = next((key for key in HANDLERS if holder.get(key)), None)
        if key is None or holder[key].get("host"):
            continue
        what = f"The {place.key} of container {place.container}"
        try:
            port = _port(holder[key].get("port"), container, what)
            if not caught(port):
                continue
            timeout_s = holder.get("timeoutSeconds") or 1 if place.key in _PROBES else _HOOK_TIMEOUT_S
            entry = {"name": f"{place.container}/{ending}", "kind": str(HANDLERS[key]), "port": port}
            entries.append(entry | _details(key, holder[key], what) | {"timeout_s": min(timeout_s, MAX_PROBE_S)})
        except Refused as refused:
            faults += refused.sentences
            continue
        originals.append((place, key, holder[key]))
        swap(holder, key, "httpGet", {"path": f"{APP_HEALTH}{place.container}/{ending}", "port": HEALTH_PORT})
    if faults:
        raise Refused(faults)
    return Rewritten(tuple(entries), tuple(originals))


def restore_probe(spec: Json, place: Place, key: str, handler: Json) -> None:
    """Put a handler back where our request stands; a probe that somebody has changed since is let be."""
    for here, holder, _, _ in list(_requests(spec)):
        if here == place and str((holder.get("httpGet") or {}).get("path", "")).startswith(APP_HEALTH):
            swap(holder, "httpGet", key, handler)


def swap(holder: Json, key: str, new_key: str, value: object) -> None:
    """Replace a key and its value in the place where it stands, so that the order of keys survives."""
    items = [(new_key, value) if name == key else (name, inner) for name, inner in holder.items()]
    holder.clear()
    holder.update(items)


def _requests(spec: Json) -> Iterator[tuple[Place, Json, str, Json]]:
    for _, _, container in containers_of(spec):
        name = container["name"]
        if name in CONTAINERS:
            continue
        for key, ending in _PROBES.items():
            if container.get(key):
                yield Place(name, key), container[key], ending, container
        for key, ending in _HOOKS.items():
            hook = (container.get("lifecycle") or {}).get(key)
            # tcpSocket is in a hook's schema and never did anything; it is none of ours.
            if hook and hook.get("httpGet"):
                yield Place(name, f"lifecycle.{key}"), hook, ending, container


def _port(port: int | str | None, container: Json, what: str) -> int:
    if isinstance(port, str) and not port.isdigit():
        declared = {one.get("name"): one.get("containerPort") for one in container.get("ports") or ()}
        if declared.get(port) is None:
            raise Refused([f"{what} asks port {port}, which the container does not declare."])
        return int(declared[port])
    number = int(port or 0) if len(str(port)) <= 5 else 0
    if not 1 <= number <= 65535:
        raise Refused([f"{what} has no port from 1 to 65535."])
    return number


def _details(key: str, handler: Json, what: str) -> Json:
    if key == "grpc":
        return {"service": handler["service"]} if handler.get("service") else {}
    if key == "tcpSocket":
        return {}
    if str(handler.get("scheme") or "HTTP").upper() != "HTTP":
        raise Refused(
            [
                f"{what} is HTTPS, which kubelet does not verify and the sidecar would have to. Set the mode of that "
                f"port to DISABLE (the app's own TLS), exclude the port, or probe by TCP or exec."
            ]
        )
    path = percent_encode((handler.get("path") or "/").partition("#")[0], safe=_URL_SAFE)
    try:
        path = parse_request_target(path if path.startswith("/") else f"/{path}")
        headers = [
            parse_header(f"{one.get('name')}: {one.get('value') or ''}") for one in handler.get("httpHeaders") or ()
        ]
    except ValueError as error:
        raise Refused([f"{what} cannot be asked by the sidecar: {error}."]) from None
    details: Json = {"path": path}
    if headers:
        details["headers"] = list(dict.fromkeys(headers))
    return details

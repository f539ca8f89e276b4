"""
Whether a Pod has the shape that injection relies on, before anything in it is read.

The API server checks the whole Pod and knows every field; this knows only the fields that injection reads, and only
their types. YAML is why it is needed at all: `hostNetwork: yes` is true to Kubernetes and text to YAML 1.2, and what is
taken for text here must not become a Pod without protection there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.pod.refusal import Refused

Json = dict[str, Any]

_PORT = (int, str)
_PROBE: Json = {
    "httpGet": {"path": str, "port": _PORT, "scheme": str, "host": str, "httpHeaders": [{"name": str, "value": str}]},
    "tcpSocket": {"port": _PORT, "host": str},
    "grpc": {"port": int, "service": str},
    "exec": {},
    "timeoutSeconds": int,
}
_SECURITY: Json = {"runAsUser": int, "runAsGroup": int, "fsGroup": int, "windowsOptions": {}}
_CONTAINER: Json = {
    "name": str,
    "ports": [{"name": str, "containerPort": int, "hostPort": int, "protocol": str}],
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "startupProbe": _PROBE,
    "lifecycle": {"postStart": _PROBE, "preStop": _PROBE},
    "securityContext": _SECURITY,
    "restartPolicy": str,
}
_POD: Json = {
    "metadata": {"name": str, "generateName": str, "namespace": str, "annotations": {}, "labels": {}},
    "spec": {
        "containers": [_CONTAINER],
        "initContainers": [_CONTAINER],
        "volumes": [{"name": str}],
        "hostNetwork": bool,
        "hostPID": bool,
        "shareProcessNamespace": bool,
        "securityContext": _SECURITY,
        "nodeSelector": {},
        "os": {"name": str},
        "serviceAccountName": str,
        "terminationGracePeriodSeconds": int,
    },
}
_WORDS = {str: "text", int: "a whole number", bool: "true or false", _PORT: "a port or the name of one"}


def check_shape(pod: object) -> None:
    """Raises: Refused with every field of the wrong type."""
    faults = list(_faults(pod, _POD, ""))
    spec = pod.get("spec") if isinstance(pod, dict) else None
    if not faults:
        containers = spec.get("containers") if isinstance(spec, dict) else None
        faults = [] if containers else ["It has no spec.containers, so there is nothing to put a sidecar beside."]
        for group in ("initContainers", "containers"):
            for number, one in enumerate((spec or {}).get(group) or ()):
                if not one.get("name"):
                    faults.append(f"spec.{group}[{number}] has no name.")
    if faults:
        raise Refused(faults)


def _faults(value: object, shape: Any, path: str) -> Iterator[str]:
    if value is None:
        return  # absent, to Kubernetes
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            yield f"{path or 'The Pod'} has to be a mapping."
            return
        for name, inner in shape.items():
            yield from _faults(value.get(name), inner, f"{path}.{name}" if path else name)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{path} has to be a list."
            return
        for number, item in enumerate(value):
            if item is None:
                yield f"{path}[{number}] is empty."
            yield from _faults(item, shape[0], f"{path}[{number}]")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        yield f"{path} has to be {_WORDS[shape]}, as YAML 1.2 reads it."


def containers_of(spec: Json) -> Iterator[tuple[str, int, Json]]:
    """Every container: where it stands (initContainers or containers), its number there, and itself."""
    for group in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(group) or ()):
            yield group, number, container

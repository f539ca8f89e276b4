"""
CPU and memory of the containers that are added, and what they do to the Pod's QoS class.

Every container of a Pod counts where a namespace has a ResourceQuota or a LimitRange, and for QoS: init containers as
well, however briefly they run. So what the settings give the sidecar holds for the others too, as far as it has to.
"""

import re

from proxy.pod.names import CONTAINERS
from proxy.pod.podshape import Json, containers_of
from proxy.pod.settings import Settings
from proxy.pod.settingwords import amount

_HELPER_REQUESTS = {"cpu": "10m", "memory": "32Mi"}
_HELPER_LIMITS = {"cpu": "100m", "memory": "128Mi"}
_NAMES = ("cpu", "memory")
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


def sidecar_resources(settings: Settings) -> Json:
    """Of the sidecar; and of the init container before it, whose requests are not added to the Pod's but shared."""
    requests = {"cpu": settings.cpu_request, "memory": settings.memory_request}
    limits = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    wanted = {
        "requests": {name: quantity for name, quantity in requests.items() if quantity},
        "limits": {name: quantity for name, quantity in limits.items() if quantity},
    }
    return {name: quantities for name, quantities in wanted.items() if quantities}


def helper_resources(settings: Settings) -> Json:
    """Of spiffe-helper: with a CPU limit where the sidecar has one, and Guaranteed where the sidecar is."""
    limits = {name: _HELPER_LIMITS[name] for name in _NAMES if name == "memory" or settings.cpu_limit}
    guaranteed = is_guaranteed({"resources": sidecar_resources(settings)})
    return {"requests": dict(limits if guaranteed else _HELPER_REQUESTS), "limits": limits}


def is_guaranteed(container: Json) -> bool:
    """Whether a container may be part of a Guaranteed Pod: it has limits, and asks for neither more nor less."""
    limits, requests = _part(container, "limits"), _part(container, "requests")
    return all(
        limits.get(name) is not None and _is_same(requests.get(name, limits[name]), limits[name]) for name in _NAMES
    )


def _part(container: Json, name: str) -> Json:
    resources = container.get("resources")
    part = resources.get(name) if isinstance(resources, dict) else None
    return part if isinstance(part, dict) else {}


def _is_same(one: object, other: object) -> bool:
    if _PLAIN.fullmatch(str(one)) and _PLAIN.fullmatch(str(other)):
        return amount(str(one)) == amount(str(other))
    return one == other


def loses_guarantee(spec: Json, settings: Settings) -> bool:
    """Whether the app's own containers make the Pod Guaranteed, and the sidecar makes it Burstable."""
    own = [one for _, _, one in containers_of(spec) if one["name"] not in CONTAINERS]
    return all(map(is_guaranteed, own)) and not is_guaranteed({"resources": sidecar_resources(settings)})

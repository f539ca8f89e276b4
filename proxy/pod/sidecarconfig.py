"""
The configuration of an injected sidecar, as the text that it reads, and already read once by its own reader.

Nothing is injected that `mtls-sidecar validate` would refuse: a slip in an annotation is said when the Pod is made, to
the person who makes it, and not by a container that does not start.
"""

from functools import lru_cache
from typing import NamedTuple

import yaml

from proxy.core.configfile import ConfigFaults, read_config
from proxy.core.configwarnings import warnings_of
from proxy.core.configyaml import MAX_FILE_BYTES
from proxy.pod.names import HEALTH_PORT, OUTBOUND_PORT
from proxy.pod.podshape import Json
from proxy.pod.portplan import PortPlan, any_address, inbound_sections
from proxy.pod.refusal import Refused
from proxy.pod.settings import Settings

DRAIN_DELAY_S = 5  # classic: until the endpoints of the Service no longer name this Pod
_GRACE_S = 30  # Kubernetes' default of terminationGracePeriodSeconds
_SPARE_S = 2  # to exit in before kubelet loses its patience


class Written(NamedTuple):
    """A configuration that the proxy takes; warnings: what it takes and yet is hardly meant."""

    text: str
    warnings: tuple[str, ...]


def sidecar_config(
    settings: Settings, plan: PortPlan, identity: Json, app_probes: tuple[Json, ...], spec: Json
) -> Written:
    """Write the configuration. Raises: Refused with every fault that the reader finds in it."""
    config: Json = {"identity": identity, **inbound_sections(settings, plan)}
    if settings.outbound:
        config["outbound"] = [dict(one) for one in settings.outbound]
    if settings.routes and settings.intercept:
        outbound = {
            "listen": f"{'[::]' if settings.ipv6 else '127.0.0.1'}:{OUTBOUND_PORT}",
            "routes": [dict(one) for one in settings.routes],
        }
        config.setdefault("intercept", {})["outbound"] = outbound | {"default": "passthrough"}
    config["health"] = {"listen": f"{any_address(settings)}:{HEALTH_PORT}"}
    if app_probes:
        config["health"]["app_probes"] = [dict(one) for one in app_probes]
    if settings.classic:
        # A native sidecar is told to stop when the app has stopped. This one is told together with the app.
        grace_s = spec.get("terminationGracePeriodSeconds")
        left_s = (_GRACE_S if grace_s is None else grace_s) - DRAIN_DELAY_S - _SPARE_S
        config["timeouts"] = {"drain_delay_s": DRAIN_DELAY_S, "drain_s": max(1, left_s)}
    for name, section in settings.config:
        both = isinstance(section, dict) and isinstance(config.get(name), dict)
        config[name] = {**config[name], **section} if both else section  # type: ignore[dict-item]
    text = _write(config)
    return Written(text, _judge(text))


def _write(config: Json) -> str:
    try:
        text: str = yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True)
    except (yaml.YAMLError, RecursionError):
        raise Refused(["The annotations make a configuration that cannot be written."]) from None
    return text


class _Dumper(yaml.SafeDumper):
    """Without anchors: what stands twice (a default `allow`) is written twice. Annotations cannot hold any."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  the name is PyYAML's
        return True


@lru_cache(maxsize=256)  # the replicas of a workload have one configuration, and reading it is most of a review's cost
def _judge(text: str) -> tuple[str, ...]:
    """What the reader finds odd in a configuration. Raises: Refused with what it finds faulty."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise Refused([f"The configuration would be longer than {MAX_FILE_BYTES} bytes."])
    try:
        return warnings_of(read_config(text.encode(), file=""))
    except ConfigFaults as faults:
        raise Refused(
            _sentence(
                f"The sidecar's configuration would be faulty at {fault.path or 'its top level'}: {fault.message}"
            )
            for fault in faults.faults
        ) from None


def _sentence(message: str) -> str:
    """With a full stop, unless it ends in one, or in a question."""
    return message if message.endswith((".", "?")) else f"{message}."

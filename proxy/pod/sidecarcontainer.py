"""
The containers that injection adds: the one that writes the packet rules and is gone, and the sidecar itself.

Native, the sidecar is an init container that stays (restartPolicy Always): it is ready before the app's own init
containers and containers start, stops after them, and lets a Job complete. Classic, for clusters before 1.29, it is the
first ordinary container; kubelet starts containers in order and waits for a postStart hook, so the hook holds the
others until the sidecar is ready.
"""

from proxy.pod.containerresources import sidecar_resources
from proxy.pod.names import (
    CONFIG_FILE,
    CONFIG_PATH,
    CONFIG_VOLUME,
    GID,
    HEALTH_PORT,
    INBOUND_PORT,
    INTERCEPT,
    OUTBOUND_PORT,
    SIDECAR,
    UID,
)
from proxy.pod.podshape import Json
from proxy.pod.portplan import PortPlan
from proxy.pod.redirect import Network, PortRange
from proxy.pod.settings import Settings

START_S = 70  # beyond identity.wait_s (60 s), after which the sidecar gives up by itself and says why


def restricted() -> Json:
    """The security context of the `restricted` Pod Security Standard, as the sidecar's user, with nothing to write."""
    return {
        "runAsUser": UID,
        "runAsGroup": GID,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def sidecar_container(settings: Settings, plan: PortPlan, mounts: tuple[Json, ...]) -> Json:
    """The sidecar."""
    container: Json = {"name": SIDECAR, "image": settings.image}
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    container["args"] = ["run", "--config", f"{CONFIG_PATH}/{CONFIG_FILE}"]
    if settings.classic:
        wait = ["mtls-sidecar", "wait", "--timeout", str(START_S), f"http://127.0.0.1:{HEALTH_PORT}/ready"]
        container["lifecycle"] = {"postStart": {"exec": {"command": wait}}}
    else:
        container["restartPolicy"] = "Always"
    listening = [(f"mtls-{port}", listen) for listen, port in plan.pairs]
    if plan.intercepted:
        listening = [("mtls-inbound", INBOUND_PORT)]
    container["ports"] = [
        {"name": name, "containerPort": port, "protocol": "TCP"}
        for name, port in [*listening, ("mtls-health", HEALTH_PORT)]
    ]
    return container | {
        "startupProbe": {"httpGet": _get("/ready"), "periodSeconds": 1, "failureThreshold": START_S},
        "readinessProbe": {"httpGet": _get("/ready"), "periodSeconds": 5},
        "livenessProbe": {"httpGet": _get("/live"), "periodSeconds": 10},
        "resources": sidecar_resources(settings),
        "securityContext": restricted(),
        "volumeMounts": [{"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True}, *mounts],
    }


def intercept_container(settings: Settings, plan: PortPlan) -> Json:
    """The init container that writes the packet rules, checks them and ends. It alone is root, with what that needs."""
    container: Json = {"name": INTERCEPT, "image": settings.image}
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    return container | {
        "args": ["intercept", "apply", *_rules(settings, plan)],
        "resources": sidecar_resources(settings),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _rules(settings: Settings, plan: PortPlan) -> list[str]:
    def words(*, given: tuple[PortRange, ...] | tuple[Network, ...]) -> str:
        return ",".join(
            (str(one.first) if one.first == one.last else f"{one.first}-{one.last}")
            if isinstance(one, PortRange)
            else str(one)
            for one in given
        )

    inbound = str(INBOUND_PORT) if plan.intercepted else "none"
    outbound = str(OUTBOUND_PORT) if settings.routes else "none"
    rules = ["--inbound-port", inbound, "--outbound-port", outbound]
    if plan.intercepted:
        rules += _option("--include-inbound-ports", words(given=plan.ranges))
        rules += _option("--exclude-inbound-ports", words(given=plan.excluded))
    if settings.routes:
        rules += _option("--include-outbound-ports", words(given=settings.include_outbound_ports))
        rules += _option("--exclude-outbound-ports", words(given=settings.exclude_outbound_ports))
        rules += _option("--include-outbound-cidrs", words(given=settings.include_outbound_cidrs))
        rules += _option("--exclude-outbound-cidrs", words(given=settings.exclude_outbound_cidrs))
    return rules


def _option(name: str, value: str) -> list[str]:
    return [name, value] if value else []


def _get(path: str) -> Json:
    return {"path": path, "port": HEALTH_PORT}

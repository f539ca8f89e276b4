"""
What keeps a Pod from being given a sidecar, each in a sentence that says what to do; and what its operator should know.

All of it is refused and nothing skipped in silence: a Pod that was meant to speak mutual TLS and does not is worse than
one that does not start.
"""

import re
from collections.abc import Iterator, Mapping

from proxy.core.config import Mode
from proxy.pod.containerresources import loses_guarantee
from proxy.pod.names import ADMIN_PORT, CONTAINERS, GID, HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT, UID
from proxy.pod.podshape import Json, containers_of
from proxy.pod.portplan import PortPlan
from proxy.pod.redirect import PortRange
from proxy.pod.settings import PREFIX, Settings
from proxy.pod.settingwords import IdentityKind, amount

JOBS = ("Job", "CronJob")
_MESHES = {
    "istio-proxy": "Istio",
    "istio-init": "Istio",
    "linkerd-proxy": "Linkerd",
    "linkerd-init": "Linkerd",
    "consul-dataplane": "Consul",
    "envoy-sidecar": "Consul",
    "kuma-sidecar": "Kuma",
}
_MESH_REQUESTS = {
    "sidecar.istio.io/inject": ("true", "Istio"),
    "linkerd.io/inject": ("enabled", "Linkerd"),
    "consul.hashicorp.com/connect-inject": ("true", "Consul"),
    "kuma.io/sidecar-injection": ("enabled", "Kuma"),
}


def obstacles(metadata: Json, spec: Json, settings: Settings, owner_kind: str) -> Iterator[str]:
    """Everything that keeps this Pod from being injected."""
    yield from _identity(settings)
    yield from _host(spec)
    yield from _other_mesh(metadata, spec)
    yield from _names(spec)
    yield from _purpose(settings)
    yield from _resources(settings)
    if settings.intercept:
        yield from _same_user(spec)
    elif settings.routes:
        yield "`routes` are for interception, which is off; use `outbound`, and point the app at its listeners."
    if settings.classic and owner_kind in JOBS:
        yield from _classic_job(settings, owner_kind)


def port_conflicts(spec: Json, plan: PortPlan, settings: Settings) -> Iterator[str]:
    """Ports of the app that the sidecar needs, declared by a container or named in the settings."""
    own = {ADMIN_PORT: "its admin endpoint", HEALTH_PORT: "its health endpoint"}
    if plan.intercepted:
        own[INBOUND_PORT] = "inbound connections"
    yield from _named_as_the_apps(own | ({OUTBOUND_PORT: "outbound connections"} if plan.intercepted else {}), plan)
    if settings.intercept and settings.routes:
        own[OUTBOUND_PORT] = "outbound connections"
    own |= {listen: f"the app's port {port}" for listen, port in plan.pairs}
    for _, _, container in containers_of(spec):
        for one in container.get("ports") or ():
            port = one.get("containerPort") if (one.get("protocol") or "TCP") == "TCP" else None
            if port in own and container["name"] not in CONTAINERS:
                yield (
                    f"Container {container['name']} has port {port}, which the sidecar needs for {own[port]}. "
                    "Move the app to another port."
                )


def _named_as_the_apps(own: Mapping[int, str], plan: PortPlan) -> Iterator[str]:
    """
    Own ports that are said to be the app's. No packet rule redirects one, so the app would be bare there.

    A wide range may hold them: it means the app's ports among the others.
    """
    ranges = [*plan.ranges, *(PortRange(port, port) for _, port in plan.pairs)]
    named = {port for one in ranges if _is_all_of(one, own) for port in range(one.first, one.last + 1)}
    for where, ports in (("ports", named), ("inbound", (plan.modes.keys() & own.keys()) - named)):
        for port in sorted(ports):
            yield (
                f"`{where}` names port {port}, which the sidecar needs for {own[port]}. Name a port on which the app "
                "listens."
            )


def _is_all_of(one: PortRange, own: Mapping[int, str]) -> bool:
    return one.last - one.first < len(own) and all(port in own for port in range(one.first, one.last + 1))


def notes(metadata: Json, spec: Json, settings: Settings, plan: PortPlan) -> Iterator[str]:
    """What is no obstacle, and yet changes what the sidecar is worth."""
    if spec.get("shareProcessNamespace"):
        yield (
            "Warning: shareProcessNamespace lets a container that runs as root read the sidecar's files, its key "
            "included, through /proc."
        )
    if loses_guarantee(spec, settings):
        yield (
            "Warning: the Pod is of the QoS class Guaranteed, and Burstable with this sidecar: set `cpu-limit` to "
            "`cpu-request`, and `memory-limit` to `memory-request`, to keep it."
        )
    if settings.intercept and settings.exclude_inbound_ports:
        yield "Warning: excluded inbound ports are reachable in plaintext, by anybody, whatever the mode."
    if settings.intercept and settings.ports:
        yield "Warning: ports that are not among `ports` are reachable in plaintext, by anybody."
    if settings.rewrite_probes is False and plan.intercepted and plan.default != Mode.DISABLE:
        yield "Warning: probes are not rewritten, so kubelet's come in plaintext: STRICT refuses them."
    scraped = _scraped_port(metadata)
    if scraped is not None and plan.catches_kubelet(scraped):
        yield (
            f"Warning: the annotations prometheus.io/ have port {scraped} scraped in plaintext, which STRICT refuses: "
            f"write {{{scraped}: {{mode: DISABLE}}}} in {PREFIX}inbound, or scrape it by mutual TLS."
        )
    if not settings.intercept and (settings.ports is None or settings.ports):
        yield (
            "Without interception the app's own ports stay reachable beside the sidecar: have the app listen on "
            "127.0.0.1, or close them by a NetworkPolicy."
        )
    if settings.intercept and not settings.routes:
        yield "Outbound connections are not intercepted, since there are no `routes`."


def _scraped_port(metadata: Json) -> int | None:
    """The port that the usual annotations name to Prometheus."""
    annotations = metadata.get("annotations") or {}
    port = str(annotations.get("prometheus.io/port", ""))
    is_scraped = (
        annotations.get("prometheus.io/scrape") == "true" and annotations.get("prometheus.io/scheme") != "https"
    )
    return int(port) if is_scraped and re.fullmatch("[0-9]{1,5}", port) else None


def _purpose(settings: Settings) -> Iterator[str]:
    goes_out = settings.outbound or (settings.routes and settings.intercept)
    if settings.ports is not None and not settings.ports and not goes_out:
        yield (
            "`ports` is none, and there are neither `routes` nor `outbound`, so the sidecar would have nothing to do. "
            f'Say where the Pod goes by mutual TLS, or set {PREFIX}inject to "false".'
        )


def _resources(settings: Settings) -> Iterator[str]:
    """The API server refuses a Pod that asks for more than it may use."""
    for name, request, limit in (
        ("cpu", settings.cpu_request, settings.cpu_limit),
        ("memory", settings.memory_request, settings.memory_limit),
    ):
        if request and limit and amount(request) > amount(limit):
            yield f"`{name}-request`, {request}, is more than `{name}-limit`, {limit}; Kubernetes takes no such Pod."


def _identity(settings: Settings) -> Iterator[str]:
    if settings.identity is None:
        yield (
            "There is no identity source: give --identity csi-driver-spiffe, spiffe-csi or secret/NAME, or the "
            f"annotation {PREFIX}identity."
        )
    if not settings.trust_domain:
        yield f"There is no trust domain: give --trust-domain example.org, or the annotation {PREFIX}trust-domain."
    if settings.trust_domain in dict(settings.bundles):
        yield f"`bundles` names {settings.trust_domain}, our own trust domain, whose roots come with the identity."


def _host(spec: Json) -> Iterator[str]:
    if spec.get("hostNetwork"):
        yield (
            "hostNetwork puts the Pod into the node's network, where the sidecar's ports and packet rules would be the "
            f'node\'s. Remove hostNetwork, or set {PREFIX}inject to "false".'
        )
    windows = (spec.get("os") or {}).get("name") == "windows"
    if windows or (spec.get("nodeSelector") or {}).get("kubernetes.io/os") == "windows":
        yield f'The Pod is for Windows nodes, and the sidecar runs on Linux alone. Set {PREFIX}inject to "false".'


def _other_mesh(metadata: Json, spec: Json) -> Iterator[str]:
    for _, _, container in containers_of(spec):
        if container["name"] in _MESHES:
            yield (
                f"The Pod has {_MESHES[container['name']]}'s container {container['name']} already; two sidecars would "
                "redirect to each other. Keep one of them."
            )
    for where in ("annotations", "labels"):
        for name, (value, mesh) in _MESH_REQUESTS.items():
            if str((metadata.get(where) or {}).get(name, "")).lower() == value:
                yield f"The {where[:-1]} {name} asks for {mesh}'s sidecar as well. Keep one of them."


def _names(spec: Json) -> Iterator[str]:
    for group, _, container in containers_of(spec):
        if container["name"] in CONTAINERS:
            yield (
                f"spec.{group} has a container {container['name']} that injection did not add (there is no record of "
                "it). Rename or remove it."
            )
    for volume in spec.get("volumes") or ():
        if str(volume.get("name", "")).startswith("mtls-sidecar-"):
            yield f"spec.volumes has a volume {volume['name']} that injection did not add. Rename or remove it."


def _same_user(spec: Json) -> Iterator[str]:
    pod = spec.get("securityContext") or {}
    for _, _, container in containers_of(spec):
        own = container.get("securityContext") or {}
        for key, number in (("runAsUser", UID), ("runAsGroup", GID)):
            if (own.get(key) if own.get(key) is not None else pod.get(key)) == number:
                yield (
                    f"Container {container['name']} runs with {key} {number}, which is the sidecar's: its connections "
                    "would go around the sidecar. Give it another one."
                )


def _classic_job(settings: Settings, kind: str) -> Iterator[str]:
    if settings.identity is not None and settings.identity.kind is IdentityKind.SPIFFE_CSI:
        yield f"A {kind} with a classic sidecar cannot use spiffe-csi: spiffe-helper would never end, nor the Job."
    if not settings.job_quits:
        yield (
            f"A {kind} with a classic sidecar never completes by itself. Use a native sidecar (Kubernetes 1.29 and "
            "newer), or have the app end with `curl --request POST http://127.0.0.1:15000/quitquitquit` and say so by "
            f'{PREFIX}job-quits: "true".'
        )

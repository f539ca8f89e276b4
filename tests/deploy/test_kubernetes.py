"""
What lies under deploy/ for Kubernetes is valid in three versions of it, holds together, and says what the code says.

A new manifest is found by itself. Objects of custom kinds are read by types made from their definitions; which kinds
those are is a list, so that a slip in `kind` does not become one.
"""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from proxy import __version__
from proxy.core.config import Config, Mode, TcpAddress
from proxy.core.configfile import read_config
from proxy.core.reasons import Reason
from proxy.ops.metricfamilies import BY_NAME, PREFIX
from proxy.pod.redirect import INBOUND_PORT, OWN_PORTS, PROXY_GID, PROXY_UID
from tests.deploy.manifests import (
    CHART_VALUES,
    DEPLOY,
    KUSTOMIZATIONS,
    Json,
    Rendered,
    charted,
    containers,
    files,
    kustomized,
    plain,
)

pytestmark = pytest.mark.needs("kubectl", "helm")

VERSIONS = ("1.29", "1.33", "1.37")  # the first with native sidecars by default, one between, the newest
CUSTOM = {
    ("cert-manager.io/v1", "Certificate"),
    ("cert-manager.io/v1", "ClusterIssuer"),
    ("cert-manager.io/v1", "Issuer"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}
DEFINITIONS = Path(sys.executable).parents[1] / "crds"  # `make interop`
HEALTH_PORT = OWN_PORTS[-1]
SIDECAR = "mtls-sidecar"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
READ_ONLY = [folder for folder in KUSTOMIZATIONS if (folder / "..").resolve() == OVERLAYS or folder.name == "base"]


def name_of(path: Path) -> str:
    return path.relative_to(DEPLOY).as_posix()


RENDERED: list[tuple[Callable[[Path], Rendered], Path]] = [
    *((kustomized, folder) for folder in KUSTOMIZATIONS),
    *((plain, file) for file in files()),
    *((charted, values) for values in CHART_VALUES),
]
EVERY = [pytest.param(render, path, id=name_of(path)) for render, path in RENDERED]
rendered_each = pytest.mark.parametrize(("render", "path"), EVERY)


def test_there_is_what_the_pages_promise() -> None:
    assert {folder.name for folder in READ_ONLY} == {"base", "strict", "permissive", "csi-driver-spiffe", "spire"}


@rendered_each
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(render: object, path: Path, version: str) -> None:
    objects = render(path).objects  # type: ignore[operator]
    assert objects
    for one in objects:
        if (one["apiVersion"], one["kind"]) not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


def test_every_custom_object_is_as_its_definition_has_it() -> None:
    if not DEFINITIONS.is_dir():
        assert "CI" not in os.environ, "CI has to run `make interop`"
        pytest.skip("needs the definitions of custom resources: make interop")
    objects = [one for render, path in RENDERED for one in render(path).objects]
    custom = [one for one in objects if (one["apiVersion"], one["kind"]) in CUSTOM]
    assert {(one["apiVersion"], one["kind"]) for one in custom} == CUSTOM
    assert read_by_definition(custom) == ""
    slip = copy.deepcopy(next(one for one in custom if one["kind"] == "Certificate"))
    slip["spec"]["urls"] = slip["spec"].pop("usages")
    assert ".spec.urls" in read_by_definition([slip])


def read_by_definition(objects: list[Json]) -> str:
    """What the definitions have to say against these objects."""
    argv = [sys.executable, str(Path(__file__).with_name("customresources.py")), str(DEFINITIONS)]
    done = subprocess.run(argv, input=json.dumps(objects), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@rendered_each
def test_what_a_pod_mounts_and_exposes_is_there(render: object, path: Path) -> None:
    rendered: Rendered = render(path)  # type: ignore[operator]
    for where, pod in rendered.pods():
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        mounts = {mount["name"] for one in containers(pod) for mount in one.get("volumeMounts", [])}
        assert mounts == volumes, where
        generated = {one["metadata"]["name"] for one in rendered.of("ConfigMap")}
        wanted = {volume["configMap"]["name"] for volume in pod["spec"].get("volumes", []) if "configMap" in volume}
        assert wanted <= generated, where


@rendered_each
def test_what_the_api_server_checks_and_no_schema_does(render: object, path: Path) -> None:
    rendered: Rendered = render(path)  # type: ignore[operator]
    for where, pod in rendered.pods():
        for volume in pod["spec"].get("volumes", []):
            assert len(volume) == 2, f"{where}: a volume has a name and one source: {volume}"
        names = [one["name"] for one in containers(pod)]
        assert len(set(names)) == len(names), where
        ports = [port for one in containers(pod) for port in one.get("ports", [])]
        assert all(len(port.get("name", "")) <= 15 for port in ports), where  # RFC 6335 5.1
        assert len({port["containerPort"] for port in ports}) == len(ports), where
    for one in rendered.objects:
        if "template" in one.get("spec", {}) and "selector" in one["spec"]:
            selected = one["spec"]["selector"]["matchLabels"].items()
            assert selected <= one["spec"]["template"]["metadata"]["labels"].items(), one["metadata"]["name"]
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered.objects]
    assert len(set(keys)) == len(keys)


@rendered_each
def test_selectors_and_ports_by_name_meet_a_pod(render: object, path: Path) -> None:
    rendered: Rendered = render(path)  # type: ignore[operator]
    pods = [pod for _, pod in rendered.pods()]
    if not pods:
        return
    for one in rendered.of("Service"):
        for target in (port["targetPort"] for port in one["spec"]["ports"]):
            # Kubernetes before 1.33 looks for a name among ordinary containers alone, not among native sidecars.
            parts = containers if isinstance(target, int) else ordinary_containers
            assert str(target) in ports_of(pods, one["spec"]["selector"], parts), one["metadata"]["name"]
    for one in rendered.of("PodMonitor"):
        targets = {endpoint["port"] for endpoint in one["spec"]["podMetricsEndpoints"]}
        assert targets <= ports_of(pods, one["spec"]["selector"]["matchLabels"]), one["metadata"]["name"]
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for one in rendered.of(kind):
            assert ports_of(pods, one["spec"][key]["matchLabels"]), f"{kind} {one['metadata']['name']}"


def ordinary_containers(pod: Json) -> list[Json]:
    """What is not an init container."""
    found: list[Json] = pod["spec"]["containers"]
    return found


def ports_of(pods: list[Json], labels: Json, parts: Callable[[Json], list[Json]] = containers) -> set[str]:
    """Names and numbers of the ports of the Pods that labels select."""
    found = set()
    for pod in pods:
        if labels.items() <= pod["metadata"].get("labels", {}).items():
            for port in (port for one in parts(pod) for port in one.get("ports", [])):
                found |= {str(port["containerPort"]), port.get("name", "")}
    return found


@rendered_each
def test_every_embedded_configuration_has_no_fault_and_fits_its_pod(render: object, path: Path) -> None:
    rendered: Rendered = render(path)  # type: ignore[operator]
    configs = {
        one["metadata"]["name"]: read_config(one["data"]["config.yaml"].encode(), file=rendered.name)
        for one in rendered.of("ConfigMap")
        if "config.yaml" in one.get("data", {})
    }
    for where, pod in rendered.pods():
        sidecars = [one for one in containers(pod) if one["name"] == SIDECAR]
        mounted = [volume["configMap"]["name"] for volume in pod["spec"].get("volumes", []) if "configMap" in volume]
        for config in (configs[name] for name in mounted if name in configs):
            assert len(sidecars) == 1, where
            fits(config, sidecars[0], pod, where)


def fits(config: Config, sidecar: Json, pod: Json, where: str) -> None:
    assert config.health is not None, where
    listens = {listen.port for one in config.inbound if isinstance(listen := one.listen, TcpAddress)}
    exposed = {port["containerPort"] for port in sidecar["ports"]}
    assert exposed == {*listens, HEALTH_PORT}, where
    assert str(config.health.listen) == f"0.0.0.0:{HEALTH_PORT}", where
    assert INBOUND_PORT in listens, where
    assert pod["spec"]["terminationGracePeriodSeconds"] > config.timeouts.drain_delay_s + config.timeouts.drain_s, where
    assert sidecar["startupProbe"]["failureThreshold"] > config.identity.wait_s, where
    folders = {
        str(Path(file).parent)
        for file in (config.identity.cert, config.identity.key, *config.identity.bundles.values())
    }
    assert folders <= {mount["mountPath"] for mount in sidecar["volumeMounts"]}, where


@rendered_each
def test_a_sidecar_has_no_rights(render: object, path: Path) -> None:
    for where, pod in render(path).pods():  # type: ignore[operator]
        for one in containers(pod):
            if not f"{one['name']} {one['image']}".count(SIDECAR) or one["name"].endswith("intercept"):
                continue
            context = one["securityContext"]
            assert (context["runAsUser"], context["runAsGroup"]) == (PROXY_UID, PROXY_GID), where
            assert context["runAsNonRoot"] is context["readOnlyRootFilesystem"] is True, where
            assert context["allowPrivilegeEscalation"] is False, where
            assert context["capabilities"] == {"drop": ["ALL"]}, where
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert {"requests", "limits"} <= one["resources"].keys(), where


@rendered_each
def test_our_images_are_of_this_version(render: object, path: Path) -> None:
    images = {one["image"] for _, pod in render(path).pods() for one in containers(pod)}  # type: ignore[operator]
    ours = {image for image in images if image.startswith(SIDECAR)}
    assert ours <= {f"mtls-sidecar:{__version__}", f"mtls-sidecar-tools:{__version__}"}


def test_permissive_differs_from_strict_in_the_mode_alone() -> None:
    """So that the step to STRICT changes a ConfigMap, and restarts nothing."""
    strict, permissive = kustomized(OVERLAYS / "strict"), kustomized(OVERLAYS / "permissive")
    others = [[one for one in rendered.objects if one["kind"] != "ConfigMap"] for rendered in (strict, permissive)]
    assert others[0] == others[1]
    configs = [yaml.safe_load(rendered.of("ConfigMap")[0]["data"]["config.yaml"]) for rendered in (strict, permissive)]
    modes = [config["inbound"][0].pop("mode") for config in configs]
    assert modes == [Mode.STRICT, Mode.PERMISSIVE]
    assert configs[0] == configs[1]


def test_alarms_ask_for_metrics_labels_and_reasons_that_there_are() -> None:
    (rule,) = kustomized(OVERLAYS / "strict").of("PrometheusRule")
    alarms = [alarm for group in rule["spec"]["groups"] for alarm in group["rules"]]
    assert len({alarm["alert"] for alarm in alarms}) == len(alarms)
    for alarm in alarms:
        (name,) = re.findall(rf"{PREFIX}(\w+)", alarm["expr"])
        known = {*BY_NAME[name].labels, "namespace", "pod"}  # the last two are Prometheus' own
        (grouped,) = re.findall(r"by \(([^)]*)\)", alarm["expr"])
        matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"([^\"]*)\"", alarm["expr"])
        shown = set(re.findall(r"\$labels\.(\w+)", str(alarm["annotations"])))
        assert {*grouped.split(", "), *(label for label, _ in matched)} <= known, alarm["alert"]
        assert shown <= set(grouped.split(", ")), alarm["alert"]
        assert {word for label, text in matched if label == "reason" for word in text.split("|")} <= set(Reason)


def test_the_csi_overlay_may_ask_for_the_certificate_that_it_mounts() -> None:
    rendered = kustomized(OVERLAYS / "csi-driver-spiffe")
    ((_, pod),) = rendered.pods()
    drivers = [volume["csi"] for volume in pod["spec"]["volumes"] if "csi" in volume]
    assert drivers[0]["volumeAttributes"] == {"spiffe.csi.cert-manager.io/fs-group": str(PROXY_GID)}
    (role,), (binding,) = rendered.of("Role"), rendered.of("RoleBinding")
    assert role["rules"] == [
        {"apiGroups": ["cert-manager.io"], "resources": ["certificaterequests"], "verbs": ["create"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == pod["spec"]["serviceAccountName"]


def test_the_certificate_is_an_svid_of_the_account_that_mounts_it() -> None:
    certificates = {
        one["metadata"]["name"]: one["spec"]
        for one in kustomized(DEPLOY / "kubernetes" / "cert-manager").of("Certificate")
    }
    svid = certificates["orders-svid"]
    base = kustomized(DEPLOY / "kubernetes" / "base")
    ((_, pod),) = base.pods()
    account, namespace = pod["spec"]["serviceAccountName"], base.of("Deployment")[0]["metadata"]["namespace"]
    assert svid["uris"] == [f"spiffe://example.org/ns/{namespace}/sa/{account}"]
    assert set(svid["usages"]) == {"digital signature", "client auth", "server auth"}  # X509-SVID 4.3, 4.4
    assert svid["secretName"] in {
        volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume
    }

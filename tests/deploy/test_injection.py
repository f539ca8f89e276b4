"""The manifests that are written by hand have what `mtls-sidecar inject` writes: they are compared, not trusted."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from proxy.core.configfile import read_config
from proxy.pod.identityvolumes import identity_parts
from proxy.pod.injection import inject
from proxy.pod.names import CONFIG_FILE, CONTAINERS, HELPER_CONFIG_FILE, SIDECAR
from proxy.pod.settings import Settings
from proxy.pod.settingwords import parse_identity, parse_mappings, parse_mode, parse_port_list
from tests.deploy.manifests import DEPLOY, Json, kustomized

pytestmark = pytest.mark.needs("kubectl")

OVERLAYS = DEPLOY / "kubernetes" / "overlays"
SETTINGS = Settings(
    trust_domain="example.org",
    allow=("spiffe://example.org/ns/shop/sa/cart",),
    ports=parse_port_list("8080"),
    intercept=False,
    outbound=tuple(
        parse_mappings(
            "[{name: payments, listen: '127.0.0.1:9001', upstream: 'payments.shop.svc.cluster.local:80', "
            "server_ids: ['spiffe://example.org/ns/shop/sa/payments']}]"
        )
    ),
    config=(("timeouts", {"drain_s": 20}),),
)
EACH = [
    pytest.param(DEPLOY / "kubernetes" / "base", "secret/orders-svid", "STRICT", id="base"),
    pytest.param(OVERLAYS / "permissive", "secret/orders-svid", "PERMISSIVE", id="permissive"),
    pytest.param(OVERLAYS / "csi-driver-spiffe", "csi-driver-spiffe", "STRICT", id="csi-driver-spiffe"),
    pytest.param(OVERLAYS / "spire", "spiffe-csi", "STRICT", id="spire"),
]


def without_sidecar(pod: Json) -> Json:
    """The application's own part of a template."""
    spec = dict(pod["spec"])
    spec.pop("initContainers")
    spec.pop("volumes")
    return {"metadata": pod["metadata"], "spec": spec}


@pytest.mark.parametrize(("folder", "identity", "mode"), EACH)
def test_the_containers_and_volumes_are_those_of_inject(folder: Path, identity: str, mode: str) -> None:
    rendered = kustomized(folder)
    ((_, pod),) = rendered.pods()
    settings = dataclasses.replace(SETTINGS, identity=parse_identity(identity), mode=parse_mode(mode))
    injected = inject(without_sidecar(pod), settings, owner_kind="Deployment", config_map="orders-sidecar")

    ours = {one["name"]: one for one in pod["spec"]["initContainers"]}
    theirs = {one["name"]: one for one in injected.pod["spec"]["initContainers"]}
    assert list(ours) == [name for name in CONTAINERS if name in theirs]
    assert ours == theirs
    assert volumes(pod) == volumes(injected.pod)

    written = dict(injected.files)[CONFIG_FILE]
    (by_hand,) = [one["data"][CONFIG_FILE] for one in rendered.of("ConfigMap") if CONFIG_FILE in one["data"]]
    assert config_of(by_hand) == config_of(written)


def volumes(pod: Json) -> dict[str, Json]:
    """By name; which ConfigMap holds a file, and whether one key of it is picked, is a manifest's own to say."""
    found = {}
    for volume in pod["spec"]["volumes"]:
        (kind,) = volume.keys() - {"name"}
        found[volume["name"]] = {kind: None if kind == "configMap" else volume[kind]}
    return found


def config_of(text: str) -> object:
    """What a configuration means, without the names of its listeners."""
    config = read_config(text.encode(), file="config.yaml")
    return dataclasses.replace(config, inbound=tuple(dataclasses.replace(one, name="") for one in config.inbound))


def test_spiffe_helper_is_told_the_same() -> None:
    settings = dataclasses.replace(SETTINGS, identity=parse_identity("spiffe-csi"))
    assert settings.identity is not None
    expected = identity_parts(settings, settings.identity, {}).helper_config
    assert (OVERLAYS / "spire" / HELPER_CONFIG_FILE).read_text() == expected


def test_the_pages_name_the_container_as_the_code_does() -> None:
    pages = [(DEPLOY.parent / "docs" / name).read_text() for name in ("rollout.md", "unproven.md")]
    assert all(f"-c {SIDECAR}" in page for page in pages)


def test_the_values_of_the_csi_driver_are_of_this_trust_domain() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes" / "cert-manager" / "csi-driver-spiffe-values.yaml").read_text())
    assert values["app"]["trustDomain"] == SETTINGS.trust_domain
    issuers = {
        one["metadata"]["name"] for one in kustomized(DEPLOY / "kubernetes" / "cert-manager").of("ClusterIssuer")
    }
    assert values["app"]["issuer"]["name"] in issuers

"""
Where the sidecar's SVID and trust bundles come from, as volumes of the Pod, and where they lie then.

All sources end in one folder with tls.crt, tls.key and ca.crt, so that the configuration does not depend on the source.
Only the sidecar mounts it (and spiffe-helper, who writes it): whoever can read the key is this workload.

    csi-driver-spiffe   cert-manager's CSI driver writes and renews the files; its ca.crt has to be turned on there
    spiffe-csi          SPIRE's CSI driver mounts the Workload API's socket, and spiffe-helper writes what comes from it
    secret/NAME         somebody else keeps a Secret up to date
"""

from dataclasses import dataclass

from proxy.pod.containerresources import helper_resources
from proxy.pod.names import (
    BUNDLE_VOLUME,
    BUNDLES_PATH,
    CONFIG_VOLUME,
    GID,
    HELPER_CONFIG_FILE,
    HELPER_CONFIG_PATH,
    HELPER_CONFIG_VOLUME,
    IDENTITY_PATH,
    IDENTITY_VOLUME,
    SPIFFE_HELPER,
    WORKLOAD_API_PATH,
    WORKLOAD_API_VOLUME,
)
from proxy.pod.podshape import Json
from proxy.pod.settings import Settings
from proxy.pod.settingwords import IdentityKind, IdentitySource
from proxy.pod.sidecarcontainer import restricted

_GROUP_READABLE, _ALL_READABLE = 0o440, 0o444
_SPIRE_SOCKET = f"{WORKLOAD_API_PATH}/spire-agent.sock"


@dataclass(frozen=True, slots=True)
class IdentityParts:
    """What a source adds to the Pod. helper_config: of spiffe-helper, empty without it; note: for --explain."""

    section: Json
    volumes: tuple[Json, ...]
    mounts: tuple[Json, ...]
    helpers: tuple[Json, ...] = ()
    helper_config: str = ""
    note: str = ""


def identity_parts(settings: Settings, source: IdentitySource, spec: Json) -> IdentityParts:
    """Lay out the identity; settings are complete here."""
    bundles = {settings.trust_domain: f"{IDENTITY_PATH}/ca.crt"}
    volumes: list[Json] = []
    mounts: list[Json] = [{"name": IDENTITY_VOLUME, "mountPath": IDENTITY_PATH, "readOnly": True}]
    for number, (domain, config_map) in enumerate(settings.bundles):
        name, path = f"{BUNDLE_VOLUME}-{number}", f"{BUNDLES_PATH}/{domain}"
        bundles[domain] = f"{path}/ca.crt"
        volumes.append({"name": name, "configMap": {"name": config_map}})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
    section = {"cert": f"{IDENTITY_PATH}/tls.crt", "key": f"{IDENTITY_PATH}/tls.key", "bundles": bundles}
    if source.kind is IdentityKind.SECRET:
        return _secret(source.name, section, volumes, mounts, spec)
    if source.kind is IdentityKind.CSI_DRIVER_SPIFFE:
        csi = {
            "driver": "spiffe.csi.cert-manager.io",
            "readOnly": True,
            "volumeAttributes": {"spiffe.csi.cert-manager.io/fs-group": str(GID)},
        }
        note = "cert-manager's csi-driver-spiffe writes the SVID; its chart has to be given the CA for ca.crt."
        return IdentityParts(section, ({"name": IDENTITY_VOLUME, "csi": csi}, *volumes), tuple(mounts), note=note)
    return _spire(settings, section, volumes, mounts)


def _secret(name: str, section: Json, volumes: list[Json], mounts: list[Json], spec: Json) -> IdentityParts:
    # The files belong to root. With an fsGroup the sidecar is in their group; to set one would have kubelet change the
    # group of the app's own volumes, so without one everybody may read, and the sidecar alone has the mount.
    has_group = (spec.get("securityContext") or {}).get("fsGroup") is not None
    mode = _GROUP_READABLE if has_group else _ALL_READABLE
    volume = {"name": IDENTITY_VOLUME, "secret": {"secretName": name, "defaultMode": mode}}
    note = f"The SVID is the Secret {name} (tls.crt, tls.key, ca.crt); whoever renews it, the sidecar takes it up."
    if not has_group:
        note += " The Pod has no fsGroup, so its files have the mode 0444, in a mount that the sidecar alone has."
    return IdentityParts(section, (volume, *volumes), tuple(mounts), note=note)


def _spire(settings: Settings, section: Json, volumes: list[Json], mounts: list[Json]) -> IdentityParts:
    volumes = [
        {"name": WORKLOAD_API_VOLUME, "csi": {"driver": "csi.spiffe.io", "readOnly": True}},
        # In memory, as the key must not come to rest on the node's disk.
        {"name": IDENTITY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        *volumes,
    ]
    helper: Json = {
        "name": SPIFFE_HELPER,
        "image": settings.spiffe_helper_image,
        "args": ["-config", f"{HELPER_CONFIG_PATH}/{HELPER_CONFIG_FILE}"],
        "resources": helper_resources(settings),
        "securityContext": restricted(),
        "volumeMounts": [
            {"name": WORKLOAD_API_VOLUME, "mountPath": WORKLOAD_API_PATH, "readOnly": True},
            {"name": IDENTITY_VOLUME, "mountPath": IDENTITY_PATH},
            {"name": HELPER_CONFIG_VOLUME, "mountPath": HELPER_CONFIG_PATH, "readOnly": True},
        ],
    }
    lines = (
        f'agent_address = "{_SPIRE_SOCKET}"',
        f'cert_dir = "{IDENTITY_PATH}"',
        'svid_file_name = "tls.crt"',
        'svid_key_file_name = "tls.key"',
        'svid_bundle_file_name = "ca.crt"',
        "cert_file_mode = 0644",
        "key_file_mode = 0600",
        "daemon_mode = true",
    )
    note = f"SPIRE's agent gives the SVID over csi.spiffe.io, and {SPIFFE_HELPER} writes it; it needs a registration."
    return IdentityParts(
        section, tuple(volumes), tuple(mounts), (helper,), "".join(f"{line}\n" for line in lines), note
    )


def config_volume(file: str, annotation: str, config_map: str) -> Json:
    """The volume of one generated file: an annotation through the downward API, or a ConfigMap where there is one."""
    name = HELPER_CONFIG_VOLUME if file == HELPER_CONFIG_FILE else CONFIG_VOLUME
    if config_map:
        return {"name": name, "configMap": {"name": config_map, "items": [{"key": file, "path": file}]}}
    source = {"fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
    return {"name": name, "downwardAPI": {"items": [{"path": file, **source}]}}

"""
Names, ports, paths and ids of what is injected: the words that the Pod, the configuration and the manifests share.
"""

from proxy.pod.redirect import OWN_PORTS, PROXY_GID, PROXY_UID

SIDECAR = "mtls-sidecar"
INTERCEPT = "mtls-sidecar-intercept"
SPIFFE_HELPER = "mtls-sidecar-spiffe-helper"
CONTAINERS = (INTERCEPT, SPIFFE_HELPER, SIDECAR)

IDENTITY_VOLUME = "mtls-sidecar-identity"
CONFIG_VOLUME = "mtls-sidecar-config"
HELPER_CONFIG_VOLUME = "mtls-sidecar-helper-config"
WORKLOAD_API_VOLUME = "mtls-sidecar-workload-api"
BUNDLE_VOLUME = "mtls-sidecar-bundle"  # with a number behind it

IDENTITY_PATH = "/run/svid"
BUNDLES_PATH = "/run/bundles"
CONFIG_PATH = "/etc/mtls-sidecar"
CONFIG_FILE = "config.yaml"
HELPER_CONFIG_PATH = "/etc/spiffe-helper"
HELPER_CONFIG_FILE = "helper.conf"
WORKLOAD_API_PATH = "/spiffe-workload-api"

ADMIN_PORT, OUTBOUND_PORT, INBOUND_PORT, HEALTH_PORT = OWN_PORTS
UID = PROXY_UID
GID = PROXY_GID

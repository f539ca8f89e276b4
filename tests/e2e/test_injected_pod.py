"""
An injected Pod as a kubelet would run it: the arguments, users, capabilities and configuration are those that `inject`
wrote, and the Pods they run in are network namespaces.
"""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.e2e.apps import http_hello
from tests.e2e.pki import Pki
from tests.e2e.pods import CIDR_V4, CIDR_V6, EVERYBODY, Node, Pod, PodSidecar
from tests.e2e.waiting import PATIENCE_S
from tests.programs import program

pytestmark = pytest.mark.needs("ip", "nft", "nsenter", "setpriv", "unshare", "curl")

PORT = 8080
MANIFEST = f"""\
apiVersion: v1
kind: Pod
metadata:
  name: orders
  namespace: shop
  annotations:
    mtls-sidecar.io/allow: spiffe://example.org/ns/shop/sa/cart
spec:
  serviceAccountName: orders
  containers:
    - name: app
      image: orders:1
      ports: [{{containerPort: {PORT}}}]
      livenessProbe: {{httpGet: {{path: /healthz, port: {PORT}}}}}
      readinessProbe: {{tcpSocket: {{port: {PORT}}}}}
"""
ROUTES = [{"to": cidr, "server_ids": EVERYBODY} for cidr in (CIDR_V4, CIDR_V6)]
OPTIONS = ("--identity", "secret/svid", "--trust-domain", "example.org", "--ipv6", "--routes", json.dumps(ROUTES))


def inject() -> dict[str, Any]:
    """The Pod that the command makes of MANIFEST."""
    argv = [sys.executable, "-m", "proxy", "inject", "-f", "-", *OPTIONS]
    done = subprocess.run(argv, input=MANIFEST, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    pod: dict[str, Any] = yaml.safe_load(done.stdout)
    return pod


def container(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    every = [*manifest["spec"]["initContainers"], *manifest["spec"]["containers"]]
    return next(one for one in every if one["name"] == name)


def run_init_container(pod: Pod, manifest: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """With its user and its capabilities, and no other."""
    init = container(manifest, "mtls-sidecar-intercept")
    security = init["securityContext"]
    assert (security["runAsUser"], security["capabilities"]["drop"]) == (0, ["ALL"])
    kept = ",".join(f"+{name.lower()}" for name in security["capabilities"]["add"])
    sandbox = (program("setpriv"), f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs")
    return pod.run(*sandbox, sys.executable, "-m", "proxy", *init["args"])


def run_sidecar(pod: Pod, manifest: dict[str, Any], pki: Pki, name: str) -> PodSidecar:
    """With its user and its configuration; only the files of the identity lie elsewhere."""
    assert container(manifest, "mtls-sidecar")["args"][0] == "run"
    annotations = manifest["metadata"]["annotations"]
    config = yaml.safe_load(annotations["mtls-sidecar.io/generated-config"])
    sections = {key: value for key, value in config.items() if key != "identity"}
    uid = container(manifest, "mtls-sidecar")["securityContext"]["runAsUser"]
    return pod.sidecar(pki.identity(name), uid=uid, **sections)


def test_an_injected_pod_works_as_it_was_injected(node: Node, pki: Pki) -> None:
    manifest = inject()
    cart, orders, stranger = node.pod("cart"), node.pod("orders"), node.pod("stranger")
    for pod in (cart, orders, stranger):
        applied = run_init_container(pod, manifest)
        assert (applied.returncode, applied.stdout.count("  validated: ")) == (0, 4), applied
        run_sidecar(pod, manifest, pki, pod.name.rpartition("-")[2])
    app = orders.app(http_hello, PORT)
    for family in (4, 6):
        url = f"http://{orders.host(family)}:{PORT}/"
        assert cart.curl(url).body == "hello"
        assert stranger.curl(url).status == 0  # not in `allow`
        assert node.curl(url).status == 0  # plaintext to STRICT
    assert app.accepted == 2


def test_kubelet_reaches_an_injected_pod_by_its_rewritten_probes(node: Node, pki: Pki) -> None:
    manifest = inject()
    pod = node.pod("orders")
    assert run_init_container(pod, manifest).returncode == 0
    run_sidecar(pod, manifest, pki, "orders")
    app, sidecar = container(manifest, "app"), container(manifest, "mtls-sidecar")
    probes = [one[kind]["httpGet"] for one in (app, sidecar) for kind in ("livenessProbe", "readinessProbe")]

    def answers() -> list[int]:
        return [node.curl(f"http://{pod.v4}:{probe['port']}{probe['path']}").status for probe in probes]

    assert answers() == [503, 503, 200, 200]
    pod.app(http_hello, PORT)
    assert answers() == [200, 200, 200, 200]

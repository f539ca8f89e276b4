"""
Pods that `mtls-sidecar inject` has written, brought to life in network namespaces.

What runs are the words of the injected Pod: the arguments of its init container, its configuration, and its probes as
kubelet reads them. Only the identity's files lie elsewhere.
"""

from typing import Any

import pytest
import yaml

from proxy.pod.injection import inject
from proxy.pod.settings import CONFIG
from tests.e2e.apps import echo, http_hello
from tests.e2e.pki import Pki
from tests.e2e.pods import Curled, Node, Pod, PodSidecar
from tests.e2e.waiting import until
from tests.pod.pods import Json, app, pod, settings

pytestmark = pytest.mark.needs("ip", "nft", "nsenter", "setpriv", "unshare", "curl")

ALLOW = "spiffe://example.org/ns/shop/sa/*"
ROUTE = f"[{{to: 10.88.0.0/24, ports: [8080], server_ids: ['{ALLOW}']}}]"


class Living:
    """An injected Pod that runs on a node."""

    def __init__(self, node: Node, pki: Pki, name: str, value: Json, **texts: str) -> None:
        self.written = inject(value, settings(allow=ALLOW, **texts)).pod
        self.pod: Pod = node.pod(name)
        for container in self.written["spec"]["initContainers"]:
            if container["name"] == "mtls-sidecar-intercept":
                done = self.pod.intercept(*container["args"][1:])
                assert (done.returncode, done.stderr) == (0, ""), done
        config = yaml.safe_load(self.written["metadata"]["annotations"][CONFIG])
        del config["identity"]
        self.sidecar: PodSidecar = self.pod.sidecar(pki.identity(name), **config)
        self._node = node

    def probe(self, key: str) -> Curled:
        """What kubelet sees: an HTTP request from the node, as the Pod's probe says."""
        request = self.written["spec"]["containers"][0][key]["httpGet"]
        return self._node.curl(f"http://{self.pod.v4}:{request['port']}{request['path']}")


def with_probes(**probes: Any) -> Json:
    return pod(app(**probes))


def test_kubelets_probes_reach_the_app_under_strict_and_nothing_else_in_plaintext_does(node: Node, pki: Pki) -> None:
    probes = {
        "livenessProbe": {"httpGet": {"path": "/h", "port": 8080}},
        "readinessProbe": {"tcpSocket": {"port": 9090}},
    }
    living = Living(node, pki, "b", with_probes(**probes))
    assert [living.probe(key).status for key in probes] == [503, 503]
    living.pod.app(http_hello, 8080)
    living.pod.app(echo, 9090)
    assert [living.probe(key).status for key in probes] == [200, 200]
    assert "hello" not in living.probe("livenessProbe").body
    assert node.curl(f"http://{living.pod.v4}:8080/h").status == 0
    (line,) = living.sidecar.closed()
    assert line["reason"] == "PLAINTEXT_REFUSED"


def test_two_injected_pods_speak_mutual_tls_by_themselves(node: Node, pki: Pki) -> None:
    client = Living(node, pki, "a", pod(), ports="none", routes=ROUTE)
    server = Living(node, pki, "b", pod())
    server.pod.app(http_hello, 8080)
    assert client.pod.curl(f"http://{server.pod.v4}:8080/").body == "hello"
    (line,) = server.sidecar.closed()
    assert (line["security"], line["tls"]["peer_spiffe_id"]) == ("mutual_tls", "spiffe://example.org/ns/shop/sa/a")


def test_a_pod_without_interception_has_its_listeners_beside_the_apps_ports(node: Node, pki: Pki) -> None:
    outbound = f"[{{name: b, listen: '127.0.0.1:9001', upstream: '10.88.0.2:15006', server_ids: ['{ALLOW}']}}]"
    server = Living(node, pki, "b", pod(), intercept="false", ports="8080")
    client = Living(node, pki, "a", pod(), intercept="false", ports="none", outbound=outbound)
    server.pod.app(http_hello, 8080, host="127.0.0.1")
    assert server.pod.v4 == "10.88.0.2"
    assert client.pod.curl("http://127.0.0.1:9001/").body == "hello"
    assert node.curl(f"http://{server.pod.v4}:8080/").status == 0


def test_probes_that_change_are_in_force_without_a_restart(node: Node, pki: Pki) -> None:
    living = Living(node, pki, "b", with_probes(livenessProbe={"tcpSocket": {"port": 8080}}))
    living.pod.app(echo, 8081)
    assert living.probe("livenessProbe").status == 503
    living.sidecar.config["health"]["app_probes"][0]["port"] = 8081
    living.sidecar.write()
    until(lambda: living.probe("livenessProbe").status == 200, "the new probe is in force")

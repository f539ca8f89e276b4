"""The load test's Jobs agree with each other and with the command; and their arguments, typed as they stand, work."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.lab.results import read
from tests.deploy.manifests import DEPLOY, Json, kustomized
from tests.e2e.apps import App, Serve, http_hello
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Sidecar, inbound

LOADTEST = DEPLOY / "loadtest"
QUICK = (
    "--rounds=1",
    "--seconds=0.3",
    "--warm-up=0.1",
    "--slack=1",
    "--meet-lead=2",
    "--processes=1",
    "--concurrency=2",
)

pytestmark = pytest.mark.needs("kubectl")


def job(folder: Path) -> Json:
    (found,) = kustomized(folder).of("Job")
    spec: Json = found["spec"]
    return spec


def settings() -> dict[str, str]:
    (found,) = kustomized(LOADTEST).of("ConfigMap")
    data: dict[str, str] = found["data"]
    return data


def test_the_fleet_has_one_size() -> None:
    spec = job(LOADTEST)
    assert spec["completionMode"] == "Indexed"
    assert str(spec["completions"]) == str(spec["parallelism"]) == settings()["SIZE"]


def test_a_generator_that_failed_is_not_started_into_a_run_that_went_on() -> None:
    spec = job(LOADTEST)
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")


def test_everything_meets_on_one_volume() -> None:
    (claim,) = kustomized(LOADTEST).of("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for folder in (LOADTEST, LOADTEST / "merge"):
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in job(folder)["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert claims == [claim["metadata"]["name"]]


def test_the_certificate_is_of_the_account_that_mounts_it() -> None:
    (certificate,) = kustomized(LOADTEST / "identity").of("Certificate")
    pod = job(LOADTEST)["template"]["spec"]
    namespace = certificate["metadata"]["namespace"]
    assert certificate["spec"]["uris"] == [f"spiffe://example.org/ns/{namespace}/sa/{pod['serviceAccountName']}"]
    assert certificate["spec"]["secretName"] in [
        volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume
    ]


def test_the_target_is_the_service_of_the_base_by_default() -> None:
    (service,) = kustomized(DEPLOY / "kubernetes" / "base").of("Service")
    (port,) = [port["port"] for port in service["spec"]["ports"]]
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert settings()["TARGET"] == f"{name}:{port}"


@pytest.mark.slow
def test_the_arguments_of_the_manifests_measure_merge_and_report(
    pki: Pki, start_app: Callable[[Serve], App], tmp_path: Path
) -> None:
    """Two generators at once, then the merge and the report, with paths of this machine in place of the mounts."""
    orders, generator = pki.identity("orders"), pki.identity("loadtest")
    (tmp_path / "sidecar").mkdir()
    sidecar = Sidecar(tmp_path / "sidecar", orders, inbound=[inbound("orders", start_app(http_hello).address)])
    mounts = {
        "/results/": f"{tmp_path}/",
        "/run/svid/tls.crt": str(generator.cert),
        "/run/svid/tls.key": str(generator.key),
    }
    mounts["/run/svid/ca.crt"] = str(generator.bundle)
    try:
        sidecar.wait_ready()
        host, port = sidecar.at("orders")
        variables = settings() | {
            "TARGET": f"{host}:{port}",
            "SERVER_ID": orders.spiffe_id,
            "SIZE": "2",
            "RUN": "run-7",
        }
        (container,) = job(LOADTEST)["template"]["spec"]["containers"]
        generators = [
            start([*expanded(container, variables | {"INDEX": str(index)}, mounts), *QUICK]) for index in range(2)
        ]
        for each in generators:
            out, complaints = each.communicate(timeout=100)
            assert each.returncode == 0, out + complaints
    finally:
        sidecar.kill()
    pod = job(LOADTEST / "merge")["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        step = start(expanded(container, variables, mounts))
        out, complaints = step.communicate(timeout=60)
        assert (step.returncode, complaints) == (0, "")
    assert (out.startswith("<!doctype html>"), out.endswith("</html>\n")) == (True, True)
    parts = [read(str(tmp_path / "run-7" / f"generator-{index}.json")) for index in range(2)]
    total = read(str(tmp_path / "run-7" / "all.json"))
    assert parts[0].started_at == parts[1].started_at == total.started_at
    assert len(total.rows) == 4
    for row, *of_parts in zip(total.rows, *(part.rows for part in parts), strict=True):
        assert (row.fault, row.scenario.concurrency) == (None, 4)
        assert [one.count for one in row.rounds] == [
            sum(counts) for counts in zip(*([one.count for one in part.rounds] for part in of_parts), strict=True)
        ]


def expanded(container: Json, variables: dict[str, str], mounts: dict[str, str]) -> list[str]:
    """The arguments as kubelet would make them, with our paths; a variable that is not there is a slip."""
    words = [re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], word) for word in container["args"]]
    for mounted, ours in mounts.items():
        words = [word.replace(mounted, ours) for word in words]
    return words


def start(words: list[str]) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "proxy", *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

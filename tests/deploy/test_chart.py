"""The chart of the webhook: helm accepts it, its switches do what they say, and what it passes on is what there is."""

import argparse
import json
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import __version__
from proxy.cli import webhook
from proxy.pod import webhookserver
from proxy.pod.settings import PREFIX, TABLE
from tests.deploy.dockerfile import REPOSITORY
from tests.deploy.manifests import CHART_VALUES, CHARTS, charted
from tests.programs import program

pytestmark = pytest.mark.needs("helm")

(CHART,) = CHARTS
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
BY_NAME = {values.name.removesuffix("-values.yaml"): values for values in CHART_VALUES}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("values", CHART_VALUES, ids=lambda path: path.stem)
def test_helm_has_no_complaint(values: Path) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout


def test_it_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert {chart["version"], chart["appVersion"], __version__} == {version}


@pytest.mark.parametrize(
    "words",
    [["replica=2"], ["settings.identty=x"], ["webhook.failurePolicy=fail"], ["replicas=0"], ["image.repository="]],
)
def test_a_value_that_is_none_is_refused(words: list[str]) -> None:
    done = helm("template", "release", str(CHART), *(word for value in words for word in ("--set", value)))
    assert done.returncode != 0
    assert "values.schema.json" in done.stderr or "schema" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["certificate.certManager.enabled=false", "certificate.caBundle=TEVTVA=="], "name a Secret"),
        (["certificate.certManager.enabled=false", "certificate.existingSecret=x"], "needs the CA"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(words: list[str], sentence: str) -> None:
    done = helm("template", "release", str(CHART), *(word for value in words for word in ("--set", value)))
    assert done.returncode != 0
    assert sentence in done.stderr


def test_every_setting_may_be_given_and_is_passed_on_as_an_option() -> None:
    ((_, pod),) = charted(BY_NAME["everything"]).pods()
    arguments = pod["spec"]["containers"][0]["args"]
    given = yaml.safe_load(BY_NAME["everything"].read_text())["settings"]
    assert given.keys() <= {row.name for row in TABLE}
    passed = dict(word.removeprefix("--").split("=", 1) for word in arguments[1:])
    assert {name: passed[name] for name in given} == {
        name: value if isinstance(value, str) else str(value).lower() for name, value in given.items()
    }
    for row in TABLE:
        if row.name in given:
            row.parse(passed[row.name])


@pytest.mark.parametrize("values", CHART_VALUES, ids=lambda path: path.stem)
def test_the_command_takes_its_options(values: Path) -> None:
    ((_, pod),) = charted(values).pods()
    container = pod["spec"]["containers"][0]
    parser = argparse.ArgumentParser()
    webhook.add_arguments(parser)
    given = parser.parse_args(container["args"][1:])
    assert container["args"][0] == "webhook"
    assert given.listen.port == container["ports"][0]["containerPort"]
    assert {Path(given.cert).parent, Path(given.key).parent} == {Path(container["volumeMounts"][0]["mountPath"])}
    assert pod["spec"]["terminationGracePeriodSeconds"] > given.drain_delay + webhookserver.GRACE_S


def test_the_webhook_is_asked_for_pods_of_labelled_namespaces_and_never_for_its_own() -> None:
    rendered = charted(BY_NAME["default"])
    (webhook,) = rendered.of("MutatingWebhookConfiguration")[0]["webhooks"]
    assert webhook["failurePolicy"] == "Fail"
    assert webhook["namespaceSelector"]["matchLabels"] == VALUES["webhook"]["namespaceSelector"]["matchLabels"]
    (own,) = webhook["namespaceSelector"]["matchExpressions"]
    assert own == {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "mesh"]}
    (expression,) = webhook["objectSelector"]["matchExpressions"]
    assert expression == {"key": f"{PREFIX}inject", "operator": "NotIn", "values": ["false"]}
    ((_, pod),) = rendered.pods()
    assert pod["metadata"]["labels"][f"{PREFIX}inject"] == "false"


def test_the_webhook_leads_to_the_service_that_the_certificate_names() -> None:
    rendered = charted(BY_NAME["default"])
    configuration = rendered.of("MutatingWebhookConfiguration")[0]
    target = configuration["webhooks"][0]["clientConfig"]["service"]
    (service,), (_, certificate) = rendered.of("Service"), rendered.of("Certificate")
    assert target["name"] == service["metadata"]["name"]
    assert target["port"] == service["spec"]["ports"][0]["port"]
    assert f"{target['name']}.{target['namespace']}.svc" in certificate["spec"]["dnsNames"]
    injected = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == f"{target['namespace']}/{certificate['metadata']['name']}"
    ((_, pod),) = rendered.pods()
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == certificate["spec"]["secretName"]


def test_its_certificate_can_be_renewed_without_a_minute_that_no_ca_fits() -> None:
    """By a CA that keeps its key, so that the old certificate is good to the new CA and the new one to the old."""
    rendered = charted(BY_NAME["default"])
    ca, certificate = rendered.of("Certificate")
    issuers = {one["metadata"]["name"]: one["spec"] for one in rendered.of("Issuer")}
    assert issuers[certificate["spec"]["issuerRef"]["name"]] == {"ca": {"secretName": ca["spec"]["secretName"]}}
    assert issuers[ca["spec"]["issuerRef"]["name"]] == {"selfSigned": {}}
    assert (ca["spec"]["isCA"], ca["spec"]["privateKey"]["rotationPolicy"]) == (True, "Never")


def test_with_an_issuer_of_the_clusters_there_is_no_ca_of_its_own() -> None:
    reference = 'certificate.certManager.issuerRef={"name": "internal", "kind": "ClusterIssuer"}'
    done = helm("template", "release", str(CHART), "--set-json", reference)
    made = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] in ("Issuer", "Certificate")]
    assert [one["spec"]["issuerRef"]["name"] for one in made] == ["internal"]


def test_the_command_of_the_notes_survives_a_shell() -> None:
    inbound = "9090: {mode: DISABLE}\n3306: {allow: ['spiffe://example.org/**']}\n"
    settings = f"settings={json.dumps({'mode': 'PERMISSIVE', 'inbound': inbound})}"
    done = helm("install", "--dry-run=client", "release", str(CHART), "--set-json", settings)
    command = done.stdout.partition("| mtls-sidecar inject ")[2]
    words = shlex.split(command.partition(" >/dev/null")[0])
    assert words == ["-f", "-", "--explain", "--inbound", inbound, "--mode", "PERMISSIVE"]


def test_without_cert_manager_nothing_of_it_is_left() -> None:
    rendered = charted(BY_NAME["without-cert-manager"])
    assert [one["kind"] for one in rendered.objects if "cert-manager" in one["apiVersion"]] == []
    configuration = rendered.of("MutatingWebhookConfiguration")[0]
    assert configuration["webhooks"][0]["clientConfig"]["caBundle"] == "TEVTVA=="
    assert "annotations" not in configuration["metadata"]
    assert {one["kind"] for one in rendered.objects} & {"PodDisruptionBudget", "NetworkPolicy", "PodMonitor"} == set()


def test_service_accounts_of_named_namespaces_may_ask_for_their_svids() -> None:
    rendered = charted(BY_NAME["everything"])
    bindings = {one["metadata"]["namespace"]: one["subjects"][0]["name"] for one in rendered.of("RoleBinding")}
    assert bindings == {"shop": "system:serviceaccounts:shop", "web": "system:serviceaccounts:web"}
    assert {tuple(rule["verbs"]) for one in rendered.of("Role") for rule in one["rules"]} == {("create",)}

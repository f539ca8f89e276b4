"""Streams that are odd: markers in odd places, JSON, broken documents, documents of no interest."""

import json

import pytest
import yaml

from proxy.pod.refusal import Refused
from proxy.pod.settings import Settings
from proxy.pod.workloads import Task
from proxy.pod.yamldocument import MEMORY
from proxy.pod.yamlstream import transform
from tests.pod.pods import settings

APP = {"name": "app"}
POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\nspec:\n  containers:\n  - name: app\n    image: x\n"


def inject(text: str, chosen: Settings | None = None, *, to_config_map: bool = False) -> str:
    return transform(text, Task(chosen or settings(), to_config_map), file="x.yaml")[0]


def uninject(text: str) -> str:
    return transform(text, Task(None), file="x.yaml")[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "...\n---\n",
        "kind: ConfigMap\napiVersion: v1\ndata:\n  kind: Pod\n",
        "apiVersion: example.com/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
        "apiVersion: v1\nkind: Service\nmetadata:   {name: Pod}\n",
        "- Pod\n- List\n",
        "kind: ConfigMap\nmetadata: {annotations: [1]}\n---\nkind: ConfigMap\nmetadata: [1]\n",
        "apiVersion: v1\nkind: List\nitems: [1, null, {kind: ConfigMap, metadata: 1}]\n",
        "Pod",
        "apiVersion: v1\nkind: List\nitems: null\n",
        "%YAML 1.1\n---\nkind: Service\n",
    ],
)
def test_what_makes_no_pods_is_copied(text: str) -> None:
    assert inject(text) == text


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "---\n{}",
        "--- # why\n{}...\n",
        "{}---\n",
        "a: |\n  ----\n  --- no marker\n---\n{}",
        "\ufeff{}",
        "# a\n\n{}# b\n",
        "kind: Service\n---\n{}---\nkind: Service\n",
        "---\n---\n{}\n\n---\n# c\n",
    ],
)
@pytest.mark.parametrize("to_config_map", [False, True])
def test_everything_around_a_pod_stays(around: str, to_config_map: bool) -> None:
    text = around.format(POD)
    out = inject(text, to_config_map=to_config_map)
    assert out.count("name: mtls-sidecar\n") == 1
    lines = iter(out.removeprefix("\ufeff").splitlines())
    assert [line for line in text.removeprefix("\ufeff").splitlines() if line.strip() and line not in lines] == []
    assert (inject(out, to_config_map=to_config_map), uninject(out)) == (out, text)


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("indent", [None, 2, 4])
def test_json_stays_json_with_its_indentation(indent: int | None, end: str) -> None:
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ü"}, "spec": {"containers": [{"name": "app"}]}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [value]}, indent=indent, ensure_ascii=False) + end
    out = inject(text)
    assert json.loads(out)["items"][0]["spec"]["initContainers"][1]["name"] == "mtls-sidecar"
    assert (inject(out), uninject(out)) == (out, text)


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_config_map_before_json_has_a_line_of_its_own_for_the_marker(end: str) -> None:
    text = (
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [APP]}}) + end
    )
    out = inject(text, to_config_map=True)
    assert [json.loads(part)["kind"] for part in out.split("\n---\n")] == ["ConfigMap", "Pod"]
    assert (inject(out, to_config_map=True), uninject(out)) == (out, text)


def test_each_kind_has_a_config_map_of_its_own() -> None:
    body = "apiVersion: apps/v1\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: app}]}}}\n"
    out = inject(f"kind: Deployment\n{body}---\nkind: StatefulSet\n{body}", to_config_map=True)
    names = [one["metadata"]["name"] for one in yaml.safe_load_all(out) if one["kind"] == "ConfigMap"]
    assert names == ["a-deployment-mtls-sidecar", "a-statefulset-mtls-sidecar"]


@pytest.mark.parametrize("to_config_map", [False, True])
def test_items_without_a_kind_have_the_kind_of_their_list(to_config_map: bool) -> None:
    item = {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [APP]}}}}
    text = json.dumps({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [item, None]}) + "\n"
    out = inject(text, to_config_map=to_config_map)
    *config_maps, injected, nothing = json.loads(out)["items"]
    assert [one["kind"] for one in config_maps] == ["ConfigMap"] * to_config_map
    assert injected["spec"]["template"]["spec"]["initContainers"]
    assert (injected.keys(), nothing) == (item.keys(), None)
    assert (inject(out, to_config_map=to_config_map), uninject(out)) == (out, text)


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {template: {spec: {containers: [{}]}}}\n",
        "apiVersion: extensions/v1beta1\nkind: Deployment\nspec: {template: {spec: {containers: [{}]}}}\n",
        "kind: List\nitems:\n- {kind: X, spec: {jobTemplate: {spec: {template: {spec: {containers: [1]}}}}}}\n",
    ],
)
def test_a_template_in_an_unknown_kind_is_warned_of_and_copied(text: str) -> None:
    written, reports = transform(text, Task(settings()), file="x.yaml")
    assert written == text
    assert [report.passed_over for report in reports] == [True]
    assert transform(text, Task(None), file="x.yaml") == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        "kind: {{ .Values.kind }}\nspec:\n  template: {spec: {containers: [\n",
        "kind: CustomResourceDefinition\nspec: {template: {spec: {containers: [1]}}}\n",
        "kind: ConfigMap\ndata:\n  a: |\n    template: containers\n",
    ],
)
def test_what_only_looks_like_a_template_is_copied_without_a_word(text: str) -> None:
    assert transform(text, Task(settings()), file="x.yaml") == (text, [])


def test_a_file_that_was_edited_since_keeps_the_edit_and_loses_the_memory() -> None:
    text = "kind: Pod\napiVersion: v1\nspec: {containers: [{name: app, ports: [{containerPort: 80}]}]}\n"
    out = inject(text)
    assert MEMORY in out
    assert uninject(out) == text
    edited = out.replace("name: app,", "name: app, image: new,")
    assert "containers: [{name: app, image: new, ports: " in uninject(edited)


@pytest.mark.parametrize("memory", ["", "[", '[[0,99,""]]', '[[5,1,""]]', '[[0,1,"kind: Pod\\n"]]', "x" * 50])
def test_a_memory_that_is_damaged_is_not_believed(memory: str) -> None:
    out = inject(POD) + f"{MEMORY}{memory}\n"
    assert uninject(out) == POD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod\n---\nkind: Pod\nspec: [\n", "x.yaml:3: This is no YAML: "),
        ("kind: Pod\nspec:\n{{- if .x }}\n", "x.yaml: It looks like a template, which has to be rendered first"),
        ("kind: Pod\nkind: Pod\n", 'x.yaml:1: This is no YAML: found duplicate key "kind"'),
        ("# c\n\nkind: Pod\napiVersion: v1\n", "x.yaml:3: Pod without a name: It has no spec."),
        (
            "kind: Deployment\napiVersion: apps/v1\nmetadata: {annotations: 5}\nspec: {template: 7}\n",
            "It has no spec.t",
        ),
        (POD.replace("name: one", "name: {{ .Name }}"), "x.yaml:1: Pod without a name: metadata.name has to be text"),
        (POD.replace("app", "istio-proxy"), "x.yaml:1: Pod one: The Pod has Istio's container"),
        ("apiVersion: v1\nkind: Pod\nspec: &a {containers: [*a]}\n", "x.yaml:1: "),
        (
            POD.replace("image: x", "image: !secret x"),
            "x.yaml:1: This document cannot be written with a sidecar so that",
        ),
        ("kind: Pod\na: " + "[" * 150 + "]" * 150, "too large or too deep"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        inject(text)
    assert words in "\n".join(refused.value.sentences)


def test_a_document_that_stands_for_too_much_by_its_aliases_is_refused() -> None:
    bomb = "kind: Pod\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    with pytest.raises(Refused, match="stands for too much"):
        inject(bomb)


def test_every_fault_of_every_document_is_said_and_nothing_is_written() -> None:
    with pytest.raises(Refused) as refused:
        inject(f"{POD}---\nkind: Pod\napiVersion: v1\n---\n{POD.replace('app', 'linkerd-proxy')}")
    assert [one.partition(" ")[0] for one in refused.value.sentences] == ["x.yaml:10:", "x.yaml:13:"]


def test_merge_keys_are_written_out_where_they_are_in_the_way() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec:\n  containers:\n"
        "    - &a {name: a, livenessProbe: {tcpSocket: {port: 80}}}\n    - {<<: *a, name: b}\n"
    )
    out = inject(text)
    assert "/app-health/a/livez" in out
    assert "/app-health/b/livez" in out
    assert (inject(out), uninject(out)) == (out, text)


def test_text_that_is_tagged_as_text_is_text() -> None:
    text = POD.replace("image: x", "args: [!!str 1, !!str on, !!str yes]")
    out = inject(text)
    assert "args: [!!str 1, !!str on, !!str yes]" in out
    assert (inject(out), uninject(out)) == (out, text)


def test_annotations_on_the_workload_itself_are_warned_of() -> None:
    text = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\n  annotations: {mtls-sidecar.io/mode: DISABLE}\n"
        "spec: {template: {spec: {containers: [{name: a}]}}}\n"
    )
    sentences = [report.sentence for report in transform(text, Task(settings()), file="x")[1]]
    assert "spec.template.metadata.annotations" in next(one for one in sentences if "has no effect here" in one)


@pytest.mark.parametrize("line", range(POD.count("\n")))
def test_line_ends_that_are_mixed_come_home_too(line: int) -> None:
    lines = POD.splitlines(keepends=True)
    lines[line] = lines[line].replace("\n", "\r\n")
    text = "".join(lines)
    out = inject(text)
    assert (inject(out), uninject(out)) == (out, text)

"""What holds for every Pod and every stream: injected twice is once, the way back leads home, Kubernetes takes it."""

import copy
import json

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy.core.configfile import read_config
from proxy.pod.injection import inject, uninject
from proxy.pod.refusal import Refused
from proxy.pod.settings import CONFIG, STATUS, Settings
from proxy.pod.workloads import Task
from proxy.pod.yamlstream import transform
from tests.pod.pods import Json, all_settings, objects, pods
from tests.pod.pods import settings as made
from tests.pod.schemas import check_schema

few = hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
fewer = hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ordered(value: object) -> str:
    """Equal for equal values whose keys have the same order."""
    return json.dumps(value)


@few
@given(pods(), all_settings())
def test_injecting_twice_is_once_and_the_way_back_is_the_pod(pod: Json, settings: Settings) -> None:
    before = copy.deepcopy(pod)
    once = inject(pod, settings).pod
    assert ordered(pod) == ordered(before)
    assert ordered(inject(once, settings).pod) == ordered(once)
    assert ordered(uninject(once).pod) == ordered(pod)


@few
@given(pods(), all_settings(), all_settings())
def test_injecting_anew_with_other_settings_is_injecting_with_them(pod: Json, one: Settings, other: Settings) -> None:
    assert ordered(inject(inject(pod, one).pod, other).pod) == ordered(inject(pod, other).pod)


@few
@given(pods(), all_settings())
def test_the_configuration_is_good_and_the_apps_parts_are_untouched(pod: Json, settings: Settings) -> None:
    after = inject(pod, settings).pod
    read_config(after["metadata"]["annotations"][CONFIG].encode(), file="x")
    for group in ("initContainers", "containers"):
        old = {one["name"]: one for one in pod["spec"].get(group, [])}
        new = {one["name"]: one for one in after["spec"].get(group, [])}
        for name, container in old.items():
            assert set(container) == set(new[name])
            same = {key for key in container if "Probe" not in key and key != "lifecycle"}
            assert {key: container[key] for key in same} == {key: new[name][key] for key in same}


@fewer
@given(objects(), all_settings(), st.sampled_from(["1.29", "1.33", "1.37"]))
def test_what_comes_out_is_valid_to_kubernetes(value: Json, settings: Settings, version: str) -> None:
    if check_schema(value, version):
        return  # it was not valid before
    text, _ = transform(yaml.safe_dump(value), Task(settings), file="x")
    assert check_schema(yaml.safe_load(text), version) == ""


@fewer
@given(st.lists(objects(), min_size=1, max_size=2), all_settings(), st.booleans(), st.data())
def test_a_stream_comes_home_byte_for_byte(
    values: list[Json], settings: Settings, to_config_map: bool, data: st.DataObject
) -> None:
    for number, value in enumerate(values):
        value["metadata"]["name"] = f"object-{number}"
    style = data.draw(
        st.fixed_dictionaries(
            {
                "default_flow_style": st.sampled_from([None, False, True]),
                "indent": st.sampled_from([2, 4]),
                "width": st.sampled_from([20, 80, 1000]),
                "allow_unicode": st.booleans(),
                "explicit_start": st.booleans(),
            }
        )
    )
    text = yaml.safe_dump_all(values, sort_keys=False, **style)
    out, _ = transform(text, Task(settings, to_config_map), file="x")
    assert transform(out, Task(settings, to_config_map), file="x")[0] == out
    assert transform(out, Task(None), file="x")[0] == text
    expected = [inject(value, settings).pod if value["kind"] == "Pod" else value for value in values]
    if not to_config_map:
        got = list(yaml.safe_load_all(out))
        assert [one for one in got if one["kind"] == "Pod"] == [one for one in expected if one["kind"] == "Pod"]


_JUNK_KEYS = (
    *("metadata", "annotations", "labels", "mtls-sidecar.io/status", "mtls-sidecar.io/inject"),
    *("spec", "template", "containers", "initContainers", "volumes", "name", "ports", "containerPort", "hostNetwork"),
    *("securityContext", "livenessProbe", "lifecycle", "preStop", "httpGet", "port", "path", "host"),
)
_junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 70_000), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(_JUNK_KEYS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(_junk, all_settings())
def test_junk_is_refused_in_sentences_or_injected(junk: object, settings: Settings) -> None:
    for value in (junk, {"metadata": junk, "spec": {"containers": [{"name": "a"}]}}, {"spec": {"containers": [junk]}}):
        try:
            inject(value, settings)  # type: ignore[arg-type]
        except Refused as refused:
            _check_sentences(refused, "")


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("kind: PodListapiVersion v1\n-{}[]&*!|>'\"#%@`\t,?x"), max_size=80), all_settings())
def test_junk_in_a_stream_is_refused_in_sentences_or_copied(text: str, settings: Settings) -> None:
    for whole in (text, f"kind: Pod\napiVersion: v1\n{text}"):
        try:
            out, _ = transform(whole, Task(settings), file="x")
        except Refused as refused:
            _check_sentences(refused, "x:")
        else:
            assert out == whole


def _check_sentences(refused: Refused, start: str) -> None:
    assert refused.sentences
    assert [one for one in refused.sentences if not one.startswith(start) or not one.endswith(".")] == []


def test_a_status_that_is_cut_off_is_refused() -> None:
    once = inject({"spec": {"containers": [{"name": "a"}]}}, made()).pod
    annotations = once["metadata"]["annotations"]
    whole = annotations[STATUS]
    for length in range(0, len(whole), 7):
        annotations[STATUS] = whole[:length]
        with pytest.raises(Refused, match="damaged"):
            uninject(once)

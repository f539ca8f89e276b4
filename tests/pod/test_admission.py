"""Reviews, good and bad, without a network."""

import base64
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy.pod.admission import MAX_WARNING_CHARS, Answer, MalformedReview, OnRefusal, Verdict, answer_review
from proxy.pod.injection import inject
from proxy.pod.workloads import Task
from proxy.pod.yamlstream import transform
from tests.pod.patching import apply_patch
from tests.pod.pods import Json, app, pod, pods, settings

KIND = {"group": "", "version": "v1", "kind": "Pod"}


def review(value: object, **more: object) -> Json:
    request = {"uid": "u-1", "kind": KIND, "operation": "CREATE", "namespace": "shop", "object": value, **more}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def answer(value: object, on_refusal: OnRefusal = OnRefusal.DENY, **more: object) -> Answer:
    return answer_review(json.dumps(review(value, **more)).encode(), settings(), on_refusal)


def response(given_answer: Answer) -> Any:
    body = json.loads(given_answer.body)
    assert (body["apiVersion"], body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert body["response"]["uid"] == "u-1"
    return body["response"]


def patched(value: Json, given_answer: Answer) -> Any:
    said = response(given_answer)
    assert said["patchType"] == "JSONPatch"
    return apply_patch(value, json.loads(base64.b64decode(said["patch"], validate=True)))


@hypothesis_settings(max_examples=10, deadline=None)
@given(pods())
def test_the_patch_is_what_the_command_would_have_written(value: Json) -> None:
    whole = {"apiVersion": "v1", "kind": "Pod", **value, "metadata": {"name": "one", **value.get("metadata", {})}}
    text, _ = transform(yaml.safe_dump(whole, sort_keys=False), Task(settings()), file="x")
    assert patched(whole, answer(whole)) == yaml.safe_load(text)


def test_a_pod_is_injected() -> None:
    said = answer(pod())
    assert said.verdict is Verdict.INJECTED
    assert said.pod == "shop/one"
    assert patched(pod(), said) == inject(pod(), settings()).pod
    assert response(said)["allowed"] is True


def test_the_same_question_has_the_same_answer_dry_run_or_not() -> None:
    assert answer(pod()).body == answer(pod()).body == answer(pod(), dryRun=True).body


@pytest.mark.parametrize(
    ("value", "more"),
    [
        (inject(pod(), settings()).pod, {}),
        (pod(annotations={"mtls-sidecar.io/inject": "false"}), {}),
        ({**pod(hostNetwork=True), "metadata": {"labels": {"mtls-sidecar.io/inject": "false"}}}, {}),
        (pod(), {"operation": "UPDATE"}),
        (None, {"operation": "DELETE"}),
        (pod(), {"subResource": "ephemeralcontainers"}),
        (pod(), {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}),
        (pod(), {"kind": {"group": "metrics.k8s.io", "version": "v1", "kind": "Pod"}}),
        (pod(), {"kind": None}),
        ("Pod", {}),
    ],
)
def test_other_questions_are_answered_with_yes_and_no_change(value: object, more: dict[str, object]) -> None:
    said = answer(value, **more)
    assert (said.verdict, response(said)) == (Verdict.LEFT_ALONE, {"uid": "u-1", "allowed": True})


@pytest.mark.parametrize("gone", ["mtls-sidecar", "mtls-sidecar-intercept"])
def test_the_record_of_an_injection_does_not_stand_for_the_sidecar(gone: str) -> None:
    whole = inject(pod(), settings()).pod
    copied = json.loads(json.dumps(whole))
    copied["spec"]["initContainers"] = [one for one in whole["spec"]["initContainers"] if one["name"] != gone]
    said = answer(copied)
    assert (said.verdict, patched(copied, said)) == (Verdict.INJECTED, whole)


def test_a_record_that_nobody_can_read_is_denied() -> None:
    said = answer(pod(annotations={"mtls-sidecar.io/status": "injected"}))
    assert (said.verdict, "is damaged" in response(said)["status"]["message"]) == (Verdict.DENIED, True)


def test_a_pod_that_cannot_be_injected_is_denied_with_every_reason_and_the_way_out() -> None:
    said = answer(pod(app(name="istio-proxy"), hostNetwork=True))
    status = response(said)["status"]
    assert (said.verdict, response(said)["allowed"], status["code"]) == (Verdict.DENIED, False, 422)
    for words in ("hostNetwork", "Istio", 'set the label mtls-sidecar.io/inject to "false"'):
        assert words in status["message"]


def test_or_admitted_with_a_warning_where_the_operator_prefers_that() -> None:
    said = answer(pod(hostNetwork=True), OnRefusal.WARN)
    assert (said.verdict, response(said)["allowed"]) == (Verdict.ADMITTED_WITHOUT, True)
    assert "patch" not in response(said)
    assert response(said)["warnings"][0].startswith("mtls-sidecar: not injected: hostNetwork")
    assert all(len(one) <= MAX_WARNING_CHARS for one in response(said)["warnings"])


def test_warnings_of_an_injection_reach_whoever_applies_the_pod() -> None:
    warnings = response(answer(pod(shareProcessNamespace=True)))["warnings"]
    assert [one for one in warnings if one.startswith("mtls-sidecar: shareProcessNamespace")]


def test_the_kind_of_the_owner_decides_about_classic_sidecars_of_jobs() -> None:
    value = pod(annotations={"mtls-sidecar.io/classic": "true"})
    assert answer(value).verdict is Verdict.INJECTED
    value["metadata"]["ownerReferences"] = [{"kind": "Job", "controller": True}]
    assert answer(value).verdict is Verdict.DENIED


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "no AdmissionReview"),
        (b'{"kind": "Pod"}', "no AdmissionReview"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}', "set admissionReviewVersions to"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}', "has no request"),
        (json.dumps(review({}, uid="")).encode(), "has no uid"),
        (json.dumps(review({}, uid=7)).encode(), "has no uid"),
        (json.dumps(review({}, uid="u" * 257)).encode(), "has no uid"),
    ],
)
def test_what_is_no_review_is_refused_in_a_sentence(body: bytes, words: str) -> None:
    with pytest.raises(MalformedReview, match=words):
        answer_review(body, settings(), OnRefusal.DENY)


def test_every_prefix_of_a_review_is_no_review() -> None:
    body = json.dumps(review({"spec": {}})).encode()
    for length in range(len(body)):
        with pytest.raises(MalformedReview):
            answer_review(body[:length], settings(), OnRefusal.DENY)


_KEYS = (
    *("metadata", "annotations", "labels", "ownerReferences", "kind", "controller", "spec", "containers", "name"),
    *("livenessProbe", "httpGet", "port", "volumes"),
    *("mtls-sidecar.io/inject", "mtls-sidecar.io/status", "mtls-sidecar.io/allow"),
)
_QUESTION = ("uid", "kind", "operation", "object", "namespace", "name", "subResource")
_anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    _anything,
    st.dictionaries(st.sampled_from(_QUESTION), _anything, max_size=2),
    st.sampled_from(OnRefusal),
)
def test_any_review_of_anything_is_answered_or_refused(value: object, more: dict[str, Any], how: OnRefusal) -> None:
    body = json.dumps(review(value) | {"request": review(value)["request"] | more})
    try:
        said = json.loads(answer_review(body.encode(), settings(), how).body)["response"]
    except MalformedReview:
        return
    assert isinstance(said["allowed"], bool)


@given(st.binary(max_size=200))
def test_junk_is_no_review(junk: bytes) -> None:
    with pytest.raises(MalformedReview):
        answer_review(junk, settings(), OnRefusal.DENY)

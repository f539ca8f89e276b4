"""
One admission review: the API server's question about a Pod, and our answer, as bytes and values alone.

Nothing is written anywhere, so a dry run is answered like any other review, and the same question has the same answer.
Asked about anything but the creation of a Pod, the answer is yes without a change. A Pod that carries the record of an
injection and the containers of it was injected before (by the command, or by us: the API server may ask twice) and is
let be. A record alone protects nobody: a Pod that was copied without its sidecar gets one.

A Pod that cannot be injected is denied with the sentences that say why, unless the operator prefers a warning: whoever
wants it unprotected can say so on the Pod.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from proxy.pod.injection import inject
from proxy.pod.jsonpatch import difference
from proxy.pod.podshape import Json, check_shape
from proxy.pod.refusal import Refused
from proxy.pod.settings import PREFIX, Settings, wants_injection
from proxy.pod.uninjection import has_sidecar, is_injected

API_VERSION = "admission.k8s.io/v1"
MAX_REVIEW_BYTES = 3 * 1024 * 1024  # the most that the API server itself takes for one object
MAX_UID_CHARS = 256
MAX_WARNING_CHARS = 250  # kubectl cuts longer ones, and the API server drops what exceeds 4096 together
MAX_WARNINGS = 10

_UNPROCESSABLE = 422


class OnRefusal(StrEnum):
    """What becomes of a Pod that cannot be injected."""

    DENY = "deny"
    WARN = "warn"


class Verdict(StrEnum):
    """How a review ended; the label of the metric."""

    INJECTED = "injected"
    LEFT_ALONE = "left_alone"  # it asks for that, it was injected before, or it is no creation of a Pod
    DENIED = "denied"
    ADMITTED_WITHOUT = "admitted_without"  # it cannot be injected, and the operator prefers a warning
    MALFORMED = "malformed"


class MalformedReview(Exception):  # noqa: N818  # a peer's fault, told to it
    """What was posted is no review; str() is a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one review. pod: which Pod it was, for the log; sentences: why it was denied, or warnings."""

    verdict: Verdict
    body: bytes
    pod: str = ""
    sentences: tuple[str, ...] = ()


def answer_review(body: bytes, defaults: Settings, on_refusal: OnRefusal) -> Answer:
    """Answer one review. Raises: MalformedReview."""
    request = _request(body)
    uid, value = request["uid"], request.get("object")
    if not _creates_pod(request) or not isinstance(value, dict):
        return _allow(uid, Verdict.LEFT_ALONE, "")
    what = _describe(value, request)
    try:
        return _inject(uid, value, what, defaults)
    except Refused as refused:
        if on_refusal is OnRefusal.DENY:
            return _deny(uid, what, refused.sentences)
        return _allow(uid, Verdict.ADMITTED_WITHOUT, what, warnings=refused.sentences)


def _inject(uid: str, value: Json, what: str, defaults: Settings) -> Answer:
    check_shape(value)
    metadata = value.get("metadata") or {}
    if is_injected(metadata) and wants_injection(metadata) is not False and has_sidecar(value):
        return _allow(uid, Verdict.LEFT_ALONE, what)
    made = inject(value, defaults, owner_kind=_owner_kind(metadata))
    operations = difference(value, made.pod)
    if not operations:
        return _allow(uid, Verdict.LEFT_ALONE, what)
    warnings = tuple(note.removeprefix("Warning: ") for note in made.notes if note.startswith("Warning: "))
    return _allow(uid, Verdict.INJECTED, what, operations=operations, warnings=warnings)


def _request(body: bytes) -> Json:
    """The request of a review. Raises: MalformedReview."""
    try:
        review = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedReview(f"The body is no JSON: {str(error).partition(chr(10))[0][:200]}.") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise MalformedReview("The body is no AdmissionReview.")
    if review.get("apiVersion") != API_VERSION:
        raise MalformedReview(f"Only {API_VERSION} is spoken here; set admissionReviewVersions to [v1].")
    request = review.get("request")
    if not isinstance(request, dict):
        raise MalformedReview("The AdmissionReview has no request.")
    uid = request.get("uid")
    if not isinstance(uid, str) or not 0 < len(uid) <= MAX_UID_CHARS:
        raise MalformedReview(f"The request has no uid of 1 to {MAX_UID_CHARS} characters.")
    return request


def _creates_pod(request: Mapping[str, Any]) -> bool:
    kind = request.get("kind")
    if not isinstance(kind, dict) or request.get("operation") != "CREATE" or request.get("subResource"):
        return False
    return kind.get("kind") == "Pod" and not kind.get("group")


def _describe(value: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """NAMESPACE/NAME, as far as both are known yet."""
    metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
    assert isinstance(metadata, dict)
    name = metadata.get("name") or metadata.get("generateName") or request.get("name") or "?"
    return f"{request.get('namespace') or metadata.get('namespace') or '?'}/{name}"[:512]


def _owner_kind(metadata: Mapping[str, Any]) -> str:
    owners = metadata.get("ownerReferences")
    if isinstance(owners, list):
        for owner in owners:
            if isinstance(owner, dict) and owner.get("controller") and isinstance(owner.get("kind"), str):
                return str(owner["kind"])
    return "Pod"


def _allow(
    uid: str, verdict: Verdict, what: str, *, operations: list[Json] | None = None, warnings: tuple[str, ...] = ()
) -> Answer:
    response: Json = {"uid": uid, "allowed": True}
    if operations:
        patch = json.dumps(operations, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode("ascii")}
    if warnings:
        lead = "mtls-sidecar: " if verdict is Verdict.INJECTED else "mtls-sidecar: not injected: "
        response["warnings"] = [f"{lead}{one}"[:MAX_WARNING_CHARS] for one in warnings[:MAX_WARNINGS]]
    return Answer(verdict, _body(response), what, warnings)


def _deny(uid: str, what: str, sentences: tuple[str, ...]) -> Answer:
    way_out = f'To run it without mutual TLS, set the label {PREFIX}inject to "false" on the Pod.'
    message = " ".join([f"mtls-sidecar: {sentences[0]}", *sentences[1:], way_out])
    status = {"code": _UNPROCESSABLE, "reason": "Invalid", "message": message[:4096]}
    return Answer(Verdict.DENIED, _body({"uid": uid, "allowed": False, "status": status}), what, sentences)


def _body(response: Json) -> bytes:
    return json.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}).encode()

"""How options and annotations are spelled: the table, and every word in it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.config import Mode
from proxy.pod.redirect import PortRange
from proxy.pod.refusal import Refused
from proxy.pod.settings import TABLE, Settings, read_settings, wants_injection
from proxy.pod.settingwords import IdentityKind, IdentitySource, Ports

ROWS = {row.field: row for row in TABLE}


def test_the_table_has_a_row_for_every_field_in_the_same_order() -> None:
    assert [row.field for row in TABLE] == [field.name for field in dataclasses.fields(Settings)]


def test_an_annotation_wins_over_the_option_and_leaves_the_others() -> None:
    defaults = Settings(mode=Mode.STRICT, trust_domain="example.org")
    read = read_settings({"mtls-sidecar.io/mode": "PERMISSIVE", "other": "x"}, defaults)
    assert read == dataclasses.replace(defaults, mode=Mode.PERMISSIVE)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("identity", "secret/orders-svid", IdentitySource(IdentityKind.SECRET, "orders-svid")),
        ("identity", " spiffe-csi ", IdentitySource(IdentityKind.SPIFFE_CSI)),
        ("bundles", "a.b=configmap/x, c=configmap/y", (("a.b", "x"), ("c", "y"))),
        ("allow", "spiffe://a/b,\n  spiffe://a/c spiffe://a/b", ("spiffe://a/b", "spiffe://a/c")),
        ("ports", "none", Ports()),
        ("ports", "80, 1-3 15010:8080", Ports((PortRange(1, 3), PortRange(80, 80)), ((15010, 8080),))),
        ("inbound", "{80: {mode: DISABLE}}", ((80, {"mode": "DISABLE"}),)),
        ("outbound", "[]", ()),
        ("config", "workers: 2", (("workers", 2),)),
        ("exclude_outbound_ports", "", ()),
        ("cpu_limit", "", ""),
        ("cpu_limit", "1.5", "1.5"),
        ("rewrite_probes", "False", False),
    ],
)
def test_texts_become_values(field: str, text: str, value: object) -> None:
    assert ROWS[field].parse(text) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("identity", "secret"),
        ("identity", "secret/Orders"),
        ("identity", "spiffe-csi/x"),
        ("identity", "vault"),
        ("trust_domain", "spiffe://example.org"),
        ("trust_domain", ""),
        ("bundles", "a.b=secret/x"),
        ("bundles", "a=configmap/x a=configmap/y"),
        ("mode", "STRICT!"),
        ("ports", ""),
        ("ports", "http"),
        ("ports", "80:90:100"),
        ("ports", "0"),
        ("ports", "70000:1"),
        ("inbound", "[1]"),
        ("inbound", "{http: {}}"),
        ("inbound", "{0: {}}"),
        ("inbound", "{true: {}}"),
        ("routes", "{to: x}"),
        ("config", "identity: {}"),
        ("exclude_inbound_ports", "*"),
        ("exclude_outbound_cidrs", "*"),
        ("exclude_outbound_cidrs", "10.0.0.1/8"),
        ("image", "-x"),
        ("image", "a b"),
        ("image_pull_policy", "Sometimes"),
        ("memory_limit", "64 MB"),
        ("classic", "yes"),
    ],
)
def test_other_texts_are_refused_with_a_clause(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"^\S.*[^.]$"):
        ROWS[field].parse(text)


@given(st.sampled_from(sorted(ROWS)), st.text(max_size=40))
def test_junk_is_a_value_or_a_refusal(field: str, text: str) -> None:
    try:
        value = ROWS[field].parse(text)
    except ValueError:
        with pytest.raises(Refused, match=f"^the annotation {ROWS[field].annotation} is "):
            read_settings({ROWS[field].annotation: text}, Settings())
    else:
        assert getattr(read_settings({ROWS[field].annotation: text}, Settings()), field) == value


@pytest.mark.parametrize(
    ("annotations", "labels", "wanted"),
    [
        (None, None, None),
        ({}, {}, None),
        ({"mtls-sidecar.io/inject": "true"}, {}, True),
        ({}, {"mtls-sidecar.io/inject": "enabled"}, True),
        ({"mtls-sidecar.io/inject": "true"}, {"mtls-sidecar.io/inject": "false"}, False),
        ({"mtls-sidecar.io/inject": "disabled"}, {"mtls-sidecar.io/inject": "true"}, False),
    ],
)
def test_false_wins_over_true_and_both_over_silence(
    annotations: dict[str, str] | None, labels: dict[str, str] | None, wanted: bool | None
) -> None:
    assert wants_injection({"annotations": annotations, "labels": labels}) is wanted


def test_an_annotation_that_is_too_long_is_refused_by_its_length() -> None:
    with pytest.raises(Refused, match="the most is 65536"):
        read_settings({"mtls-sidecar.io/allow": "x" * 65_537}, Settings())

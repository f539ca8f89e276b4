"""Patches: what they say, and that they lead where they should."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy.pod.injection import inject
from proxy.pod.jsonpatch import difference
from proxy.pod.settings import Settings
from tests.pod.patching import apply_patch
from tests.pod.pods import Json, all_settings, app, pod, pods, settings

names = st.sampled_from(["a", "b", "c", "d/e", "f~g", ""])
named = st.lists(
    st.fixed_dictionaries({"name": names, "x": st.integers(0, 2)}), max_size=4, unique_by=lambda one: one["name"]
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.sampled_from("ab")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3), named),
    max_leaves=12,
)


@given(values, values)
def test_a_patch_makes_the_new_value_of_the_old_one(old: object, new: object) -> None:
    assert apply_patch(old, difference(old, new)) == new


@given(named, named)
def test_lists_of_named_things_are_patched_by_name(old: list[Json], new: list[Json]) -> None:
    assert apply_patch(old, difference(old, new)) == new


@given(values)
def test_what_is_equal_needs_no_operation(value: object) -> None:
    assert difference(value, value) == []


@hypothesis_settings(max_examples=20, deadline=None)
@given(pods(), all_settings())
def test_the_patch_of_an_injection_is_the_injection(value: Json, chosen: Settings) -> None:
    after = inject(value, chosen).pod
    assert apply_patch(value, difference(value, after)) == after


def test_an_injection_adds_and_touches_nothing_of_the_apps_own() -> None:
    value = pod(app(livenessProbe={"httpGet": {"port": 80, "path": "/h"}}), volumes=[{"name": "data", "emptyDir": {}}])
    said = {(one["op"], one["path"]) for one in difference(value, inject(value, settings()).pod)}
    assert said == {
        ("add", "/metadata/annotations"),
        ("add", "/spec/initContainers"),
        ("replace", "/spec/containers/0/livenessProbe/httpGet/port"),
        ("replace", "/spec/containers/0/livenessProbe/httpGet/path"),
        ("add", "/spec/volumes/1"),
        ("add", "/spec/volumes/2"),
    }


@pytest.mark.parametrize(
    ("old", "new", "operations"),
    [
        ({"a/b": 1}, {"a/b": 2}, [{"op": "replace", "path": "/a~1b", "value": 2}]),
        ({"a~b": 1}, {}, [{"op": "remove", "path": "/a~0b"}]),
        ([1, 2], [2], [{"op": "replace", "path": "", "value": [2]}]),
        (
            [{"name": "a"}, {"name": "b"}],
            [{"name": "b"}, {"name": "a"}],
            [{"op": "replace", "path": "", "value": [{"name": "b"}, {"name": "a"}]}],
        ),
    ],
)
def test_operations_are_as_the_standard_writes_them(old: object, new: object, operations: list[Json]) -> None:
    assert difference(old, new) == operations

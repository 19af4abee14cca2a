"""Selectors: written, read and matched against a model of them; whatever else is written is refused with 400."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito_ray.local.apiserver import resources, selectors
from kaito_ray.local.apiserver.status import ApiError

KEYS = st.sampled_from(["a", "b", "app.kubernetes.io/name", "in", "notin", "x-1"])
VALUES = st.sampled_from(["", "1", "two", "in", "a.b_c"])
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)
REQUIREMENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["In", "NotIn"]), KEYS, st.lists(VALUES, min_size=1, max_size=3)),
        st.tuples(st.sampled_from(["Exists", "DoesNotExist"]), KEYS, st.just([])),
    ),
    max_size=3,
)
SPACE = st.sampled_from(["", " "])


def text_of(operator: str, key: str, values: list[str], space: str) -> str:
    listed = f"{space}({f',{space}'.join(values)})"
    return {
        "In": f"{key} in {listed}",
        "NotIn": f"{key} notin {listed}",
        "Exists": key,
        "DoesNotExist": f"!{key}",
    }[operator]


def holds(operator: str, key: str, values: list[str], labels: dict[str, str]) -> bool:
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[operator]


def labelled(labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "a", "labels": labels}}


@given(wanted=REQUIREMENTS, labels=LABELS, space=SPACE)
def test_a_label_selector_selects_what_each_of_its_parts_does(
    wanted: list[tuple[str, str, list[str]]], labels: dict[str, str], space: str
) -> None:
    expected = all(holds(*one, labels) for one in wanted)
    text = f",{space}".join(text_of(*one, space) for one in wanted)
    assert selectors.by_labels(text)(labelled(labels)) is expected
    as_object = {"matchExpressions": [{"key": k, "operator": o, "values": v} for o, k, v in wanted]}
    assert selectors.by_label_selector(as_object)(labelled(labels)) is expected


@given(labels=LABELS, others=LABELS)
def test_match_labels_are_a_subset(labels: dict[str, str], others: dict[str, str]) -> None:
    subset = labels.items() <= others.items()
    assert selectors.by_label_selector({"matchLabels": labels})(labelled(others)) is subset
    equal = ",".join(f"{key}={value}" for key, value in labels.items())
    assert selectors.by_labels(equal)(labelled(others)) is subset
    assert selectors.by_labels(equal.replace("=", "=="))(labelled(others)) is subset


@given(key=KEYS, value=VALUES, labels=LABELS)
def test_unequal_is_the_opposite_of_equal(key: str, value: str, labels: dict[str, str]) -> None:
    equal, unequal = (selectors.by_labels(f"{key}{operator}{value}")(labelled(labels)) for operator in ("=", "!="))
    assert equal is not unequal


@given(
    name=st.sampled_from(["a", "b", ""]),
    wanted=st.lists(st.tuples(st.sampled_from(["=", "==", "!="]), st.sampled_from(["a", "b", ""])), max_size=3),
)
def test_a_field_selector_selects_what_each_of_its_parts_does(name: str, wanted: list[tuple[str, str]]) -> None:
    text = ",".join(f"metadata.name{operator}{value}" for operator, value in wanted)
    expected = all((name == value) is (operator != "!=") for operator, value in wanted)
    for kind in (resources.POD, resources.EVENT_V1):
        assert selectors.by_fields(text, kind)({"metadata": {"name": name}}) is expected


@given(st.text(alphabet="ab=!,()<> in/.-_\n\x00é", max_size=16))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    for parse in (selectors.by_labels, lambda text: selectors.by_fields(text, resources.POD)):
        code = 400
        try:
            parse(text)(labelled({"a": "b"}))
        except ApiError as error:
            code = error.code
        assert code == 400


@pytest.mark.parametrize("operator", ["Within", "in", ""])
def test_an_operator_that_is_unknown_is_refused(operator: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.by_label_selector({"matchExpressions": [{"key": "a", "operator": operator, "values": ["b"]}]})
    assert refused.value.code == 400

"""Label and field selectors, and the projection that the log keeps for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito_ray.local.apiserver import resources, selectors
from kaito_ray.local.apiserver.status import ApiError


def labelled(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "a", "labels": labels}}


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("a=1", {"a": "1"}, True),
        ("a==1,b", {"a": "1"}, False),
        ("a!=1", {}, True),
        ("a in (1, 2),b notin (3)", {"a": "2"}, True),
        ("!a", {"a": ""}, False),
        ("a=", {"a": ""}, True),
        ("x.dev/a=1", {"x.dev/a": "1"}, True),
        ("", {"a": "1"}, True),
    ],
)  # fmt: skip
def test_label_selectors(text: str, labels: dict[str, str], selected: bool) -> None:
    assert selectors.by_labels(text)(labelled(**labels)) is selected


@pytest.mark.parametrize("text", ["a=b=c", "=b", "a in b", "a in (b", "-a", "a=b c", "a>1x<"])
def test_a_selector_that_cannot_be_read_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as error:
        selectors.by_labels(text)
    assert error.value.code == 400


@given(st.text(max_size=20))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    try:
        selectors.by_labels(text)(labelled(a="1"))
    except ApiError as error:
        code = error.code
    else:
        return
    assert code == 400


def test_a_selector_object_is_read_as_its_text() -> None:
    selector = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["2", "3"]},
            {"key": "c", "operator": "NotIn", "values": ["4"]},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "DoesNotExist"},
        ],
    }
    assert selectors.by_label_selector(selector)(labelled(a="1", b="3", d=""))
    assert not selectors.by_label_selector(selector)(labelled(a="1", b="3", d="", e=""))
    assert selectors.by_label_selector({})(labelled())


def test_events_are_selected_by_what_they_are_about_in_either_group() -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {"name": "x"}, "source": {"component": "c"}}
    assert selectors.by_fields("involvedObject.name=x,source=c", resources.EVENT)(event)
    assert selectors.by_fields("regarding.name!=y", resources.EVENT_V1)(event)


def test_a_kind_is_selected_by_its_own_fields_only() -> None:
    with pytest.raises(ApiError, match="is not a known field selector"):
        selectors.by_fields("spec.nodeName=x", resources.CONFIG_MAP)
    assert selectors.by_fields("spec.nodeName=x", resources.POD)({"metadata": {}, "spec": {"nodeName": "x"}})


def test_a_projection_is_seen_as_the_object_is() -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "1"}, "annotations": {"big": "x" * 100}},
        "spec": {"nodeName": "host", "containers": [{}]},
        "status": {"phase": "Running"},
    }
    seen = selectors.projection(pod)
    assert "annotations" not in seen["metadata"]
    for text in ("status.phase=Running,spec.nodeName=host,metadata.name=p", "status.phase!=Running"):
        test = selectors.by_fields(text, resources.POD)
        assert test(seen) is test(pod)
    assert selectors.by_labels("a=1")(seen)

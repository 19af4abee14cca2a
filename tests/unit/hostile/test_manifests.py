"""Whatever a manifest holds, admission answers in words; what one judge of types admits, the other reads."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kaito_ray.api import crd
from kaito_ray.api.admission import refusals, warnings
from kaito_ray.api.workspace import Workspace
from kaito_ray.local.apiserver import schema
from kaito_ray.testing.builders import TUNING, adapter, workspace

PRESETS = frozenset({"smollm2-135m-instruct", "phi-4"})
SCHEMA = next(v["schema"]["openAPIV3Schema"] for v in crd.crd()["spec"]["versions"] if v["storage"])

WORDS = st.sampled_from(
    [
        *("apiVersion", "kind", "metadata", "name", "annotations", "deletionTimestamp", "resource", "labelSelector"),
        *("matchLabels", "matchExpressions", "instanceType", "count", "inference", "preset", "adapters", "source"),
        *("strength", "template", "tuning", "input", "urls", "output", "image", "volume", "status", "nobody's"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["Workspace", "lora", "In", "1", "true", "nan", "ACR_REPO_HERE", "2026-01-01T00:00:00Z"])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)
OBJECTS = st.dictionaries(WORDS, TREES, max_size=6)

NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,8})", fullmatch=True)
LEGAL = st.builds(
    lambda name, labels, adapters, more, tuning, resource: (
        workspace(metadata={"name": name}, resource=resource, inference=None, tuning={**TUNING, **tuning})
        if tuning is not None
        else workspace(
            metadata={"name": name},
            resource={"labelSelector": {"matchLabels": labels}, **resource},
            inference={"adapters": [adapter(f"a-{one}", strength="0.5") for one in adapters], **more},
        )
    ),
    name=NAMES,
    labels=st.dictionaries(NAMES, NAMES, min_size=1, max_size=3),
    adapters=st.sets(NAMES, max_size=3),
    more=st.fixed_dictionaries(
        {},
        optional={
            "config": NAMES,
            "apiKeysSecret": NAMES,
            "autoscaling": st.just({"minReplicas": 0, "maxReplicas": 3, "upscaleDelaySeconds": 0}),
            "limits": st.fixed_dictionaries({}, optional={"maxQueued": st.integers(0, 2**40)}),
        },
    ),
    tuning=st.none()
    | st.fixed_dictionaries({}, optional={"workers": st.integers(1, 64), "resume": st.booleans(), "config": NAMES}),
    resource=st.fixed_dictionaries(
        {}, optional={"instanceType": NAMES, "zones": st.lists(NAMES, max_size=2), "capacityTypes": st.just(["spot"])}
    ),
)
"""Workspaces that admission lets in."""


@st.composite
def nearly_legal(draw: st.DrawFn) -> dict[str, Any]:
    """A legal Workspace in which one place below `resource`, `inference` or `tuning` holds something else."""
    manifest: dict[str, Any] = copy.deepcopy(draw(LEGAL))
    here: Any = manifest
    key: Any = draw(st.sampled_from([part for part in ("resource", "inference", "tuning") if part in manifest]))
    while isinstance(here[key], dict | list) and here[key] and draw(st.integers(0, 4)):
        here = here[key]
        key = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
    if here is not manifest and isinstance(here, dict) and draw(st.booleans()):
        key = draw(WORDS)
    here[key] = draw(TREES)
    return manifest


def cluster_accepts(manifest: dict[str, Any]) -> bool:
    """Whether an API server stores it as `kubectl` sends it, the webhook left out; defaults are filled in, in place."""
    if schema.prune(manifest, SCHEMA):
        return False
    schema.fill_defaults(manifest, SCHEMA)
    return not list(schema.structure(manifest, SCHEMA))


def readable(manifest: dict[str, Any]) -> bool:
    try:
        Workspace.from_wire(manifest)
    except ValidationError:
        return False
    return True


@given(new=OBJECTS, old=st.none() | OBJECTS)
def test_any_tree_is_answered_in_words(new: dict[str, Any], old: dict[str, Any] | None) -> None:
    for fault in refusals(new, old, presets=PRESETS):
        assert str(fault).startswith(f"{fault.field}: ")
        assert len(str(fault)) > len(fault.field) + 2
    assert all(": " in line for line in warnings(new))


@given(new=nearly_legal(), old=LEGAL)
def test_a_workspace_with_one_strange_place_is_answered_in_words(new: dict[str, Any], old: dict[str, Any]) -> None:
    assert all(fault.field for fault in refusals(new, old, presets=PRESETS))
    assert all(": " in line for line in warnings(new))


def test_a_bottomless_manifest_is_refused() -> None:
    deep: Any = "x"
    for _ in range(20_000):
        deep = {"a": deep}
    for place in ({"template": deep, "preset": None}, {"adapters": [deep]}, {"nobody's": deep}):
        (fault, *_) = refusals(workspace(inference=None) | {"inference": place}, workspace(), presets=PRESETS)
        assert fault.field


@given(LEGAL)
def test_a_legal_workspace_is_admitted_and_survives_reading_and_writing(manifest: dict[str, Any]) -> None:
    assert refusals(manifest, presets=PRESETS) == []
    read = Workspace.from_wire(manifest)
    assert Workspace.from_wire(read.to_wire()) == read
    written = read.to_wire()
    assert schema.prune(written, SCHEMA) == []
    assert schema.validate(written, SCHEMA) == []


@given(nearly_legal())
def test_the_operator_can_read_whatever_the_cluster_stores(manifest: dict[str, Any]) -> None:
    if cluster_accepts(stored := copy.deepcopy(manifest)):
        assert readable(stored), stored


@given(nearly_legal())
def test_the_command_line_reads_nothing_that_the_cluster_would_refuse(manifest: dict[str, Any]) -> None:
    if readable(manifest):
        assert cluster_accepts(copy.deepcopy(manifest)), list(schema.structure(manifest, SCHEMA))

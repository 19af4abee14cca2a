"""The CRD that the chart carries is the one that the models generate, and is one that Kubernetes accepts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaito_ray.api.crd import CHART_GROUP, crd, to_yaml

SHIPPED = Path(__file__).parents[2] / "charts/kaito-ray/templates/crd-workspaces.yaml"


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema inside `schema` with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key], f"{path}[{key}]")


@pytest.fixture
def stored() -> dict[str, Any]:
    return next(v for v in crd()["spec"]["versions"] if v["storage"])


def test_the_chart_carries_what_the_models_generate() -> None:
    assert SHIPPED.read_text() == to_yaml(crd(CHART_GROUP)), f"run: python -m kaito_ray.api.crd > {SHIPPED}"


def test_helm_keeps_it_when_the_operator_is_uninstalled() -> None:
    assert crd()["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_identity_is_kaitos() -> None:
    spec = crd()["spec"]
    assert spec["names"]["plural"] == "workspaces"
    assert spec["names"]["shortNames"] == ["wk", "wks"]
    assert spec["names"]["categories"] == ["workspace"]
    assert [(v["name"], v["served"], v["storage"]) for v in spec["versions"]] == [
        ("v1alpha1", True, False),
        ("v1beta1", True, True),
    ]


def test_default_columns_are_those_of_the_quick_start(stored: dict[str, Any]) -> None:
    columns = [c["name"].upper() for c in stored["additionalPrinterColumns"] if not c.get("priority")]
    assert columns == ["INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]


def test_every_schema_is_structural(stored: dict[str, Any]) -> None:
    allowed = {
        *("type", "description", "enum", "format", "minimum", "maximum", "maxItems", "default", "items", "properties"),
        *("additionalProperties", "required", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations"),
    }
    for path, schema in schemas(stored["schema"]["openAPIV3Schema"]):
        assert schema.get("type") in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert set(schema) <= allowed, path
        assert not ("properties" in schema and "additionalProperties" in schema), path


def test_fields_sit_at_the_root(stored: dict[str, Any]) -> None:
    assert set(stored["schema"]["openAPIV3Schema"]["properties"]) == {
        *("apiVersion", "kind", "metadata", "resource", "inference", "tuning", "status"),
    }


def test_volume_is_another_name_of_volume_source(stored: dict[str, Any]) -> None:
    tuning = stored["schema"]["openAPIV3Schema"]["properties"]["tuning"]["properties"]
    for side in ("input", "output"):
        assert tuning[side]["properties"]["volume"] == tuning[side]["properties"]["volumeSource"]


def test_no_instance_type_is_defaulted(stored: dict[str, Any]) -> None:
    defaults = {
        path: schema["default"] for path, schema in schemas(stored["schema"]["openAPIV3Schema"]) if "default" in schema
    }
    assert defaults == {
        ".resource.count": 1,
        ".inference.preset.accessMode": "public",
        ".tuning.preset.accessMode": "public",
        ".inference.autoscaling.minReplicas": 1,
        ".inference.autoscaling.maxReplicas": 1,
    }

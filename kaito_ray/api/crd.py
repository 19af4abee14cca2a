"""The CustomResourceDefinition, generated from the models, so that the two cannot disagree.

Pydantic writes JSON Schema; Kubernetes wants a *structural* schema: no references, no unions with null, no closed
objects (unknown fields are pruned, or refused by `kubectl`'s strict validation). `python -m kaito_ray.api.crd` prints
the template that the chart carries.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import yaml
from pydantic import AliasChoices, BaseModel

from kaito_ray.api import names, workspace
from kaito_ray.api.workspace import Workspace

Schema = dict[str, Any]

SERVED_VERSIONS: Final = ("v1alpha1", names.VERSION)
"""Both have the same schema, so the conversion strategy is None; `names.VERSION` is stored."""

OWNER_ANNOTATION: Final = "ray.kaito.sh/crd-owner"
"""Says that this CRD is ours; the operator leaves a cluster alone whose CRD is not."""

_CONDITION: Final = '.status.conditions[?(@.type=="{}")].status'

COLUMNS: Final[tuple[Schema, ...]] = (
    {"name": "Instance", "type": "string", "jsonPath": ".status.plan.instanceType"},
    {"name": "ResourceReady", "type": "string", "jsonPath": _CONDITION.format("ResourceReady")},
    {"name": "InferenceReady", "type": "string", "jsonPath": _CONDITION.format("InferenceReady")},
    {"name": "WorkspaceReady", "type": "string", "jsonPath": _CONDITION.format("WorkspaceReady")},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "State", "type": "string", "jsonPath": ".status.state", "priority": 1},
    {"name": "JobStarted", "type": "string", "jsonPath": _CONDITION.format("JobStarted"), "priority": 1},
    {
        "name": "WorkspaceSucceeded",
        "type": "string",
        "jsonPath": _CONDITION.format("WorkspaceSucceeded"),
        "priority": 1,
    },
    {"name": "TargetNodeCount", "type": "integer", "jsonPath": ".status.targetNodeCount", "priority": 1},
    {"name": "Replicas", "type": "integer", "jsonPath": ".status.replicas.desired", "priority": 1},
    {"name": "ReadyReplicas", "type": "integer", "jsonPath": ".status.replicas.ready", "priority": 1},
    {"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint", "priority": 1},
    {"name": "Why", "type": "string", "jsonPath": ".status.reason", "priority": 1},
)
"""What `kubectl get workspace` prints; priority 1 appears with `-o wide`."""

_ONE_VOLUME: Final = (
    "!(has(self.volume) && has(self.volumeSource))",
    "volume is another name of volumeSource; set one of them",
)
RULES: Final[dict[type[BaseModel], tuple[str, str]]] = {
    Workspace: (
        "has(self.inference) != has(self.tuning)",
        "set exactly one of inference (to serve a model) and tuning (to tune one)",
    ),
    workspace.InferenceSpec: (
        "has(self.preset) != has(self.template)",
        "set exactly one of inference.preset and inference.template",
    ),
    workspace.DataSource: _ONE_VOLUME,
    workspace.DataDestination: _ONE_VOLUME,
}
"""CEL rules, and what they say; everything that needs longer words is admission's business."""

_KEPT: Final = ("type", "description", "enum", "format", "minimum", "maximum", "pattern", "maxItems")


CHART_GROUP: Final = "{{ .Values.apiGroup }}"
"""The group as the chart's template says it."""


def crd(group: str = names.GROUP) -> Schema:
    """Return the CustomResourceDefinition of Workspace."""
    schema = _root(Workspace.model_json_schema(by_alias=True, mode="serialization"))
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names.PLURAL}.{group}",
            # Uninstalling the operator must not delete anybody's Workspaces.
            "annotations": {"helm.sh/resource-policy": "keep", OWNER_ANNOTATION: names.MANAGED_BY},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": "workspace",
                "shortNames": ["wk", "wks"],
                "categories": ["workspace"],
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == names.VERSION,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(COLUMNS),
                    "schema": {"openAPIV3Schema": schema},
                }
                for version in SERVED_VERSIONS
            ],
        },
    }


def to_yaml(manifest: Schema) -> str:
    """Return the manifest as YAML, without anchors, in the order it was built."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's signature
            return True

    return yaml.dump(manifest, Dumper=Plain, sort_keys=False, width=120, allow_unicode=True)


def _root(schema: Schema) -> Schema:
    root = _structural(schema, schema["$defs"], model=Workspace.__name__)
    fields = root["properties"]
    fields["apiVersion"] = {"type": "string"}
    fields["kind"] = {"type": "string"}
    fields["metadata"] = {"type": "object"}
    _drop_defaults(fields["status"])  # the operator writes status whole; a default would write beside it
    root["required"] = ["resource"]
    return root


def _structural(schema: Schema, defs: dict[str, Schema], model: str = "") -> Schema:
    """Return `schema` with references resolved and only what a structural schema may say.

    `model` is the name of the pydantic model that `schema` describes, where it describes one.
    """
    if "anyOf" in schema:  # X or null: absence is how Kubernetes says null
        (only,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        schema = {**only, **{k: v for k, v in schema.items() if k != "anyOf"}}
    if "$ref" in schema:
        model = schema["$ref"].rsplit("/", 1)[1]
        schema = {**defs[model], **schema}
    out: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if schema.get("default"):  # an empty default says no more than absence
        out["default"] = schema["default"]
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        out["x-kubernetes-preserve-unknown-fields"] = True
    elif isinstance(values := schema.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(values, defs)
    if "items" in schema:
        out["items"] = _structural(schema["items"], defs)
    if "properties" in schema:
        fields = {name: _structural(field, defs) for name, field in schema["properties"].items()}
        out["properties"] = fields | {other: fields[name] for other, name in _other_names(model)}
        if required := schema.get("required"):
            out["required"] = required
    if rule := _RULE_OF.get(model):
        out["x-kubernetes-validations"] = [{"rule": rule[0], "message": rule[1]}]
    return out


_RULE_OF: Final = {model.__name__: rule for model, rule in RULES.items()}


def _other_names(model: str) -> list[tuple[str, str]]:
    """Return (other name, name) of each field that the model reads under two names (`volume`, `volumeSource`)."""
    found = getattr(workspace, model, None)
    return [
        (str(other), str(field.serialization_alias))
        for field in (found.model_fields.values() if found else ())
        if isinstance(field.validation_alias, AliasChoices)
        for other in field.validation_alias.choices
        if other != field.serialization_alias
    ]


def _drop_defaults(schema: Schema) -> None:
    schema.pop("default", None)
    children = list(schema.get("properties", {}).values())
    if "items" in schema:
        children.append(schema["items"])
    for child in children:
        _drop_defaults(child)


if __name__ == "__main__":
    sys.stdout.write(to_yaml(crd(CHART_GROUP)))

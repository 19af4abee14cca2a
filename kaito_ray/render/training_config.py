"""`training_config.yaml` of a Workspace's ConfigMap: read here, and judged by the job, which knows the libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from kaito_ray.errors import InvalidWorkspace
from kaito_ray.render.inputs import Manifest

KEY: Final = "training_config.yaml"
"""The key of the ConfigMap."""
ROOT: Final = "training_config"
"""The one key of the file."""
_FIELD: Final = "tuning.config"


def parse(config_map: Manifest) -> dict[str, Any]:
    """Return the sections of the ConfigMap's file.

    Raises:
        InvalidWorkspace: there is no such file in it, it is not YAML, or it has another root.
    """
    name = config_map["metadata"]["name"]
    text = (config_map.get("data") or {}).get(KEY)
    if text is None:
        raise InvalidWorkspace(_FIELD, f"ConfigMap {name} has no key {KEY}; add it")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidWorkspace(_FIELD, f"{KEY} of ConfigMap {name} is not YAML: {error}") from error
    if not isinstance(document, Mapping) or set(document) != {ROOT}:
        raise InvalidWorkspace(_FIELD, f"{KEY} of ConfigMap {name} must have {ROOT} as its only root")
    sections = document[ROOT]
    if not isinstance(sections, Mapping | None):
        raise InvalidWorkspace(_FIELD, f"{KEY} of ConfigMap {name}: {ROOT} must hold sections")
    return dict(sections or {})


def training_argument(sections: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return one of the `TrainingArguments`, where it is of the same type as the default; else the default."""
    value = (sections.get("TrainingArguments") or {}).get(name, default)
    return value if isinstance(value, type(default)) else default

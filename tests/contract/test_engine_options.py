"""Every engine option that may be set exists in the vLLM that is pinned. Its source is read, not imported."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from kaito_ray.catalog.load import presets
from kaito_ray.render.adapters import DENSE, WITHOUT_LORA
from kaito_ray.render.inference_config import ENGINE, PLANNED


def package() -> Path:
    """Return vLLM's directory."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


VLLM = package()


def fields(file: str, class_: str) -> set[str]:
    """Return the annotated fields of a class in vLLM."""
    tree = ast.parse((VLLM / file).read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_)
    return {s.target.id for s in found.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}


KNOWN = (
    fields("engine/arg_utils.py", "EngineArgs")
    | fields("entrypoints/launchers/cli_args.py", "BaseFrontendArgs")
    | fields("entrypoints/launchers/cli_args.py", "FrontendArgs")
)

ARCHITECTURES = sorted({preset.shape.architecture for preset in presets().values()})


def vllms_classes() -> dict[str, list[str]]:
    """Return the names of the bases of every model class in vLLM."""
    found: dict[str, list[str]] = {}
    for part in ("model_executor/models", "models"):
        for path in (VLLM / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).extend(ast.unparse(base) for base in node.bases)
    return found


CLASSES = vllms_classes()


def supports_lora(class_: str) -> bool:
    return class_ == "SupportsLoRA" or any(supports_lora(base) for base in CLASSES.get(class_, ()) if base != class_)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_is_on_only_where_vllm_has_it(architecture: str) -> None:
    implemented = architecture in CLASSES
    assert implemented
    if architecture in DENSE:
        assert supports_lora(architecture)
    if not supports_lora(architecture):
        assert architecture in WITHOUT_LORA


@pytest.mark.parametrize("option", sorted([*PLANNED, *ENGINE]))
def test_vllm_has_it(option: str) -> None:
    assert option in KNOWN

"""Every engine option that may be set exists in the vLLM that is pinned. Its source is read, not imported."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from kaito_ray.render.inference_config import ENGINE, PLANNED


def fields(file: str, class_: str) -> set[str]:
    """Return the annotated fields of a class in vLLM."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / file).read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_)
    return {s.target.id for s in found.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}


KNOWN = (
    fields("engine/arg_utils.py", "EngineArgs")
    | fields("entrypoints/launchers/cli_args.py", "BaseFrontendArgs")
    | fields("entrypoints/launchers/cli_args.py", "FrontendArgs")
)


@pytest.mark.parametrize("option", sorted([*PLANNED, *ENGINE]))
def test_vllm_has_it(option: str) -> None:
    assert option in KNOWN

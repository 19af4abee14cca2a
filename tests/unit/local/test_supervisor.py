import ast
import sys
from pathlib import Path

import pytest

import kaito_ray
from kaito_ray.local import supervisor
from kaito_ray.local.home import Home

ROOT = Path(kaito_ray.__file__).parents[1]


@pytest.mark.parametrize(("failures", "wait_s"), [(0, 0.5), (1, 1.0), (4, 8.0), (50, 30.0)])
def test_backoff(failures, wait_s):
    assert supervisor.backoff_s(failures) == wait_s


def test_the_crds_are_there_before_the_agent_and_the_operator_start(tmp_path):
    parts = supervisor.parts(Home.at(tmp_path))

    assert [(part.name, part.once) for part in parts] == [
        ("apiserver", False),
        ("install", True),
        ("machine", False),
        ("operator", False),
    ]


def test_no_part_gets_a_secret_by_its_command_line(tmp_path):
    words = [word for part in supervisor.parts(Home.at(tmp_path)) for word in part.command]

    assert not [word for word in words if "token" in word or "password" in word]


def test_the_supervisor_needs_the_standard_library_alone():
    todo, imported = ["kaito_ray.local.supervisor"], set()
    while todo:
        name = todo.pop()
        if name not in imported:
            imported.add(name)
            todo += imports_of(name)

    assert "kaito_ray.local.home" in imported
    assert {name.partition(".")[0] for name in imported} - {"kaito_ray"} <= set(sys.stdlib_module_names)


def imports_of(module: str) -> list[str]:
    """The modules that one of our own modules imports, with the packages that are imported on the way."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    file = file if file.exists() else file.with_suffix("") / "__init__.py"
    if not file.exists():
        return []
    found = [module.rpartition(".")[0] or module]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found

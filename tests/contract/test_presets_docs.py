"""docs/models.md and docs/machines.md are what the data says; `make generate` writes them anew."""

from pathlib import Path

import pytest

from kaito_ray.estimator import docs

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "made"), [("models.md", docs.models), ("machines.md", docs.machines_page)])
def test_the_page_is_fresh(name: str, made: object) -> None:
    assert callable(made)
    assert (DOCS / name).read_text(encoding="utf-8") == made(), f"docs/{name} is stale: run `make generate`"

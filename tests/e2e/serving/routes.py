"""docs/routes.md against what an application serves."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

PAGE = Path(__file__).parents[3] / "docs" / "routes.md"
Routes = set[tuple[str, str]]
_ROW = re.compile(r"^\| (GET|POST) (/\S*) \| (all|text|embedding) \|", re.MULTILINE)


def documented(models: str) -> Routes:
    """Method and path of each route that the page lists for `text` or `embedding` models."""
    return {(method, path) for method, path, which in _ROW.findall(PAGE.read_text("utf-8")) if which in ("all", models)}


def served(http: httpx.Client) -> Routes:
    """What the application says of itself."""
    paths = http.get("/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}

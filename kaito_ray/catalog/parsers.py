"""Which of vLLM's parsers understands a model: by its name first, by its architecture else.

The tables are data (`parsers.yaml`). The longest prefix of the model's name wins, so `deepseek-v3.1` is not taken for
a `deepseek-v3`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

Tables = Mapping[str, Mapping[str, str | None]]


@cache
def _tables() -> Tables:
    tables: Tables = yaml.safe_load(Path(__file__).with_name("parsers.yaml").read_bytes())
    return tables


def tool_call_parser(name: str, architecture: str) -> str | None:
    """Return the tool-call parser for a model, or None where none is known; `name` is the last part of `org/model`."""
    return _lookup("toolCallByName", "toolCallByArchitecture", name, architecture)


def reasoning_parser(name: str, architecture: str) -> str | None:
    """Return the reasoning parser for a model, or None where it does not reason aloud."""
    return _lookup("reasoningByName", "reasoningByArchitecture", name, architecture)


def _lookup(by_name: str, by_architecture: str, name: str, architecture: str) -> str | None:
    tables = _tables()
    prefixes = [prefix for prefix in tables[by_name] if name.lower().startswith(prefix)]
    if prefixes:
        return tables[by_name][max(prefixes, key=len)]
    return tables[by_architecture].get(architecture)

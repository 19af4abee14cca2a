"""Words on the terminal: results go to standard output, everything about them to standard error.

So `kaito-ray ... | jq` sees results alone, and a person sees both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console(*, stderr: bool = False) -> Console:
    """Return the console that writes where `sys.stdout` (or `sys.stderr`) points at the time of writing."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """Tell the person something about what happens, on standard error; rich markup is understood."""
    console(stderr=True).print(text)


def print_json(value: Any) -> None:
    """Print a result for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_yaml(*documents: Any) -> None:
    """Print YAML documents as a person would write them: keys in their order, text of several lines as such."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Text of several lines as a literal block."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    yaml.dump_all(
        documents, sys.stdout, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a result for people: plain columns, as kubectl prints them, never cut off."""
    table = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        sys.stdout.write("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def one_line(text: str) -> str:
    """Return the text with every run of white space, line breaks too, as one space."""
    return " ".join(text.split())

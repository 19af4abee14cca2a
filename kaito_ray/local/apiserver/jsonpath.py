r"""The JSONPath of printer columns: fields, quoted and escaped names, indices, and equality filters.

.status.conditions[?(@.type=="Ready")].status      .metadata.labels.karpenter\.sh/nodepool
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

Step = Callable[[list[Any]], list[Any]]

_TOKEN: Final = re.compile(
    r"""\.(?P<field>(?:\\.|[^.\[\]\\*])+)
    | \[['"](?P<quoted>[^'"]+)['"]\]
    | \[(?P<index>-?\d+)\]
    | (?P<all>\[\*\]|\.\*)
    | \[\?\(\s*@\.(?P<left>[^=!<>\s]+)\s*(?P<op>==|!=)\s*(?P<right>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]""",
    re.VERBOSE,
)


def find(path: str, value: Any) -> list[Any]:
    """Return every value that the path leads to.

    Raises:
        ValueError: the path uses something that is not listed above.
    """
    found = [value]
    for step in compiled(path):
        found = step(found)
    return found


@lru_cache(maxsize=256)
def compiled(path: str) -> tuple[Step, ...]:
    """Return the path as steps.

    Raises:
        ValueError: the path cannot be read.
    """
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[Step] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise ValueError(f"cannot read the JSONPath {path!r} at {text[place:]!r}")
        steps.append(_step(match))
        place = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    field, quoted, index, everything, left = match.group("field", "quoted", "index", "all", "left")
    if field or quoted:
        name = quoted or re.sub(r"\\(.)", r"\1", field)
        return lambda found: [one[name] for one in found if isinstance(one, dict) and name in one]
    if index:
        number = int(index)
        return lambda found: [one[number] for one in found if isinstance(one, list) and -len(one) <= number < len(one)]
    if everything:
        return lambda found: [part for one in found for part in _parts(one)]
    right, equal = _literal(match["right"]), match["op"] == "=="
    inner = f".{left}"
    return lambda found: [
        part for one in found for part in _parts(one) if ((find(inner, part) or [None])[0] == right) is equal
    ]


def _literal(text: str) -> Any:
    if text[0] in "'\"":
        return text[1:-1]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []

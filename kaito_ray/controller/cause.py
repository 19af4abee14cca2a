"""Why something is not ready: a reason for programs and one short line for the WHY column.

A line leads with what happened and ends with what to do, and fits `WHY_LIMIT_CHARS` for names of usual length; the
column cuts the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """One cause."""

    reason: str
    """CamelCase and stable, one for each cause."""
    message: str
    """What happened and what to do."""


@dataclass(frozen=True)
class Sign:
    """Words by which somebody else's message is recognised, and what they mean."""

    words: str
    """A regular expression; its groups fill `message`."""
    reason: str
    message: str
    """Ours, with `{0}`, `{1}`... for the groups."""


def recognised(text: str, signs: Iterable[Sign]) -> Cause | None:
    """Return what the first sign that is found in `text` means; None where it says nothing that we know."""
    for sign in signs:
        if found := re.search(sign.words, text, re.DOTALL):
            return Cause(sign.reason, sign.message.format(*(group or "" for group in found.groups())))
    return None

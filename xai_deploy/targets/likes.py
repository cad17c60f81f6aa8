"""Texts that name references: "like FILE", "not like FILE", "like A vs like B"."""

from __future__ import annotations

import os
import re

from ..errors import TargetError
from ..foundation.options import quoted
from .kinds import ScoreSpace

_TEXT = re.compile(r"(not )?like (.+)", re.IGNORECASE | re.DOTALL)
_CUT = re.compile(r" vs ", re.IGNORECASE)
_VERSUS = re.compile(r" vs like ", re.IGNORECASE)


def references(text: str, space: ScoreSpace) -> tuple[bool, tuple[str, ...]] | None:
    """Whether "not" precedes, and the one or two references of a text; None if it is no such text, or a label.

    Raises:
        TargetError: "not" precedes a contrast, or the second side of a contrast lacks "like".
    """
    match = _TEXT.fullmatch(text)
    if space.kind != "vector" or match is None or space.is_label(text):
        return None
    sides = tuple(_VERSUS.split(match[2], maxsplit=1))
    if space.files and (odd := next((s for s in sides if _CUT.search(s) and not os.path.exists(s)), None)) is not None:
        raise TargetError(
            f"target {quoted(text)}: {quoted(odd)} is no file; two references are compared as 'like A vs like B'"
        )
    if match[1] and len(sides) > 1:
        raise TargetError(f"target {quoted(text)}: a contrast is turned round by swapping its sides, not by 'not'")
    return bool(match[1]), sides

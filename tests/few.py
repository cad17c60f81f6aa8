"""Slow methods with few runs: in a test they show what they show with thousands."""

from __future__ import annotations

import dataclasses
from typing import Any

from xai_deploy.methods import create

_FEW = {"masks": 10, "samples": 4, "iterations": 2}
_SEGMENTS = {"segments": "grid:2", "samples": 16}  # fewer samples than sets would be refused


def few(name: str) -> dict[str, Any]:
    """The options of a method that bound its runs, with small numbers."""
    fields = [field.name for field in dataclasses.fields(create(name, {}))]  # type: ignore[arg-type]
    small = {key: value for key, value in _FEW.items() if key in fields}
    return small | _SEGMENTS if "segments" in fields else small

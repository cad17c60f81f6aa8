"""Slow methods with few runs: in a test they show what they show with thousands."""

from __future__ import annotations

import dataclasses
from typing import Any

from xai_deploy.methods import create

_FEW = {"masks": 10, "samples": 4, "iterations": 2}


def few(name: str) -> dict[str, Any]:
    """The options of a method that bound its runs, with small numbers."""
    return {field.name: _FEW[field.name] for field in dataclasses.fields(create(name, {})) if field.name in _FEW}  # type: ignore[arg-type]

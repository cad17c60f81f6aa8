"""Graphs on `openvino`; see `graphs`."""

from __future__ import annotations

from ..graphs import mutate, seeds
from ..graphs import one as run

__all__ = ["mutate", "one", "seeds"]


def one(data: bytes) -> None:
    """See `graphs.one`."""
    run(data, "openvino")

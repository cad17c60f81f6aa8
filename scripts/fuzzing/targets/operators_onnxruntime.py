"""Every operator on `onnxruntime`; see `operators`."""

from __future__ import annotations

from ..operators import mutate, seeds
from ..operators import one as run

__all__ = ["mutate", "one", "seeds"]


def one(data: bytes) -> None:
    """See `operators.one`."""
    run(data, "onnxruntime")

"""What a file states of a detector's boxes, kept with the graph that our own readers write of it.

A suppression that is left out says which class means "no object", and the numbers do not.
"""

from __future__ import annotations

import onnx_ir as ir

_BACKGROUND = "xai_exporters.background"


def state_background(model: ir.Model, background: int) -> None:
    """Note the class that means "no object"; negative: none does."""
    model.metadata_props[_BACKGROUND] = str(background)


def stated_background(model: ir.Model) -> int | None:
    """The class that means "no object", negative if none does; None if the file states nothing."""
    text = model.metadata_props.get(_BACKGROUND, "")
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 10 else None

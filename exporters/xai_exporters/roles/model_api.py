"""Fused files as OpenVINO Model API reads them."""

from __future__ import annotations

from dataclasses import replace

from xai_deploy.format.bundle import fused_role

from ..graph.writing import make_model, to_bytes
from ..request import Request
from .fuse.fused_method import parse
from .fuse.graph import form_of, fused_graph, notes
from .material import Material


def for_model_api(request: Request, material: Material, role: str) -> bytes | None:
    """A fused file with a detector's boxes, as OpenVINO Model API reads them; None if it reads the file itself, or not at all."""
    if material.logits.scores.kind != "rows" or not request.all_classes:
        return None
    [wanted] = [one for one in parse(request.fuse) if fused_role(one.name) == role]
    graph = fused_graph(material, wanted, replace(form_of(request), boxes=True))
    return to_bytes(make_model(graph, notes(wanted, form_of(request), request.split)))

"""The gradient at the layer, of a detector's scores alone, at the image, guided, and at the image and all biases."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from xai_deploy.format.bundle import SCORE_GRADIENT

from ..errors import RuleError
from ..request import Request
from ..vjp.full_gradient import full_gradient_graph
from ..vjp.guided import guided_gradient_graph
from .material import Material
from .role import Kind, Role, kinds, of_each_image


def _roles(request: Request) -> Iterator[Role]:
    yield Role("gradient", lambda material: material.gradient(from_image=False), when="default")
    yield Role(SCORE_GRADIENT, _score_gradient, when="default", as_wanted="gradient")
    yield Role(
        "input-gradient",
        lambda material: material.gradient(from_image=True),
        "image",
        needs_layer=False,
        asked=request.input_gradient,
        at_layer="gradient",
    )
    yield Role(
        "guided-gradient",
        lambda material: guided_gradient_graph(material.whole, material.logits.classes),
        "image",
        needs_layer=False,
        asked=request.guided,
        at_layer="gradient",
    )
    yield Role(
        "full-gradient",
        lambda material: full_gradient_graph(material.whole, material.logits.classes, material.image),
        "image",
        needs_layer=False,
        asked=request.full_gradient,
        at_layer="gradient",
    )


def _score_gradient(material: Material) -> ir.Graph | None:
    """The graph; None for other networks than detectors, and if `gradient` alone goes back: it serves scores, too."""
    if material.logits.scores.rows is None:
        return None
    try:
        return material.score_gradient()
    except RuleError:
        return None


kinds.register("gradient")(Kind(place=30, roles=lambda request: of_each_image(request, _roles(request))))

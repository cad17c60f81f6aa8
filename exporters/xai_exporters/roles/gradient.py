"""The gradient at the layer, at the image, by guided backpropagation, and at the image and all biases."""

from __future__ import annotations

from collections.abc import Iterator

from ..request import Request
from ..vjp.full_gradient import full_gradient_graph
from ..vjp.guided import guided_gradient_graph
from .role import Kind, Role, kinds


def _roles(request: Request) -> Iterator[Role]:
    yield Role("gradient", lambda material: material.gradient(from_image=False), when="default")
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


kinds.register("gradient")(Kind(place=30, roles=_roles))

"""Relevance at the layer and at the image: two roles for each composite of rules."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from xai_deploy.format.bundle import RELEVANCE

from ..errors import RequestError, RuleError
from ..relevance.composite import DEFAULT, composite_name, load_composite
from ..request import Request
from .material import Material
from .role import Kind, Role, kinds, of_each_image


def _roles(request: Request) -> Iterator[Role]:
    names: set[str] = set()
    for given in dict.fromkeys((DEFAULT, *request.composite)):
        name = composite_name(given)
        if name in names:
            raise RequestError(f"--composite {given}: there are two composites called {name!r}")
        names.add(name)
        suffix = "" if given == DEFAULT else f"-{name}"
        yield _role(f"{RELEVANCE}{suffix}", request, given, from_image=False)
        yield _role(f"pixel-{RELEVANCE}{suffix}", request, given, from_image=True)


def _role(name: str, request: Request, given: str, from_image: bool) -> Role:
    def build(material: Material) -> ir.Graph:
        try:
            return material.relevance(load_composite(given), from_image)
        except RuleError as error:
            raise RuleError(f"composite {composite_name(given)!r}: {error}") from None

    is_default = given == DEFAULT
    # a composite is asked for by its option, unless the roles that are named hold its relevance at the image
    implied = given in request.composite and f"pixel-{name}" not in request.roles
    return Role(
        name,
        build,
        "image" if from_image else "activation",
        needs_layer=not from_image,
        when="default" if is_default and not from_image else "asked",
        asked=request.pixel_relevance if from_image else implied,
        at_layer=RELEVANCE if is_default and from_image else None,
        composite=composite_name(given),
    )


kinds.register("relevance")(Kind(place=40, roles=lambda request: of_each_image(request, _roles(request))))

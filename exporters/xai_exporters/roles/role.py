"""What a role is, and the registry that finds the kinds of roles: one file per kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_ir as ir

from xai_deploy.format.bundle import role_at, role_of
from xai_deploy.foundation.registry import Registry

from ..passes.network_inputs import explained_images
from ..request import Request, layer_names
from .material import Material

SHARE = "share"
"""Where a graph's `meta` holds what the manifest states as `Graph.share`."""


@dataclass(frozen=True)
class Role:
    """One graph of a bundle.

    Attributes:
        name: Its name in the manifest; its file is NAME.onnx.
        build: Makes the graph. None if the network needs no such graph.
        start: What the graph takes: the image, or the activation and its side tensors.
        when: "always": every bundle has it. "default": every bundle that does not choose its roles. "asked": on request only.
        needs_layer: A network that is not cut has no such graph.
        asked: The request asks for it by an option of its own.
        at_layer: The role whose graph ends at the layer, while this one goes on to the image. If that one can't be made, this one
            is tried, too, so that nobody is advised to ask for it in vain.
        composite: The composite of a relevance role.
        method: The method of a fused role, as the runtime calls it.
        notes: Metadata that the graph's file holds about itself.
        as_wanted: The role with which it is wanted, and asked for: that of the first layer, or of the image that is explained.
        input: The further image to which it goes back.
    """

    name: str
    build: Callable[[Material], ir.Graph | None]
    start: Literal["image", "activation"] = "activation"
    when: Literal["always", "default", "asked"] = "asked"
    needs_layer: bool = True
    asked: bool = False
    at_layer: str | None = None
    composite: str | None = None
    method: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    as_wanted: str | None = None
    input: str | None = None


def at_each_layer(
    request: Request,
    name: str,
    build: Callable[[Material, int], ir.Graph | None],
    when: Literal["always", "default"],
) -> Iterator[Role]:
    """The roles of a graph that each layer has for itself: NAME, NAME-1, ...

    Args:
        request: The export. Its `split` may name fewer layers than it has commas; "auto" may find several.
        name: The role at the first layer.
        build: (material, number of the layer) -> graph.
        when: See `Role`.
    """
    for level in range(_AUTO_LAYERS if request.split == "auto" else len(layer_names(request.split))):

        def at(material: Material, level: int = level) -> ir.Graph | None:
            return build(material, level) if level < len(material.cuts) else None

        yield Role(role_at(name, level), at, when=when, as_wanted=name if level else None)


def of_each_image(request: Request, roles: Iterable[Role]) -> Iterator[Role]:
    """Roles, and those that do for each further image of `explain_input` what those that start at the image do."""
    further = explained_images(request)[1:]
    for role in roles:
        yield role
        for number, name in enumerate(further, 1) if role.start == "image" else ():

            def build(material: Material, role: Role = role, name: str = name) -> ir.Graph | None:
                return role.build(material.explaining(name))

            other = replace(role, build=build, asked=False, at_layer=None, as_wanted=role.name, input=name)
            yield replace(other, name=role_of(role.name, number))


_AUTO_LAYERS = 8
"""The most layers that `auto` finds: the levels of a detector's pyramid."""


@dataclass(frozen=True)
class Kind:
    """A kind of role.

    Attributes:
        place: Roles are built and listed in the order of this number.
        roles: The roles of this kind that a request can have. It raises RequestError for a request that names what does not exist.
    """

    place: int
    roles: Callable[[Request], Iterable[Role]]


kinds: Registry[Kind] = Registry(__package__)
"""Name of the kind -> the kind."""

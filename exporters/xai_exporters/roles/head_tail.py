"""The parts of the network, before and after the cut; or the network as a whole, if there is no cut."""

from __future__ import annotations

from collections.abc import Iterator

from xai_deploy.format.bundle import NETWORK

from ..request import Request
from .role import Kind, Role, at_each_layer, kinds


def _roles(request: Request) -> Iterator[Role]:
    yield Role("head", lambda material: material.parts.head, "image", when="always")
    yield from at_each_layer(request, "tail", lambda material, level: material.tails[level], when="always")
    yield Role(NETWORK, lambda material: material.parts.tail, "image", needs_layer=False)


kinds.register("head and tail")(Kind(place=10, roles=_roles))

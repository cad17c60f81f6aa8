"""The two parts of the network, before and after the cut; or the network as a whole, if there is no cut."""

from __future__ import annotations

from xai_deploy.format.bundle import NETWORK

from .role import Kind, Role, kinds

kinds.register("head and tail")(
    Kind(
        place=10,
        roles=lambda request: (
            Role("head", lambda material: material.parts.head, "image", when="always"),
            Role("tail", lambda material: material.parts.tail, when="always"),
            Role(NETWORK, lambda material: material.parts.tail, "image", needs_layer=False),
        ),
    )
)

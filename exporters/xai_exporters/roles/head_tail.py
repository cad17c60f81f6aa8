"""The two parts of the network, before and after the cut: they are in every bundle."""

from __future__ import annotations

from .role import Kind, Role, kinds

kinds.register("head and tail")(
    Kind(
        place=10,
        roles=lambda request: (
            Role("head", lambda material: material.parts.head, "image", when="always"),
            Role("tail", lambda material: material.parts.tail, when="always"),
        ),
    )
)

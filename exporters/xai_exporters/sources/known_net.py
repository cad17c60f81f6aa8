"""A network of a library, for the weights in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .stated import Stated


class KnownNet(Protocol):
    """A network that a library builds by its name."""

    @property
    def name(self) -> str:
        """Its name in the library."""
        ...

    def build(self, **options: Any) -> Any:
        """The network with random weights; nothing is downloaded."""
        ...

    def options(self, weights: Mapping[str, Any], input_shape: tuple[int, ...] | None) -> dict[str, Any]:
        """Arguments that the shapes of the weights or of the input determine."""
        ...

    def unsaid(self, module: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments that change what the network computes, but not the names and shapes of its weights.

        Raises:
            ArchitectureError: The user has to give them.
        """
        ...

    def stated(self, options: Mapping[str, Any], module: Any = None) -> Stated | None:
        """The preprocessing of the weights, None if the library states none; `module` is the network built with `options`."""
        ...

    def notes(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Lines for people about how the network was recognised and built."""
        ...

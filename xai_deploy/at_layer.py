"""A forward pass as one of several layers sees it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from .backends.backend import Tensor
from .forward import ForwardPass
from .targets.seeds import Array, Index, Seed


class AtLayer(ForwardPass):
    """The `methods.method.Forward` of a further layer: its own activation, side tensors and tail; all else is the first layer's.

    Head and logits are computed once for all layers, and one graph that propagates back serves them all. A layer of a further image
    sees that image as the one that is explained, and the first layer's image beside it.

    Args:
        first: The forward pass at the first layer.
        level: The number of the layer, from 1.
    """

    def __init__(self, first: ForwardPass, level: int) -> None:
        opened, x, beside = first.opened.levels[level], first.x, first.beside
        self._other = opened.manifest.target.input
        if self._other is not None:
            rest = {**beside, first.spec.name: x}
            x, beside = rest.pop(self._other), rest
        super().__init__(opened, x, first.regions, beside)
        self._first, self._level = first, level
        self.sizes = () if self._other is not None else first.sizes

    @property
    def _head(self) -> dict[str, Tensor]:
        return self._first._head

    @property
    def outputs(self) -> dict[str, NDArray[Any]]:
        """See `ForwardPass`."""
        return self._first.outputs

    @property
    def logits(self) -> Array:
        """See `ForwardPass`."""
        return self._first.logits

    @property
    def shares(self) -> Array | None:
        """See `ForwardPass`."""
        return self._first.shares

    def propagated(self, role: str, seed: Seed, offset: float = 0.0) -> tuple[Array, ...]:
        """See `ForwardPass`; a graph that goes back to the image goes back to the layer's own one."""
        graph = self._network.manifest.graphs[role]
        if self._other is not None and graph.start == "image":
            return of_image(self._first, self._other).propagated(role, seed, offset)
        return self._first.propagated(role, seed, offset)

    def backward(self, role: str, seed: Seed, offset: float = 0.0) -> Array:
        """See `ForwardPass`; a graph that starts at the image gives the same for all layers."""
        results = self.propagated(role, seed, offset)
        return self.finite(role, results[self._level if len(results) > 1 else 0])

    def own_map(self) -> Array:
        """See `ForwardPass`."""
        return self._first.own_map()

    def at(self, x: NDArray[Any], image: Index) -> ForwardPass:
        """See `ForwardPass`."""
        if self._other is None:
            return AtLayer(self._first.at(x, image), self._level)
        first = self._first.at(self._first.x[image], image)
        beside = {**first.beside, self._other: x.astype(self.spec.dtype, copy=False)}
        return AtLayer(ForwardPass(first.opened, first.x, first.regions, beside), self._level)


def of_image(forward: ForwardPass, name: str) -> ForwardPass:
    """A forward pass as if the further image of this name were explained, and the other one beside it."""
    if name not in forward.of_images:
        beside = {**forward.beside, forward.spec.name: forward.x}
        other = ForwardPass(forward.opened.of_image(name), beside.pop(name), forward.regions, beside)
        known = ("_head", "outputs", "logits", "shares", "rows", "_decoded", "_chosen", "_detections")
        other.__dict__.update({key: forward.__dict__[key] for key in known if key in forward.__dict__})
        forward.of_images[name] = other
    return forward.of_images[name]


def at_layer(forward: ForwardPass, level: int) -> ForwardPass:
    """A forward pass as the layer with this number sees it, 0 being the first."""
    return AtLayer(forward, level) if level else forward

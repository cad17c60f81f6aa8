"""Explanation: the maps of one method for one target on N images, with all that is needed to show and to keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import heatmap as _heatmap
from .errors import OptionError, ShapeError
from .format.bundle import Activation, Bundle, Input, TargetLayer
from .preprocess import Images, as_list, view
from .probabilities import has_probabilities, probabilities

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ExplainedNetwork:
    """What an explanation keeps of the bundle it comes from; a few kilobytes, shared by all explanations of an explainer.

    Attributes:
        name: The bundle's name.
        digest: The digest of its manifest.
        input: How an image becomes the network's input.
        layer: Where the network was cut.
        activation: How the logits become probabilities.
        labels: One label per class; empty if they are not known.
    """

    name: str
    digest: str
    input: Input
    layer: TargetLayer
    activation: Activation
    labels: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle) -> ExplainedNetwork:
        """What explanations keep of a bundle."""
        manifest = bundle.manifest
        return cls(manifest.name, manifest.digest, manifest.input, manifest.target, manifest.activation, bundle.labels)

    def label(self, index: int) -> str:
        """The label of a class; "class 3" if it has none."""
        return (self.labels[index] if self.labels else "") or f"class {index}"  # an empty label counts as none


def caption(label: str, versus: str | None = None, sign: int = 1) -> str:
    """What a map explains, as people read it: "cat", "cat vs dog" or "not cat"."""
    if versus is not None:
        return f"{label} vs {versus}"
    return f"not {label}" if sign < 0 else label


@dataclass(frozen=True, eq=False)
class Explanation:
    """The result of one method for one target, on N images.

    Attributes:
        heatmap: [N,H,W] float32 in [0,1], at the network's input size; a constant map is all zeros.
        raw: [N,h,w] float32, the method's own values before resize and min-max (at input size if the method's formula is at
            that size, as in Score-CAM).
        logits: [N,classes] float32, before a final Softmax or Sigmoid; the probabilities themselves if the network computes them
            in another way.
        outputs: The network's own outputs, by name.
        target: [N] int64, the class explained; for a seed by hand, the class of its largest weight.
        versus: [N] int64, the class that it is contrasted with, -1 for an image without one; None if no image has one.
        sign: [N] int8, -1 for an image whose target is "not" the class (the map shows what speaks against it), 1 for any other.
        method: The method's name.
        options: All its options, defaults included.
        seconds: Wall time of the method on all N images, including the forward pass that the methods share.
        constant: Per image, why its map is the same everywhere (see `constant_maps`), or None if it is not.
        signed: Per image, whether 0 is neutral in its raw map and values below 0 speak against the class; see `Method.signed`.
        at_pixels: Whether the method goes back to the pixels of the input. Pictures clip such maps.
        network: The network that was explained.
    """

    heatmap: Array
    raw: Array
    logits: Array
    outputs: dict[str, NDArray[Any]]
    target: NDArray[np.int64]
    versus: NDArray[np.int64] | None
    sign: NDArray[np.int8]
    method: str
    options: dict[str, Any]
    seconds: float
    constant: tuple[str | None, ...]
    signed: tuple[bool, ...]
    at_pixels: bool
    network: ExplainedNetwork

    @property
    def probabilities(self) -> Array | None:
        """[N,classes] float32; None for scores that are no probability.

        They are the network's own output if that holds probabilities. For a network that ends in logits they are their softmax.
        """
        activation = self.network.activation
        if not has_probabilities(activation, self.logits.shape[1]):
            return None
        return probabilities(self.logits, activation)

    def overlay(self, images: Images, opacity: float = 0.5) -> list[NDArray[np.uint8]]:
        """The heatmaps laid over the images they explain.

        Args:
            images: The uint8 RGB images that were explained, of any size.
            opacity: Share of the colour, 0 to 1.

        Returns:
            One RGB [h,w,3] uint8 picture per image: the part of it that the network saw, at its own resolution.

        Raises:
            InputError: These are not the images that were explained.
            OptionError: The opacity lies outside 0 to 1.
        """
        spec = self.network.input
        batch = as_list(images)
        if len(batch) != len(self.heatmap):
            raise ShapeError(f"{len(batch)} images for {len(self.heatmap)} heatmaps; give the images explained")
        if not isinstance(opacity, (int, float)) or not 0 <= opacity <= 1:
            raise OptionError(f"opacity is a number from 0 to 1, not {opacity!r}")
        return [
            _heatmap.overlay(view(image, spec), heat, opacity) for image, heat in zip(batch, self.heatmap, strict=True)
        ]

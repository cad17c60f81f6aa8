"""What a network takes beside the image that is explained: part of the manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .graphs import Port
from .image_input import Input


@dataclass(frozen=True)
class FurtherInputs:
    """The network's inputs beside the image that is explained; each has a row for each image.

    Attributes:
        images: Further images: the other branch of a network that compares two, a depth map.
        arrays: Inputs that are no images.
        order: The names of all image inputs in the network's own order, in which images are given together; empty if there is one.
    """

    images: tuple[Input, ...] = ()
    arrays: tuple[Port, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def ports(self) -> tuple[Port, ...]:
        """All of them as graphs take them."""
        return (*(Port(image.name, image.image_shape, image.dtype) for image in self.images), *self.arrays)

    def without(self, name: str, explained: Input) -> tuple[Input, FurtherInputs]:
        """The further image of this name, and what is beside it if it is the one that is explained.

        Args:
            name: The image's name.
            explained: The image that it takes the place of.
        """
        [own] = [image for image in self.images if image.name == name]
        others = tuple(explained if image is own else image for image in self.images)
        return own, replace(self, images=others)

    @property
    def size(self) -> int:
        """How many numbers one image has beside it."""
        return sum(math.prod(size or 1 for size in port.shape) for port in self.ports)

    def fault(self, image: str) -> str | None:
        """What contradicts itself; None if nothing does.

        Args:
            image: The name of the image that is explained.
        """
        names = [image, *(port.name for port in self.ports)]
        if len(set(names)) < len(names):
            return "two inputs have the same name"
        if any(size is None or size < 1 for port in self.ports for size in port.shape) or any(
            port.dtype is None for port in self.arrays
        ):
            return "further inputs need positive sizes and a type"
        if sorted(self.order) != sorted([image, *(one.name for one in self.images)] if self.images else []):
            return "order names other inputs than the images"
        faults = ((one.name, one.preprocess.fault(one.channels)) for one in self.images)
        return next((f"{name}: {fault}" for name, fault in faults if fault is not None), None)

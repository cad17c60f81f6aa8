"""What a detector's decoder is: it recognises the outputs of a kind of detector, and writes their rows in one common form.

The common form is one tensor [N,entries,rows]: of each row a score for each class, then four coordinates of its box (see
`format.rows.Rows`). The scores are those before a final Sigmoid or Softmax if the graph has one: what is explained is a logit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.rows import Rows
from xai_deploy.foundation.registry import Registry

from ....graph.emit import Ops
from ....graph.layouts import sides
from ....passes.clean import CleanGraph
from ..probing import Probes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """A recognised detector.

    Attributes:
        rows: What its rows hold.
        count: How many rows an image has.
        activation: The function that turns the scores of a row into probabilities.
        outputs: The network's outputs that hold its rows; the first one counts as the one explained.
        pieces: Writes the parts of the common form, each [N,entries,rows], in their order: scores, coordinates, class or
            objectness.
        note: What to tell of how it is read; None: nothing.
    """

    rows: Rows
    count: int
    activation: Literal["sigmoid", "softmax", "independent"]
    outputs: tuple[ir.Value, ...]
    pieces: Callable[[Ops], Sequence[ir.Value]]
    note: str | None = None


@dataclass(frozen=True)
class Names:
    """How many classes are named.

    Attributes:
        count: How many; 0: none is.
        all: Whether the class that means "no object" is named, too, if there is one: the lines of `--labels` do so.
    """

    count: int = 0
    all: bool = False


UNNAMED = Names()
"""No class is named."""


@dataclass(frozen=True)
class Outputs:
    """A network's outputs, and what they hold on the probe images.

    Attributes:
        clean: The network.
        all: Those of one result per image, [N,a,b], in their order.
        names: How many classes are named.
        asked: The name of the decoder that the user asks for; None: none.
        chosen: The name of the output that the user asks for; None: none.
        flat: Those of boxes with an axis of one before their sides, [N,rows,1,4] (YOLOv4).
        lists: Those of one number for each row, [N,a].
    """

    clean: CleanGraph
    all: tuple[ir.Value, ...]
    names: Names = UNNAMED
    asked: str | None = None
    chosen: str | None = None
    flat: tuple[ir.Value, ...] = ()
    lists: tuple[ir.Value, ...] = ()
    _seen: dict[ir.Value, Floats] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        *_, height, width = (
            self.clean.image_shape[axis - 1] for axis in sides(self.clean.graph.inputs[0], self.clean.image_shape)
        )
        return height, width

    def shape(self, value: ir.Value) -> tuple[int, int]:
        """(a,b) of one of them."""
        first, *_, second = self.clean.shapes.two[str(value.name)][1:]
        return first, second

    def seen(self, value: ir.Value) -> Floats:
        """The values of one of them on the probe images, [images,a,b] or [images,a]; no image if too few results are finite."""
        if value not in self._seen:
            probes, sizes = Probes(self.clean, [value]), self.clean.shapes.two[str(value.name)][1:]
            values = probes.of(value) if probes.enough else np.zeros((0, 0))
            self._seen[value] = values.reshape(-1, *(sizes if len(sizes) == 1 else self.shape(value)))
        return self._seen[value]


def is_flat(sizes: Sequence[int]) -> bool:
    """Whether one image's result is [rows,1,4]."""
    return len(sizes) == 3 and tuple(sizes[1:]) == (1, 4)


class Decoder(Protocol):
    """A function that recognises a kind of detector: what `decoders` registers."""

    def __call__(self, given: Outputs) -> Detector | None:
        """The detector; None if the outputs are not of this kind."""


decoders: Registry[Decoder] = Registry(__package__)


def is_fraction(places: NDArray[Any]) -> bool:
    """Whether coordinates of centres are fractions of the image and not pixels: half of them lie near [0,1]."""
    return bool(np.median(np.abs(places)) <= 1.5)

"""The layers at which a network is cut, and what is called by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..foundation import schema

OWN_ROLES = ("tail", "pixelwise-tail", "windowed-tail")
"""The roles that each of several layers has for itself."""

LEVELS = "levels"
"""The feature that a bundle with several layers requires of its reader."""


@dataclass(frozen=True)
class TargetLayer:
    """Where the network was cut.

    Attributes:
        asked: The layer name given to `--split`; empty if the network is not cut. The rest then describes the image.
        tensor: The tensor's name in the source graph.
        shape: (K, h, w) of the activation as the head gives it; (K, d, h, w) for volumes.
        dtype: Its element type.
        layout: The tensor's own layout; the head transposes anything else to NCHW, or to NCDHW.
        prefix_tokens: Class and register tokens before the grid (token networks).
        suffix_tokens: Tokens after it: the detection tokens of YOLOS.
        input: The further image input whose places its maps show; None: the image that is explained.
    """

    asked: str
    tensor: str
    shape: tuple[int, int, int] | tuple[int, int, int, int]
    dtype: Literal["float32", "float16"]
    layout: Literal["NCHW", "NHWC", "NTC", "NCDHW", "NDHWC"] = "NCHW"
    prefix_tokens: int = 0
    input: str | None = field(default=None, metadata=schema.LATER)
    suffix_tokens: int = field(default=0, metadata=schema.LATER)

    @property
    def name(self) -> str:
        """The layer as people call it: as it was asked for, or its tensor if the exporter chose it."""
        if not self.asked:
            return "none"
        return self.tensor if self.asked == "auto" else self.asked

    @property
    def title(self) -> str:
        """Its name and the size of its maps: "Relu6__90:0, 7 x 7"; "none" if the network is not cut."""
        return f"{self.name}, {' x '.join(map(str, self.shape[1:]))}" if self.asked else self.name


@dataclass(frozen=True)
class Side:
    """A tensor that passes beside the cut from head to tail; its first dimension is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Level:
    """A further layer at which the network was cut.

    Attributes:
        layer: The layer.
        side: What its own tail takes beside its activation.
    """

    layer: TargetLayer
    side: tuple[Side, ...] = ()


def at_level(name: str, level: int) -> str:
    """The name of a tensor at a layer: "activation" for the first layer (level 0), "activation_1" for level 1."""
    return f"{name}_{level}" if level else name


def role_at(role: str, level: int) -> str:
    """The role of a graph at a layer: "tail-1" is the tail that starts at level 1; graphs that all layers share keep their role."""
    return f"{role}-{level}" if level and role in OWN_ROLES else role


def role_of(role: str, number: int) -> str:
    """The role of the graph that does for a further image, counted from 1, what `role` does for the image that is explained."""
    return f"{role}{_OF}{number}" if number else role


def role_anywhere(role: str) -> str:
    """The role that `role_of` was given."""
    return role.rpartition(_OF)[0] or role


_OF = "-of-"

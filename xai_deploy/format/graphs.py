"""The graphs of a bundle: the names of their tensors, and what each takes and gives. `manifest` says what they compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from ..foundation import schema

NETWORK = "network"  # a role
ACTIVATION = "activation"
LOGITS = "logits"
PIXEL_LOGITS = "pixel_logits"
POSITION_ROWS = "position_rows"
POSITION_COLUMNS = "position_columns"
POSITION_LOGITS = "position_logits"
TARGET = "target"
SEED = "seed"
WHERE = "where"
ROW = "row"
VERSUS = "versus"  # of fused graphs: the class that a contrast subtracts
VERSUS_WHERE, VERSUS_ROW = "versus_where", "versus_row"  # and the region, or the row, whose score of it that is
REFERENCE = "reference"
DENSE = "dense_scores"  # a tensor within the graphs, not among their outputs
SHARES = "region_probabilities"
GRADIENT = "gradient"
RELEVANCE = "relevance"
FULL_GRADIENT = "full_gradient"
SALIENCY = "saliency_map"
OWN_MAP = "own_map"
SCORE_GRADIENT = "score-gradient"  # a role
CHOICE = "choice/"  # prefix of the places that a detector's TopK chose
RESERVED = (
    ACTIVATION,
    LOGITS,
    PIXEL_LOGITS,
    POSITION_ROWS,
    POSITION_COLUMNS,
    POSITION_LOGITS,
    TARGET,
    SEED,
    WHERE,
    REFERENCE,
    DENSE,
    SHARES,
    OWN_MAP,
    GRADIENT,
    RELEVANCE,
    FULL_GRADIENT,
)
_PROPAGATED = (GRADIENT, RELEVANCE, FULL_GRADIENT)
_FUSED = "fused-"  # prefix of the roles whose graphs give a map together with the network's outputs
PREDICTED, BY_SEED = -1, -2  # values of `target` that are no class: the predicted class, and the seed alone


@dataclass(frozen=True)
class Port:
    """A tensor that a graph takes or gives.

    Attributes:
        name: Its name.
        shape: Without the batch; None for a size that is not fixed.
        dtype: As NumPy names it; None if format 1 did not record it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str | None


def fused_role(method: str) -> str:
    """The role of a graph that computes a method: image -> the network's own outputs and a saliency map."""
    return f"{_FUSED}{method}"


def fused_method(role: str) -> str | None:
    """The method that a fused graph computes; None for a role of another kind. Format 1 tells by the name alone."""
    return role.removeprefix(_FUSED) if role.startswith(_FUSED) else None


@dataclass(frozen=True)
class FileRecord:
    """What the manifest records of a file: sha256 in hexadecimal, size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Graph:
    """One ONNX file of the bundle.

    Attributes:
        file: Its name; or that of the list of its parts, see `parts`.
        opset: Version of the standard operators.
        start: Where the graph starts: at the network's input, or at the activation and its side tensors.
        takes, gives: Its inputs and outputs; both are empty for fused graphs of format 1, which did not record them.
        whole: What its parts make up; None: the file holds the whole graph.
        input: The further image to which it goes back; None: the image that is explained.
        share: Of a `windowed-tail`, its multiply-adds for all positions, as a share of those of one tail for each position.
    """

    file: str
    opset: int
    start: Literal["image", "activation"] = "activation"
    takes: tuple[Port, ...] = ()
    gives: tuple[Port, ...] = ()
    whole: FileRecord | None = field(default=None, metadata=schema.LATER)
    input: str | None = field(default=None, metadata=schema.LATER)
    share: float | None = field(default=None, metadata=schema.LATER)

    @property
    def propagated(self) -> str | None:
        """The output with the result of propagating a seed back; None if the graph takes no seed."""
        if all(port.name != SEED for port in self.takes):
            return None
        return next((port.name for port in self.gives if port.name in _PROPAGATED), None)

    @property
    def weighs(self) -> int | None:
        """How many entries of a row its seed weighs, the first ones; None: all, or the graph takes no seed."""
        return next((port.shape[-1] for port in self.takes if port.name == SEED), None)

    def weighed(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Of scores, or of their weights, [..., entries], those that the graph's seed weighs and its `logits` hold."""
        return scores[..., : self.weighs]

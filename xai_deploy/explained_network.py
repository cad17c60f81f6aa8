"""What an explanation keeps of the bundle it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .format.bundle import Activation, Bundle, Input, TargetLayer
from .foundation import schema


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
        kind: What its scores are, see `format.manifest.Explained`.
        others: The further images whose places some layer's maps show.
    """

    name: str
    digest: str
    input: Input
    layer: TargetLayer
    activation: Activation
    labels: tuple[str, ...]
    kind: Literal["classes", "dense", "vector", "rows"] = "classes"
    others: tuple[Input, ...] = field(default=(), metadata=schema.LATER)

    @classmethod
    def of(cls, bundle: Bundle) -> ExplainedNetwork:
        """What explanations keep of a bundle."""
        manifest = bundle.manifest
        return cls(
            manifest.name,
            manifest.digest,
            manifest.input,
            manifest.target,
            manifest.activation,
            bundle.labels,
            manifest.scores.kind,
            tuple(one for one in manifest.further.images if any(layer.input == one.name for layer in manifest.layers)),
        )

    def label(self, index: int) -> str:
        """The label of a class; "class 3" if it has none, "output 3" if it is no class."""
        what = "output" if self.kind == "vector" else "class"
        named = index < len(self.labels)  # the rows of a detector hold coordinates beside classes
        return (self.labels[index] if named else "") or f"{what} {index}"  # an empty label counts as none

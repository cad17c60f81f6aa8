"""What an explanation keeps of the bundle it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .format.bundle import Activation, Bundle, Input, TargetLayer


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
    """

    name: str
    digest: str
    input: Input
    layer: TargetLayer
    activation: Activation
    labels: tuple[str, ...]
    kind: Literal["classes", "dense", "vector"] = "classes"

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
        )

    def label(self, index: int) -> str:
        """The label of a class; "class 3" if it has none, "output 3" if it is no class."""
        what = "output" if self.kind == "vector" else "class"
        return (self.labels[index] if self.labels else "") or f"{what} {index}"  # an empty label counts as none

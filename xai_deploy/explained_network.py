"""What an explanation keeps of the bundle it comes from."""

from __future__ import annotations

from dataclasses import dataclass

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

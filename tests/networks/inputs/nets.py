"""Small networks of several inputs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 15, 19


class Branch(nn.Module):
    """Two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 6, 3, stride=2), nn.Conv2d(6, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The feature maps."""
        return torch.relu(self.second(torch.relu(self.first(x))))


class Fusion(nn.Module):
    """RGB and depth: their maps are joined, and convolved together."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.depth, self.joint = Branch(3), Branch(1), nn.Conv2d(10, 8, 3, padding=1)
        self.last = nn.Linear(8, 4)

    def features(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The joined maps, convolved."""
        return torch.relu(self.joint(torch.cat([self.rgb(rgb), self.depth(depth)], 1)))

    def scores(self, activation: Tensor) -> Tensor:
        """The logits."""
        return Tensor(self.last(activation.mean((2, 3))))

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The logits."""
        return self.scores(self.features(rgb, depth))


class Siamese(nn.Module):
    """One branch for two images: their cosine, or a linear layer on their difference."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.branch, self.last, self.head = Branch(3), nn.Linear(5, 3), head

    def joined(self, left: Tensor, right: Tensor) -> Tensor:
        """The output from the maps of both."""
        a, b = left.mean((2, 3)), right.mean((2, 3))
        if self.head == "cosine":
            return functional.cosine_similarity(a, b, dim=1)[:, None]
        return Tensor(self.last((a - b).abs()))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The output."""
        return self.joined(self.branch(left), self.branch(right))


class WithFacts(nn.Module):
    """An image and a vector of facts about it, with a temperature: facts scale the maps early and join the pooled vector late."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.gate, self.after = Branch(3), nn.Linear(4, 5), nn.Conv2d(5, 5, 3, padding=1)
        self.last = nn.Linear(9, 3)

    def features(self, x: Tensor, facts: Tensor) -> Tensor:
        """The gated maps."""
        return torch.relu(self.after(self.branch(x) * torch.sigmoid(self.gate(facts))[:, :, None, None]))

    def scores(self, activation: Tensor, facts: Tensor, temperature: Tensor) -> Tensor:
        """The logits."""
        return Tensor(self.last(torch.cat([activation.mean((2, 3)), facts], 1)) / temperature)

    def forward(self, x: Tensor, facts: Tensor, temperature: Tensor) -> Tensor:
        """The logits."""
        return self.scores(self.features(x, facts), facts, temperature)


def saved(
    network: nn.Module, file: Path, examples: Sequence[Tensor], names: Sequence[str], fixed: Sequence[str] = ()
) -> Path:
    """The network as an ONNX file with a symbolic batch; inputs in `fixed` have none."""
    axes = {name: {0: "N"} for name in names if name not in fixed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), tuple(examples), str(file), dynamo=False, input_names=list(names), dynamic_axes=axes
        )
    return file

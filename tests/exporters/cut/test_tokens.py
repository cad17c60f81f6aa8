"""Token networks: the grid of patches as an activation, the class token beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from xai_exporters import Request, export, list_layers

from xai_deploy import Explainer
from xai_deploy.constant_maps import INDEPENDENT
from xai_deploy.format.bundle import ACTIVATION, Bundle

from ..checks import check_bundle, forward, onnxruntime
from ..running import HEAD_AND_TAIL

SIZE = (12, 16)  # patches of 4: a grid of 3 x 4


class Block(nn.Module):
    """A transformer's block, pre-norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(x, self.ln_1(x))

    def shares(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.softmax(-1)

    def rest(self, x: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(normed).chunk(3, dim=-1)
        attention = self.shares(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5)
        x = x + self.out(attention @ v)
        return torch.Tensor(x + self.mlp(self.ln_2(x)))


class Vit(nn.Module):
    """Patches, a class token (and registers) before or after them, two blocks; the first token beside them is read."""

    def __init__(self, prefix: int = 1, suffix: int = 0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.tokens = nn.Parameter(torch.randn(1, prefix + suffix, 8)) if prefix + suffix else None
        self.prefix, self.suffix = prefix, suffix
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.tokens is None:
            return x
        extra = self.tokens.expand(x.shape[0], -1, -1)
        return torch.cat([extra[:, : self.prefix], x, extra[:, self.prefix :]], dim=1)

    def read(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        return torch.Tensor(self.head(x.mean(1) if self.tokens is None else x[:, 0 if self.prefix else -self.suffix]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.blocks(self.embed(x)))


def request(folder: Path, network: nn.Module, **options: Any) -> Request:
    torch.save(network, folder / "vit.pt")
    return Request(folder / "vit.pt", output_path=folder / "vit.xai", overwrite=True, trust_code=True,
                   input_shape=(3, *SIZE), **{"preprocess": "assume", **options})  # fmt: skip


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("prefix", "suffix"), [(0, 0), (1, 0), (3, 0), (0, 1), (0, 3), (1, 4)])
def test_gradient_at_the_last_norm(tmp_path: Path, prefix: int, suffix: int, backend: str) -> None:
    torch.manual_seed(0)
    network = Vit(prefix, suffix).eval()
    done = export(request(tmp_path, network))
    target = done.manifest.target
    assert (target.layout, target.shape, target.prefix_tokens, target.suffix_tokens) == (
        "NTC",
        (8, 3, 4),
        prefix,
        suffix,
    )
    cells = slice(prefix, prefix + 12)
    for file in done.path.glob("*.onnx"):  # onnxruntime warns of constants that nothing uses
        graph = onnx.load(file).graph
        used = {name for node in graph.node for name in node.input}
        assert {tensor.name for tensor in graph.initializer} <= used, file.name
    x = torch.randn(3, 3, *SIZE)
    network.double()
    last: Any = network.blocks[1]
    with torch.no_grad():
        tokens = network.blocks[0](network.embed(x.double()))
    normed = last.ln_1(tokens).detach().requires_grad_()
    y = network.read(last.rest(tokens, normed))
    y[:, 2].sum().backward()  # type: ignore[no-untyped-call]
    assert normed.grad is not None
    grid = [t[:, cells].transpose(1, 2).reshape(3, 8, 3, 4).detach().numpy() for t in (normed, normed.grad)]
    wanted = np.maximum((grid[1].mean(axis=(2, 3), keepdims=True) * grid[0]).sum(axis=1), 0)
    explainer = Explainer(done.path, backend)
    e = explainer.explain(x.numpy(), "grad-cam", 2)
    assert wanted.any()
    assert np.abs(e.raw - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(e.logits - y.detach().numpy()).max() <= 1e-4 * float(y.detach().abs().max())
    hires = explainer.explain(x.numpy(), "hires-cam", 2).raw
    assert np.abs(hires - np.maximum((grid[0] * grid[1]).sum(axis=1), 0)).max() <= 1e-4 * np.abs(hires).max()
    # ReciproCAM keeps the tokens beside the grid, a side tensor: one position of the grid at a time
    masked = normed.detach().clone()
    masked[:, cells] = 0
    masked[:, prefix + 5] = normed[:, prefix + 5].detach()
    with torch.no_grad():
        score = network.read(last.rest(tokens, masked))[:, 2].numpy()
    reciprocam = explainer.explain(x.numpy(), "reciprocam", 2).raw
    assert np.abs(reciprocam[:, 1, 1] - score).max() <= 1e-4 * np.abs(reciprocam).max()


class WrittenOut(nn.Module):
    """A normalisation in several operators, as files before opset 17 (LayerNormalization) and 23 (RMSNormalization) hold it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.w, self.b = kind, nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "rms":
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.w
        mean = x.mean(-1, keepdim=True)
        if self.kind in ("shifted", "shifted alone"):  # TensorFlow's batch_normalization
            factor = torch.rsqrt((x - mean).square().mean(-1, keepdim=True) + 1e-5) * self.w
            return x * factor + (self.b - mean * factor) if self.kind == "shifted" else x * factor - mean * factor
        if self.kind == "flax":
            return (x - mean) * (torch.rsqrt((x * x).mean(-1, keepdim=True) - mean * mean + 1e-5) * self.w) + self.b
        if self.kind == "gains first":
            return self.w * (x - mean) / (x - mean).square().mean(-1, keepdim=True).add(1e-5).sqrt() + self.b
        if self.kind == "axis again":
            spread = (x - x.mean(-1).unsqueeze(-1)).square().mean(-1).unsqueeze(-1)
            return (x - x.mean(-1).unsqueeze(-1)) * torch.rsqrt(spread + 1e-5) * self.w + self.b
        if self.kind == "twice":  # the mean is taken out once more for the variance
            variance = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
            return (x - x.mean(-1, keepdim=True)) / torch.sqrt(variance + 1e-5) * self.w + self.b
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * self.w + self.b


class SoftmaxWrittenOut(Block):
    """Its attention's softmax in several operators, as Keras wrote it."""

    def shares(self, scores: torch.Tensor) -> torch.Tensor:
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)


@pytest.mark.parametrize("kind", ["centred", "twice", "rms", "shifted"])
def test_a_norm_in_several_operators(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    network = Vit(1)
    for block in network.blocks:
        block.ln_1, block.ln_2 = WrittenOut(kind), WrittenOut(kind)
    done = export(request(tmp_path, network.eval()))
    assert (done.manifest.target.layout, done.manifest.target.shape, done.manifest.target.prefix_tokens) == (
        "NTC",
        (8, 3, 4),
        1,
    )
    x = torch.randn(3, 3, *SIZE)
    last: Any = network.blocks[1]
    with torch.no_grad():
        tokens = network.blocks[0](network.embed(x))
    normed = last.ln_1(tokens).detach().requires_grad_()
    network.read(last.rest(tokens, normed))[:, 2].sum().backward()  # type: ignore[no-untyped-call]
    assert normed.grad is not None
    a, g = (t[:, 1:].transpose(1, 2).reshape(3, 8, 3, 4).detach().numpy() for t in (normed, normed.grad))
    wanted = np.maximum((g.mean(axis=(2, 3), keepdims=True) * a).sum(axis=1), 0)
    found = Explainer(done.path, "onnxruntime").explain(x.numpy(), "grad-cam", 2).raw
    assert wanted.any()
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "kind",
    [
        "one operator",
        "softmax",
        "centred",
        "twice",
        "rms",
        "shifted",
        "shifted alone",
        "flax",
        "gains first",
        "axis again",
    ],
)
def test_the_form_does_not_move_the_layer(tmp_path: Path, kind: str) -> None:
    """With pooled tokens the layer was after the last attention if the norm, or the softmax, was written in several operators."""
    torch.manual_seed(0)
    network = Vit(0)
    if kind == "softmax":
        network.blocks = nn.Sequential(SoftmaxWrittenOut(8), SoftmaxWrittenOut(8))
    elif kind != "one operator":
        for block in network.blocks:
            block.ln_1, block.ln_2 = WrittenOut(kind), WrittenOut(kind)
        network.norm = WrittenOut(kind)  # type: ignore[assignment]
    done = export(request(tmp_path, network.eval(), roles=HEAD_AND_TAIL))
    x = torch.randn(1, 3, *SIZE)
    last: Any = network.blocks[1]
    with torch.no_grad():
        want = last.ln_1(network.blocks[0](network.embed(x))).numpy()
    [got] = [
        value
        for name, value in onnxruntime(Bundle.open(done.path).graph("head"), {"image": x.numpy()}).items()
        if name == ACTIVATION
    ]
    np.testing.assert_allclose(got, want.transpose(0, 2, 1).reshape(got.shape), atol=1e-5)


def test_every_cut_of_a_token_network(tmp_path: Path) -> None:
    network = Vit(1).eval()
    rows = list_layers(request(tmp_path, network))
    tokens = [row for row in rows if row.shape == (8, 3, 4)]
    assert len(tokens) > 8
    for row in tokens[::10]:
        done = export(request(tmp_path, network, split=row.tensor))
        check_bundle(done.path, forward(network.float()))


def test_behind_the_last_attention_the_gradient_is_zero_and_said(tmp_path: Path) -> None:
    done = export(request(tmp_path, Vit(1).eval(), split="norm"))
    assert done.dead == dict.fromkeys(("gradient", "relevance"), INDEPENDENT)

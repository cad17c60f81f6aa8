"""Films with frames before channels, [N,D,C,H,W]: every map is that of autograd on the live network; layers may be tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from xai_exporters import Request, export
from xai_exporters.graph.layouts import input_layout, sides

from xai_deploy import Explainer
from xai_deploy.preprocess import Prepared

from .nets import CLASSES, TARGETS, ResNet, noise, saved, worst

SIZE = (3, 16, 24)  # as many frames as channels: only the operators tell them apart


class Frames(ResNet):
    """A network of volumes whose first operator exchanges frames and channels."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x.transpose(1, 2))


class Single(ResNet):
    """Features of each frame by itself, as in networks of images; then a network of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.of_image = nn.Conv2d(3, 3, 3, 1, 1)

    def features(self, x: Tensor) -> Tensor:
        frames = torch.relu(self.of_image(x.flatten(0, 1)))
        return super().features(frames.reshape(x.shape).transpose(1, 2))


class Tokens(nn.Module):
    """As ViViT: patches of several frames as tokens behind a class token, attention over all of them. `shuffled`: as TimeSformer's
    tokens, the frames of a place follow each other."""

    def __init__(self, shuffled: bool) -> None:
        super().__init__()
        self.patches, self.shuffled = nn.Conv3d(3, 8, (1, 8, 8), (1, 8, 8)), shuffled
        self.first, self.norm = nn.Parameter(torch.zeros(1, 1, 8)), nn.LayerNorm(8)
        self.qkv, self.out, self.fc = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """The tokens [N,1+18,8]."""
        maps = self.patches(x.transpose(1, 2))
        maps = maps.permute(0, 1, 3, 4, 2) if self.shuffled else maps
        tokens = torch.cat([self.first.expand(x.shape[0], -1, -1), maps.flatten(2).transpose(1, 2)], 1)
        return Tensor(self.norm(tokens))

    def logits(self, tokens: Tensor) -> Tensor:
        """[N,classes], of the class token."""
        q, k, v = self.qkv(tokens).chunk(3, 2)
        mixed = (q @ k.transpose(1, 2) / 8**0.5).softmax(2) @ v
        return Tensor(self.fc((tokens + self.out(mixed))[:, 0]))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.logits(self.features(x))

    def as_map(self, tokens: Tensor) -> Tensor:
        """Tokens [N,19,8] as [N,8,3,2,3]."""
        maps = tokens[:, 1:].transpose(1, 2)
        if self.shuffled:
            return maps.reshape(-1, 8, 2, 3, 3).permute(0, 1, 4, 2, 3)
        return maps.reshape(-1, 8, 3, 2, 3)


def exported(network: Any, folder: Path, **more: Any) -> Path:
    source = saved(network, folder / "net.onnx", (SIZE[0], 3, *SIZE[1:]))
    done = export(
        Request(
            source, preprocess="unit", input_gradient=True, output_path=folder / "net.xai", **more, roles=("gradient",)
        )
    )
    spec = done.manifest.input
    assert (spec.layout, spec.size, spec.channels) == ("NDCHW", SIZE, 3)
    assert spec.image_shape == (SIZE[0], 3, *SIZE[1:])
    return Path(done.path)


@pytest.fixture(scope="module", params=[Frames, Single], ids=["exchanged", "single"])
def maps(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    network = request.param()
    return network, exported(network, tmp_path_factory.mktemp("frames"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 3])
def test_maps(maps: tuple[Any, Path], backend: str, count: int) -> None:
    network, path = maps
    explainer, x = Explainer(path, backend), noise(count, SIZE[0], 3, *SIZE[1:])
    at = torch.from_numpy(x).requires_grad_()
    a = network.features(at)
    rows = network.logits(a)[range(count), TARGETS[:count]]
    g, own = torch.autograd.grad(rows.sum(), [a, at])
    got = {m: explainer.explain(Prepared(x), m, TARGETS[:count]) for m in ("grad-cam", "gradient", "input-x-gradient")}
    want = torch.relu((g.mean((2, 3, 4), keepdim=True) * a).sum(1)).detach().numpy()
    assert worst(got["grad-cam"].raw, want) < 1e-4
    assert worst(got["gradient"].raw, own.abs().amax(2).numpy()) < 1e-4
    assert worst(got["input-x-gradient"].raw, (at.detach() * own).sum(2).numpy()) < 1e-4
    assert got["grad-cam"].heatmap.shape == (count, *SIZE)


@pytest.mark.parametrize("shuffled", [False, True])
def test_tokens(tmp_path: Path, shuffled: bool) -> None:
    network = Tokens(shuffled)
    path = exported(network, tmp_path)
    x = noise(2, SIZE[0], 3, *SIZE[1:])
    tokens = network.features(torch.from_numpy(x))
    g = network.as_map(torch.autograd.grad(network.logits(tokens)[range(2), TARGETS[:2]].sum(), tokens)[0])
    a = network.as_map(tokens).detach()
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(path, backend)
        layer = explainer.bundle.manifest.target
        assert (layer.layout, layer.shape, layer.prefix_tokens) == ("NTC", (8, 3, 2, 3), 1)
        got = explainer.explain(Prepared(x), "grad-cam", TARGETS[:2])
        assert worst(got.raw, torch.relu((g.mean((2, 3, 4), keepdim=True) * a).sum(1)).numpy()) < 1e-4
        got = explainer.explain(Prepared(x), "hires-cam", TARGETS[:2])
        assert worst(got.raw, torch.relu((g * a).sum(1)).numpy()) < 1e-4
        assert got.heatmap.shape == (2, *SIZE)


def test_films(maps: tuple[Any, Path], tmp_path: Path) -> None:
    """Bytes [D,h,w,3] of another size become the input [D,3,H,W]; floats of that shape are the input."""
    explainer = Explainer(maps[1])
    film = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    want = (film / 255).transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_allclose(explainer.prepare(film).x[0], want, atol=1e-6)
    np.save(tmp_path / "film.npy", want)
    np.testing.assert_array_equal(explainer.prepare(str(tmp_path / "film.npy")).x[0], want)
    e = explainer.explain([film, want], "grad-cam", 1)
    np.testing.assert_allclose(e.raw[0], e.raw[1], atol=1e-5)
    assert e.overlay([film, want])[0].shape == (2 * 16, 2 * 24, 3)  # three slices, two in a row


def test_hidden_places(maps: tuple[Any, Path]) -> None:
    """Occlusion hides all channels of a place, in a seventh of the frames or, of so few, in one."""
    explainer, x = Explainer(maps[1]), noise(1, SIZE[0], 3, *SIZE[1:])
    given = torch.from_numpy(x)
    p = maps[0](given).softmax(1)[0, 2].item()
    got = explainer.explain(Prepared(x), "occlusion", 2, size=8, stride=8).raw[0]
    for place in ((0, 0, 0), (0, 8, 16)):
        patch = (slice(0, 3), slice(None), *(slice(i, i + 8) for i in place[1:]))
        hidden = given.clone()
        hidden[0][patch] = 0
        assert got[place] == pytest.approx(p - maps[0](hidden).softmax(1)[0, 2].item(), abs=1e-5)


@pytest.mark.parametrize(
    ("perm", "shape", "layout", "axes"),
    [
        (None, (16, 3, 32, 32), "NDCHW", (1, 3, 4)),
        (None, (16, 1, 32, 32), "NDCHW", (1, 3, 4)),
        (None, (3, 16, 32, 32), "NCDHW", (2, 3, 4)),
        (None, (3, 3, 32, 32), "NCDHW", (2, 3, 4)),
        (None, (16, 32, 32, 3), "NDHWC", (1, 2, 3)),
        ((0, 2, 1, 3, 4), (3, 3, 32, 32), "NDCHW", (1, 3, 4)),
        ((0, 4, 1, 2, 3), (3, 3, 32, 32), "NDHWC", (1, 2, 3)),
    ],
)
def test_layouts(perm: Any, shape: tuple[int, ...], layout: str, axes: tuple[int, ...]) -> None:
    node = (
        helper.make_node("Sigmoid", ["x"], ["y"])
        if perm is None
        else helper.make_node("Transpose", ["x"], ["y"], perm=perm)
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = ir.from_proto(helper.make_model(helper.make_graph([node], "g", [x], [y]))).graph
    assert input_layout(graph.inputs[0], shape) == layout
    assert sides(graph.inputs[0], shape) == axes


def test_the_size_is_given_in_either_order(tmp_path: Path) -> None:
    """A file that leaves its sizes open, but its channels."""
    source = saved(Frames(), tmp_path / "net.onnx", (SIZE[0], 3, *SIZE[1:]))
    proto = onnx.load(source)
    for axis in (1, 3, 4):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    onnx.save(proto, source)
    for given in ((5, 3, 16, 24), (3, 5, 16, 24)):
        done = export(
            Request(
                source,
                preprocess="unit",
                input_shape=given,
                output_path=tmp_path / f"{given[0]}.xai",
                roles=("gradient",),
            )
        )
        assert done.manifest.input.size == (5, 16, 24)


@pytest.mark.parametrize("name", ["VideoMAE", "Vivit", "Timesformer"])
def test_transformers(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    patches: dict[str, dict[str, Any]] = {
        "VideoMAE": {"patch_size": 8, "tubelet_size": 2},
        "Vivit": {"tubelet_size": [2, 8, 8]},
        "Timesformer": {"patch_size": 8},
    }
    config = getattr(transformers, f"{name}Config")(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=CLASSES, image_size=16,
        num_frames=4, initializer_range=0.3, **patches[name],
    )  # fmt: skip
    network = getattr(transformers, f"{name}ForVideoClassification")(config).eval()
    network.save_pretrained(tmp_path / "hf")
    done = export(
        Request(
            tmp_path / "hf" / "model.safetensors", arch=f"hf:{tmp_path / 'hf'}", preprocess="unit", input_gradient=True,
            output_path=tmp_path / "net.xai",
        )
    )  # fmt: skip
    assert (done.manifest.input.layout, done.manifest.input.size) == ("NDCHW", (4, 16, 16))
    assert done.manifest.target.shape == (16, 4 if name == "Timesformer" else 2, 2, 2)
    x = noise(2, 4, 3, 16, 16)
    at = torch.from_numpy(x).requires_grad_()
    [own] = torch.autograd.grad(network(pixel_values=at).logits[:, 2].sum(), at)
    for backend in ("onnxruntime", "openvino"):
        got = Explainer(done.path, backend).explain(Prepared(x), "gradient", 2)
        assert worst(got.raw, own.abs().amax(2).numpy()) < 1e-4

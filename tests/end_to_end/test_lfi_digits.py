"""The networks of models/lfi_digits: their accuracy, and LFI-CAM's own map from the ONNX file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.config import load_config

from xai_deploy import Explainer

NETWORKS = {"lfi_digits": "lfi_net", "plain_digits": "plain_net"}
COUNT = 200
HeldOut = tuple[NDArray[np.uint8], NDArray[np.int64], list[tuple[int, int, int, int]]]


@pytest.fixture(scope="module")
def modules(root: Path) -> Iterator[dict[str, Any]]:
    """The modules of models/, which find each other by their folders."""
    folders = [str(root / "models" / name) for name in ("clutter_digits", "lfi_digits")]
    sys.path[:0] = folders
    names = ("data", "network", "lfi_network")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def held_out(modules: dict[str, Any]) -> HeldOut:
    samples = list(modules["data"].samples("test", COUNT))
    return np.stack([s.image for s in samples]), np.array([s.label for s in samples]), [s.box for s in samples]


@pytest.fixture(scope="module", params=NETWORKS)
def bundle(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name, folder = request.param, root / "models" / "lfi_digits"
    own = {"split": "attended", "map": "attention"} if name == "lfi_digits" else {"split": "stage3"}
    fields = load_config(folder / f"{name}.toml") | own | {"roles": ("head", "tail")}
    path = tmp_path_factory.mktemp("lfi") / f"{name}.xai"
    export(Request(**fields, source=folder / f"{name}.onnx", output_path=path))
    return name, path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_accuracy_and_map(
    bundle: tuple[str, Path],
    modules: dict[str, Any],
    held_out: HeldOut,
    root: Path,
    backend: str,
) -> None:
    """At least 95 % of held-out digits, the logits and the map of the torch network with the committed weights."""
    name, path = bundle
    images, labels, boxes = held_out
    explainer = Explainer(path, backend)
    assert (explainer.predict(list(images)).argmax(1) == labels).mean() >= 0.95
    if name != "lfi_digits":
        return
    network = modules["lfi_network"].lfi_net().eval()
    network.load_state_dict(torch.load(root / "models" / "lfi_digits" / f"{name}.pt", weights_only=True))
    for count in (1, 3):
        some = images[:count]
        x = torch.from_numpy((some.astype(np.float32) / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
        with torch.no_grad():
            logits, own = network.both(network.trunk(x), modules["lfi_network"].grey(x))
        got = explainer.explain(list(some), "own-map")
        np.testing.assert_allclose(got.raw, own[:, 0].numpy(), atol=1e-5)
        np.testing.assert_allclose(got.logits, logits.numpy(), atol=1e-4)
        assert got.raw.shape == (count, 8, 8)
        assert np.allclose(got.raw.max((1, 2)), 1, atol=1e-5)
    some = images[:50]
    for heat, (left, top, right, bottom) in zip(explainer.explain(list(some), "own-map").heatmap, boxes, strict=False):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert left - 8 <= x < right + 8  # a cell of the 8 x 8 map
        assert top - 8 <= y < bottom + 8


def test_map_is_the_papers(modules: dict[str, Any]) -> None:
    """Map and logits by the paper's formulas, in numpy, from the importance network's output."""
    torch.manual_seed(0)
    network = modules["lfi_network"].lfi_net().eval()
    features, grey = torch.rand(2, 48, 16, 16), torch.randn(2, 1, 8, 8)
    seen: dict[str, NDArray[np.float32]] = {}
    network.stage3.register_forward_hook(lambda _m, _i, out: seen.update(e=out.detach().numpy()))
    network.attention.importance.register_forward_hook(
        lambda _m, given, out: seen.update(given=given[0].detach().numpy(), out=out.detach().numpy())
    )
    with torch.no_grad():
        logits, own = network.both(features, grey)
    e = seen["e"]
    low, high = e.min((2, 3), keepdims=True), e.max((2, 3), keepdims=True)
    f = np.where(high > low, (e - low) / np.where(high > low, high - low, 1), 0)
    np.testing.assert_allclose(seen["given"], f * grey.numpy(), atol=1e-5)
    score = seen["out"].mean((2, 3))
    weights = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    raw = np.maximum(np.einsum("nk,nkhw->nhw", weights, e), 0)
    low, high = raw.min((1, 2), keepdims=True), raw.max((1, 2), keepdims=True)
    expected = (raw - low) / (high - low)
    np.testing.assert_allclose(own[:, 0].numpy(), expected, atol=1e-5)
    pooled = ((1 + expected[:, None]) * e).mean((2, 3))
    weight, bias = network.fc.weight.detach().numpy(), network.fc.bias.detach().numpy()
    np.testing.assert_allclose(logits.numpy(), pooled @ weight.T + bias, atol=1e-5)

"""What a quantised file's bundle gives: outputs, maps and gradients, against the file, the float network and `straight_through`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.backends import Config, create
from xai_deploy.errors import XaiError
from xai_deploy.format.bundle import ACTIVATION, Bundle

from .straight_through import Network, Unknown

Array = NDArray[Any]
METHODS = ("grad-cam", "hires-cam", "layer-cam", "relevance-cam", "lrp", "reciprocam")
RUNTIMES = ("onnxruntime", "openvino")


@dataclass
class Row:
    """One file's figures; all differences are relative to the largest magnitude.

    Attributes:
        file: Outputs of the bundle on ONNX Runtime from ONNX Runtime's run of the file, operator by operator.
        logits: Outputs on OpenVINO from those on ONNX Runtime.
        runtimes: Method -> largest difference of the maps on both runtimes.
        floats: Method -> rank correlation with the float network's map, mean over the images.
        autograd: Method, or "image" for the gradient at the image -> largest difference from `straight_through`.
        refused: Why there is no bundle.
        notes: Whatever did not run.
    """

    file: float = np.nan
    logits: float = np.nan
    runtimes: dict[str, float] = field(default_factory=dict)
    floats: dict[str, float] = field(default_factory=dict)
    autograd: dict[str, float] = field(default_factory=dict)
    refused: str = ""
    notes: list[str] = field(default_factory=list)


def bundle_of(source: Path) -> tuple[Path, float]:
    """The bundle beside a file, and its difference from the file."""
    path = source.with_suffix(".xai")
    roles = ("gradient", "relevance", "pixel-relevance")
    done = export(
        Request(source, output_path=path, preprocess="none", overwrite=True, roles=roles, input_gradient=True)
    )
    return path, done.verified.source


def maps(path: Path, runtime: str, images: Array, targets: Array, notes: list[str]) -> tuple[dict[str, Array], Array]:
    """Raw maps by method, and logits."""
    explainer = Explainer(path, runtime, threads=1)
    found: dict[str, Array] = {}
    for method in METHODS:
        try:
            found[method] = explainer.explain(images, method, [int(t) for t in targets]).raw.astype(np.float64)
        except XaiError as error:
            notes.append(f"{runtime}, {method}: {error}")
    return found, explainer.predict(images)


def examine(source: Path, images: Array, targets: Array, floats: dict[str, Array]) -> Row:
    """All figures of one file."""
    row = Row()
    try:
        path, row.file = bundle_of(source)
    except XaiError as error:
        row.refused = str(error)
        return row
    results = {}
    for runtime in RUNTIMES:
        try:
            results[runtime] = maps(path, runtime, images, targets, row.notes)
        except XaiError as error:
            row.notes.append(f"{runtime}: {error}")
    (here, logits), other = results["onnxruntime"], results.get("openvino")
    if other is not None:
        row.logits = _difference(other[1], logits)
        row.runtimes = {m: _difference(other[0][m], here[m]) for m in here if m in other[0]}
    row.floats = {m: _correlation(here[m], floats[m]) for m in here if m in floats}
    try:
        row.autograd = _autograd(source, path, images, targets, here)
    except Unknown as error:
        row.notes.append(f"autograd: no {error} in straight_through")
    except Exception as error:  # a file that `straight_through` does not understand is no fault of the bundle
        row.notes.append(f"autograd: {type(error).__name__} in straight_through: {error}")
    return row


def _autograd(source: Path, path: Path, images: Array, targets: Array, here: dict[str, Array]) -> dict[str, float]:
    """Maps and the gradient at the image from autograd's, one image at a time."""
    bundle, network = Bundle.open(path), Network(onnx.load(source))
    graphs = create("onnxruntime", Config(threads=1)).open(bundle.graph("input-gradient"))
    head = create("onnxruntime", Config(threads=1)).open(bundle.graph("head"))
    spec, got, want = bundle.manifest.input, [], []
    shift = 128 if network.takes_int8 else 0  # the bundle takes pixels
    layer: dict[str, list[Array]] = {}
    for image, target in zip(images, targets, strict=True):
        x = torch.tensor(image[None] - np.float32(shift), dtype=torch.float32, requires_grad=True)
        values = network(x)
        values[network.scores][0, int(target)].backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        want.append(x.grad.numpy())
        feeds = {
            spec.name: image[None],
            "target": np.array([target]),
            "seed": np.zeros((1, bundle.manifest.classes), np.float32),
        }
        name = str(bundle.manifest.graphs["input-gradient"].propagated)
        got.append(np.asarray(graphs.run(feeds, [name])[name]))
        a = np.asarray(head.run({spec.name: image[None]}, [ACTIVATION])[ACTIVATION])
        for method, value in _cams(values, a).items():
            layer.setdefault(method, []).append(value)
    differences = {"image": _difference(np.concatenate(got), np.concatenate(want))}
    for method, of in layer.items():
        if method in here and len(of) == len(images):
            differences[method] = _difference(here[method], np.concatenate(of))
    return differences


def _cams(values: dict[str, torch.Tensor], activation: Array) -> dict[str, Array]:
    """CAMs at the tensor that equals the head's activation, by their formulas; none if the file holds no such tensor."""
    a = activation.astype(np.float64)
    for value in values.values():
        if tuple(value.shape) == a.shape and value.grad is not None and _difference(value.detach().numpy(), a) < 1e-5:
            g, a = value.grad.numpy(), value.detach().numpy()
            grad_cam = (g.mean((2, 3), keepdims=True) * a).sum(1)
            products = g * a
            return {
                "grad-cam": np.maximum(grad_cam, 0), "hires-cam": np.maximum(products.sum(1), 0),
                "layer-cam": np.maximum((np.maximum(g, 0) * a).sum(1), 0),
            }  # fmt: skip
    return {}


def _difference(got: Array, want: Array) -> float:
    return float(np.abs(got.astype(np.float64) - want).max() / max(np.abs(want).max(), 1e-30))


def _correlation(one: Array, other: Array) -> float:
    """Spearman's, mean over the images; constant maps have none."""
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(one, other, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(np.mean([spearmanr(a, b).statistic for a, b in pairs])) if pairs else np.nan

"""What is looked at in one exported network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from xai_exporters import ExportError, Request, export
from xai_exporters.errors import RuleError, VerificationError
from xai_exporters.export_result import Export

from xai_deploy.faithful import rounding
from xai_deploy.format.bundle import ACTIVATION, GRADIENT, LOGITS, RELEVANCE, SEED, TARGET

from .cases import DISPUTED
from .networks import logits

Arrays = Mapping[str, NDArray[Any]]
STEP = 1e-9
"""Of central differences, in float64, on inputs from 0 to 1. With 1e-7 a network of a million ReLUs has a kink on the way."""
DRAWS = 3
"""Images, of which the best counts: where an input of a ReLU is within float32's rounding of zero, float32 and float64 take
different sides of the kink. A wrong rule is wrong for every image."""
PATCHES = 5
"""Along a side of the image, each of which changes once."""
CELLS = 9
"""Of a map, fewer of which do not show whether they follow the image: by chance a shuffled map of 2 x 2 is in order."""


def examine(
    path: Path, network: torch.nn.Module, image: torch.Tensor, result: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Export a bundle from an ONNX file, and look at it. `result` gets what is known, step by step.

    Args:
        path: The ONNX file.
        network: The network in torch.
        image: [1,3,h,w].
        result: "refused" or the cut, and the figures.
        say: Called with each step as it begins.
    """
    bundle = path.with_suffix(".xai")
    request = Request(
        path, output_path=bundle, overwrite=True, preprocess="unit", input_gradient=True, whole_graphs=True
    )
    try:
        try:
            done = export(request, lambda step: say(f"export: {step}"))
        except (RuleError, VerificationError) as error:
            result["without"] = f"input-gradient: {error}"[:400]
            done = export(replace(request, input_gradient=False), lambda step: say(f"export: {step}"))
    except ExportError as error:
        closed = _opens(path)  # torch writes some files that no runtime opens
        result["torch" if closed else "refused"] = f"{closed}{type(error).__name__}: {error}"[:400]
        return
    except Exception as error:
        result["crashed"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
        return
    target = done.manifest.target
    result |= {
        "cut": target.tensor,
        "shape": list(target.shape),
        "layout": target.layout,
        "one_because": done.one_because,
        "note": done.layer_note,
        "dead": dict(done.dead),
        "left_out": dict(done.manifest.left_out),
        "rounding": rounding(done.manifest),
        "graphs": list(done.manifest.graphs),
        "export_seconds": round(done.seconds, 1),
    }
    for step, check in (("gradient", _gradient), ("relevance", _relevance), ("positions", _positions)):
        say(step)
        try:
            result[step] = check(bundle, done, network, image)
        except Exception as error:
            result[step] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}


def _opens(path: Path) -> str:
    """ "" if ONNX Runtime opens a file; else what to say of it."""
    try:
        onnxruntime.InferenceSession(str(path))
    except Exception:
        return "ONNX Runtime doesn't open its file. "
    return ""


def _feeds(bundle: Path, done: Export, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """All that a graph may take for one image: the image, what the head gives, and the predicted class as the target."""
    manifest = done.manifest
    feeds = {manifest.input.name: image}
    between = on_onnxruntime(bundle / manifest.graphs["head"].file, feeds)
    feeds = {**feeds, **between}
    tail = on_onnxruntime(bundle / manifest.graphs["tail"].file, feeds)
    scores = tail[LOGITS]
    return {**feeds, SEED: np.zeros(scores.shape, np.float32), TARGET: np.array([scores.argmax()]), LOGITS: scores}


def _gradient(bundle: Path, done: Export, network: torch.nn.Module, image: torch.Tensor) -> dict[str, Any]:
    """The gradient at the image on both runtimes, against autograd in float64; central differences decide if they differ."""
    graph = done.manifest.graphs.get("input-gradient")
    if graph is None:
        return {"error": done.manifest.left_out.get("input-gradient", "no graph")}
    best: dict[str, Any] = {}
    network = network.double()
    try:
        for number in range(DRAWS):
            draw = torch.rand(image.shape, generator=torch.Generator().manual_seed(number))
            found = _one_gradient(bundle, done, network, draw, bundle / graph.file)
            rounded = max(found.get("float32", 0.0), best.get("float32", 0.0))
            best = {key: min(value, best.get(key, np.inf)) for key, value in found.items()} | {"float32": rounded}
            if max(found["onnxruntime"], found["openvino"]) <= DISPUTED:
                break
        return best
    finally:
        network.float()


def _one_gradient(
    bundle: Path, done: Export, network: torch.nn.Module, image: torch.Tensor, file: Path
) -> dict[str, Any]:
    feeds = _feeds(bundle, done, image.numpy())
    target = int(feeds[TARGET][0])
    truth = _autograd(network, image.double(), target)
    largest = max(float(truth.abs().max()), 1e-30)
    found: dict[str, Any] = {"largest": largest}
    ours = {"onnxruntime": on_onnxruntime(file, feeds)[GRADIENT], "openvino": on_openvino(file, feeds)[GRADIENT]}
    for runtime, gradient in ours.items():
        found[runtime] = float(np.abs(gradient.astype(np.float64) - truth.numpy()).max() / largest)
    if max(found["onnxruntime"], found["openvino"]) > DISPUTED:
        single = _autograd(network.float(), image, target)
        network.double()
        found["float32"] = float((single.double() - truth).abs().max() / largest)
        found |= _central(network, image.double(), target, {**ours, "autograd": truth.numpy()})
    return found


def _autograd(network: torch.nn.Module, image: torch.Tensor, target: int) -> torch.Tensor:
    x = image.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(logits(network(x)).reshape(-1)[target], x)
    return gradient


def _central(network: torch.nn.Module, image: torch.Tensor, target: int, gradients: Arrays) -> dict[str, float]:
    """Relative error of some gradients along three random directions, by central differences in float64."""
    errors = dict.fromkeys(gradients, 0.0)
    for number in range(3):
        direction = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        with torch.no_grad():
            high, low = (
                float(logits(network(image + sign * STEP * direction)).reshape(-1)[target]) for sign in (1, -1)
            )
        slope = (high - low) / (2 * STEP)
        for name, gradient in gradients.items():
            own = float((gradient * direction.numpy()).sum())
            scale = float(np.linalg.norm(gradient)) or 1e-30  # of the slope along such a direction
            errors[name] = max(errors[name], abs(own - slope) / scale)
    return {f"central_{name}": error for name, error in errors.items()}


def _relevance(bundle: Path, done: Export, network: torch.nn.Module, image: torch.Tensor) -> dict[str, Any]:
    """Relevance at the cut: whether it is finite, how large it is beside the score, and how far the runtimes differ."""
    role = next((role for role in done.manifest.graphs if role.startswith("relevance")), None)
    if role is None:
        reasons = [why for name, why in done.manifest.left_out.items() if name.startswith("relevance")]
        return {"error": reasons[0] if reasons else "no graph"}
    feeds = _feeds(bundle, done, image.numpy())
    score = float(feeds[LOGITS].max())
    file = bundle / done.manifest.graphs[role].file
    ours = [runtime(file, feeds)[RELEVANCE].astype(np.float64) for runtime in (on_onnxruntime, on_openvino)]
    finite = all(bool(np.isfinite(r).all()) for r in ours)
    if not finite:
        return {"role": role, "finite": False}
    largest = max(float(np.abs(ours[0]).max()), 1e-30)
    return {
        "role": role,
        "finite": True,
        "differ": float(np.abs(ours[0] - ours[1]).max() / largest),
        "sum": float(ours[0].sum()),
        "absolute": float(np.abs(ours[0]).sum()),
        "score": score,
    }


def _positions(bundle: Path, done: Export, network: torch.nn.Module, image: torch.Tensor) -> dict[str, Any]:
    """Replace one of 5 x 5 patches of a grey image by noise: the cells near it have to answer most, compared with themselves.

    The largest answer alone says little: some patches change every cell (squeeze and excitation, group norms, attention), and some
    cells answer more to every patch (those at the border, whose padding is zero). So what counts is the correlation of the
    answers' logarithms with the distances of cell and patch, the mean of each cell and of each patch taken out of both. It has to
    undercut those of the map turned and mirrored, and of maps whose cells are shuffled.
    """
    head = bundle / done.manifest.graphs["head"].file
    name = done.manifest.input.name
    height, width = done.manifest.target.shape[-2:]
    if height * width < CELLS:
        return {"error": f"a map of {height} x {width} cells, too few for a correlation"}
    grey = np.full(image.shape, 0.5, np.float32)
    noise = np.random.default_rng(0).random(image.shape, dtype=np.float32)
    base, side = on_onnxruntime(head, {name: grey})[ACTIVATION], image.shape[-1]
    answers, patches = [], []
    for down, across in np.ndindex(PATCHES, PATCHES):
        rows, columns = (slice(side * at // PATCHES, side * (at + 1) // PATCHES) for at in (down, across))
        x = grey.copy()
        x[..., rows, columns] = noise[..., rows, columns]
        answers.append(np.abs(on_onnxruntime(head, {name: x})[ACTIVATION] - base).sum(axis=1)[0].astype(np.float64))
        patches.append([(down + 0.5) / PATCHES, (across + 0.5) / PATCHES])
    return correlations(np.array(answers), np.array(patches))


def correlations(answers: NDArray[np.float64], patches: NDArray[np.float64]) -> dict[str, Any]:
    """How answers go with distances: for the map as it is, turned or mirrored at its best, at the best 1 % of 500 shuffles, and
    with each cell at the place that suits it best, which finds scrambled maps.

    Args:
        answers: [P,h,w], at least 0.
        patches: Centres of the patches, shares of the image's sides, [P,2].

    Returns:
        "own", "turned", "shuffled" and "best", from -1 (near cells answer most) to 1.
    """
    many, height, width = answers.shape
    cells = np.array([((i + 0.5) / height, (j + 0.5) / width) for i, j in np.ndindex(height, width)])
    far = _centred(np.linalg.norm(patches[:, None] - cells, axis=2))
    logs = _centred(np.log(answers + 0.01 * answers.max() + 1e-30).reshape(many, -1))
    size = float(np.linalg.norm(far) * np.linalg.norm(logs)) or 1.0
    grid = np.arange(height * width).reshape(height, width)
    kept = [grid, grid.T] if height == width else [grid]
    turned = [g[::down, ::across] for g in kept for down in (1, -1) for across in (1, -1)][1:]
    draw = np.random.default_rng(0)
    shuffled = [draw.permutation(height * width) for _ in range(500)]
    of_turned, of_shuffled = (
        [float((logs[:, order.reshape(-1)] * far).sum()) / size for order in orders] for orders in (turned, shuffled)
    )
    own = float((logs * far).sum()) / size
    suits = (logs.T @ far / np.maximum(np.linalg.norm(far, axis=0), 1e-30)).argmin(axis=1)
    placed = _centred(far[:, suits])
    best = float((logs * placed).sum()) / (float(np.linalg.norm(placed) * np.linalg.norm(logs)) or 1.0)
    return {"own": own, "turned": min(of_turned), "shuffled": float(np.percentile(of_shuffled, 1)), "best": best}


def _centred(table: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return centred


def on_onnxruntime(path: Path, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """Run a graph on ONNX Runtime, one thread."""
    session = _session(path)
    taken = {source.name for source in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {key: value for key, value in feeds.items() if key in taken})
    return dict(zip(names, values, strict=True))


def on_openvino(path: Path, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """Run a graph on OpenVINO, one thread, in float32."""
    compiled = _compiled(path)
    taken = {name for port in compiled.inputs for name in port.names}
    values = compiled({key: value for key, value in feeds.items() if key in taken})
    return {name: np.array(values[port]) for port in compiled.outputs for name in port.names}


@cache
def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


@cache
def _compiled(path: Path) -> openvino.CompiledModel:
    core = openvino.Core()
    how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(path.read_bytes()), "CPU", how)

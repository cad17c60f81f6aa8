"""What a map of a detection costs beside plain inference: both runtimes, one thread, everything in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import openvino
from xai_exporters import Request, export
from xai_exporters.cut.costs import multiply_adds
from xai_exporters.graph.measure import measure

from xai_deploy import DetectionLimits, Explainer

THREADS = 1
BOXES = 20
"""As many boxes as a photo has, for the suppression takes time, too."""

Runs = dict[str, dict[str, Callable[[], object]]]


def work(file: Path) -> int:
    """Multiply-adds of one image in convolutions and matrix products."""
    model = ir.load(file)
    clean: Any = SimpleNamespace(shapes=measure(model))
    return sum(multiply_adds(node, clean) for node in model.graph)


def compiled(file: Path) -> Any:
    """A file on OpenVINO: float32, one image."""
    core = openvino.Core()
    model = core.read_model(file)
    model.reshape({port: [1, *port.partial_shape[1:]] for port in model.inputs})
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS})


def limits(path: Path, image: Any) -> DetectionLimits:
    """The score that `BOXES` rows reach."""
    everything = Explainer(path, "onnxruntime", detections=DetectionLimits(score=0.0, overlap=1.0, most=BOXES))
    [seen] = everything.explain(image, "layer-cam", "box 0").detections
    return DetectionLimits(score=seen[-1].score)


def prepared(file: Path, folder: Path, options: dict[str, Any]) -> tuple[Path, Any]:
    """The bundle with its fused graph, and noise [1,C,H,W] as its input."""
    request = Request(
        file, output_path=folder / f"{file.stem}.xai", roles=("gradient",), fuse=("layer-cam",), **options
    )
    done = export(request)
    shape = (1, *done.manifest.input.image_shape)
    return done.path, np.random.default_rng(1).random(shape, dtype=np.float32)


def runs(file: Path, path: Path, image: Any) -> Runs:
    """What is measured: the plain network, the fused graph for the best row of all, and a box chosen after detection."""
    fused = path / "fused-layer-cam.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    plain, both = (onnxruntime.InferenceSession(one, options) for one in (file, fused))
    source = plain.get_inputs()[0].name
    best = limits(path, image)
    asked = {both.get_inputs()[0].name: image, "target": np.array([-1]), "row": np.array([-1])}

    def explained(backend: str) -> Callable[[], object]:
        explainer = Explainer(path, backend, detections=best, threads=THREADS)
        return lambda: explainer.explain(image, "layer-cam", "box 0")

    alone, together = compiled(file), compiled(fused)
    return {
        "ONNX Runtime": {
            "plain": lambda: plain.run(None, {source: image}),
            "fused, a class": lambda: both.run(None, asked),
            "a box chosen afterwards": explained("onnxruntime"),
        },
        "OpenVINO": {
            "plain": lambda: alone({source: image}),
            "fused, a class": lambda: together(asked),
            "a box chosen afterwards": explained("openvino"),
        },
    }


def timed(things: Runs, rounds: int) -> Iterator[str]:
    """A table's row for each runtime: the median of each thing's factor against plain inference, and its quartiles."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds + 2):
        for runtime, own in things.items():
            for thing, function in own.items():
                begin = time.perf_counter()
                function()
                if turn >= 2:  # the first ones warm up
                    seconds.setdefault((runtime, thing), []).append(time.perf_counter() - begin)
    for runtime, own in things.items():
        plain, *others = own
        cells = [runtime, f"{1000 * np.median(seconds[runtime, plain]):.0f} ms"]
        for thing in others:
            factors = np.array(seconds[runtime, thing]) / np.array(seconds[runtime, plain])
            low, middle, high = np.percentile(factors, [25, 50, 75])
            cells.append(f"{middle:.2f} x ({low:.2f} to {high:.2f})")
        yield " | ".join(cells)


def cost(file: Path, folder: Path, options: dict[str, Any], beside: Runs, rounds: int) -> Iterator[str]:
    """The rows of one detector's file.

    Args:
        file: The ONNX file.
        folder: For the bundle.
        options: For `Request`.
        beside: What else is timed in the same rounds.
        rounds: How often.
    """
    path, image = prepared(file, folder, options)
    share = work(path / "fused-layer-cam.onnx") / work(file)
    for row in timed(runs(file, path, image) | beside, rounds):
        yield f"{row} | {share:.2f} x"

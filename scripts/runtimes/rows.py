"""The runs and their expected results: files, inputs, and the results of the engine and of the plain model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from safetensors.numpy import save_file
from xai_exporters import Request, export
from xai_exporters.roles.fuse.fused_method import fused

from xai_deploy import Explainer, Explanation
from xai_deploy.format.bundle import PREDICTED, TARGET, fused_role
from xai_deploy.heatmap import normalise
from xai_deploy.preprocess import prepare

from .adapter import Array, Tensors
from .networks import Network

OPTIONS = {"integrated-gradients": {"steps": 8}}  # the default of 50 takes the reference evaluator minutes
FORM_METHOD = "grad-cam"
BACKENDS = ("onnxruntime", "openvino")
NOISE = 3e-7  # a few roundings of float32
DRAWS = 8


@dataclass(frozen=True)
class Row:
    """One fused file.

    Attributes:
        label: Its name in the table.
        file: The file.
        cases: The folder of its inputs, one .safetensors file per case.
        outputs: Case -> the plain model's outputs by name.
        maps: Case -> the engine's map on each of its backends, in [0,1].
        moves: How far the engine's own map moves: from one of its backends to the other, and when its input changes by about
            `NOISE` of itself.
        tolerance: The largest difference that is allowed, if it is above the runtimes'.
    """

    label: str
    file: Path
    cases: Path
    outputs: Mapping[str, Tensors]
    maps: Mapping[str, Sequence[Array]]
    moves: float
    tolerance: float = 0.0

    @property
    def names(self) -> list[str]:
        """The file's outputs, in order."""
        return [value.name for value in onnx.load(self.file).graph.output]


@dataclass(frozen=True)
class Form:
    """A form that a fused file can have, what makes it, and the map that it gives for the engine's explanation."""

    label: str
    request: Mapping[str, object]
    map: Callable[[Explanation], Array]
    tolerance: float = 0.0


def _as_given(explanation: Explanation) -> Array:
    return normalise(explanation.raw.copy())


FORMS = (
    Form("without `target` (`--fixed-target`)", {"fixed_target": True}, _as_given),
    Form("map of the input's size (`--map-size input`)", {"map_size": "input"}, lambda e: e.heatmap),
    Form("map in 0-255 (`--uint8`)", {"uint8": True}, _as_given),
    # a resized pixel within float32's rounding of a half becomes its neighbour
    Form("8-bit images of another size (`--embed-preprocess`)", {"embed_preprocess": True}, _as_given, tolerance=1e-3),
)


def method_rows(network: Network, folder: Path) -> Iterator[Row]:
    """One row for each method."""
    methods = [name for name in sorted(fused) if name not in network.without]
    fuse = tuple(":".join([name, *(f"{k}={v}" for k, v in OPTIONS.get(name, {}).items())]) for name in methods)
    bundle = _export(network, folder, {"fuse": fuse})
    engines = [Explainer(bundle, backend=backend) for backend in BACKENDS]
    inputs = np.stack([prepare(image, engines[0].bundle.manifest.input) for image in network.images])
    cases = _cases(engines[0], inputs)
    _save(folder / "cases", cases)
    outputs = _plain(network, engines[0], inputs, cases)
    for name in methods:
        maps, moves = _engine(engines, inputs, cases, name, _as_given)
        yield Row(f"`{name}`", bundle / f"{fused_role(name)}.onnx", folder / "cases", outputs, maps, moves)


def form_rows(network: Network, folder: Path) -> Iterator[Row]:
    """One row for each form of one method's file."""
    for number, form in enumerate(FORMS):
        place = folder / f"form-{number}"
        place.mkdir()
        bundle = _export(network, place, {"fuse": (FORM_METHOD,), **form.request})
        engines = [Explainer(bundle, backend=backend) for backend in BACKENDS]
        spec = engines[0].bundle.manifest.input
        inputs = images = np.stack([prepare(image, spec) for image in network.images])
        if "embed_preprocess" in form.request:
            padded = [np.pad(image, ((0, 7), (5, 40), (0, 0)), mode="reflect") for image in network.images]
            inputs, images = np.stack([prepare(image, spec) for image in padded]), np.stack(padded)
        cases = _cases(engines[0], images)
        if "fixed_target" in form.request:
            cases = {case: feeds for case, feeds in cases.items() if feeds[TARGET][0] == PREDICTED}
        maps, moves = _engine(engines, inputs, cases, FORM_METHOD, form.map)
        outputs = _plain(network, engines[0], inputs, cases)
        if "fixed_target" in form.request:
            cases = {case: {k: v for k, v in feeds.items() if k != TARGET} for case, feeds in cases.items()}
        _save(place / "cases", cases)
        file = bundle / f"{fused_role(FORM_METHOD)}.onnx"
        yield Row(form.label, file, place / "cases", outputs, maps, moves, form.tolerance)


def _engine(
    engines: Sequence[Explainer],
    inputs: Array,
    cases: Mapping[str, Tensors],
    method: str,
    to_map: Callable[[Explanation], Array],
) -> tuple[dict[str, list[Array]], float]:
    """The engine's maps of each case, and how far they move; see `Row`."""

    def run(engine: Explainer, x: Array) -> Array:
        return to_map(engine.explain(x, method, targets, **OPTIONS.get(method, {})))

    rng = np.random.default_rng(1)
    maps: dict[str, list[Array]] = {}
    moves = 0.0
    for case, feeds in cases.items():
        targets = feeds[TARGET].tolist()
        x = inputs[: len(targets)]
        maps[case] = [run(engine, x) for engine in engines]
        if len(targets) == len(inputs):
            near = [(x * (1 + NOISE * rng.standard_normal(x.shape))).astype(x.dtype) for _ in range(DRAWS)]
            others = [maps[case][1], *(run(engines[0], y) for y in near)]
            moves = max(moves, *(float(np.abs(other - maps[case][0]).max()) for other in others))
    return maps, moves


def _export(network: Network, folder: Path, request: Mapping[str, object]) -> Path:
    """The bundle, with what the engine needs for every method."""
    bundle = folder / "net.xai"
    fields = {**network.request, "input_gradient": True, "pixel_relevance": True, **request}
    export(Request(network.source, network.layer, bundle, **fields))
    return bundle


def _cases(engine: Explainer, images: Array) -> dict[str, Tensors]:
    """One image and all of them; with a given class for each image, and with the predicted class."""
    name, classes = engine.bundle.manifest.input.name, engine.bundle.manifest.classes
    cases = {}
    for count in (1, len(images)):
        given = (np.arange(count) * 3 + 2) % classes
        for case, targets in (("given", given), ("predicted", np.full(count, PREDICTED))):
            cases[f"batch{count}-{case}"] = {name: images[:count], TARGET: targets.astype(np.int64)}
    return cases


def _save(folder: Path, cases: Mapping[str, Tensors]) -> None:
    folder.mkdir()
    for name, feeds in cases.items():
        save_file({key: np.ascontiguousarray(value) for key, value in feeds.items()}, folder / f"{name}.safetensors")


def _plain(network: Network, engine: Explainer, inputs: Array, cases: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """Case -> the outputs of the network before anything was fused with it."""
    session = ort.InferenceSession(network.source, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    name = engine.bundle.manifest.input.name
    each = [
        session.run(names, {name: image[None]}) for image in inputs
    ]  # one at a time: the source's batch may be fixed
    whole = {output: np.concatenate(values) for output, values in zip(names, zip(*each, strict=True), strict=True)}
    return {case: {k: v[: len(feeds[TARGET])] for k, v in whole.items()} for case, feeds in cases.items()}

"""torchvision's families as OpenVINO IR: outputs and maps against the same network's ONNX, on both runtimes.

    python -m tests.networks.openvino_ir [--int8] NAME     prints a result; scripts/check_openvino writes the tables in docs/

Every network is seeded, with randomised statistics. `ov.convert_model` converts it; the IR is saved in float32 and with weights in
float16. The maps of the float32 IR are compared with those of torch's own ONNX export at the same layer. Where a ReLU's input is
within float32's rounding of zero, two correct graphs differ by that unit's share, so each image is drawn up to four times, and its
best draw counts. Where the runtimes differ, the same graphs in float64 show how much of it is rounding. With `--int8`, NNCF (which
has to be installed) quantises each network, with noise for its calibration.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import itertools
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.errors import ExportError
from xai_exporters.graph.measure import open_session, run_single
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir import child

from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle
from xai_deploy.foundation import runtimes

from . import in_float64
from .drawn import build, calibrate, images, size_of

ov = runtimes.openvino()

NETWORKS = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_16",
    "wide_resnet50_2",
)  # fmt: skip
"""Each family of torchvision's classification networks, in a small size."""
BACKENDS = ("onnxruntime", "openvino")
DRAWS = 4
TOLERANCE = 1e-4
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
LARGE = 224  # images that take too long in float64
IMAGES = 20  # noise images on which argmax is counted


@dataclass
class Result:
    """What one network showed.

    Attributes:
        network: The name.
        layer: The cut that `auto` chose, and its shape.
        outputs: Kind of IR, runtime -> the output's distance from OpenVINO's run of the IR, relative to its largest magnitude.
        maps: Runtime -> the largest distance of a map from that of torch's ONNX, relative to its largest magnitude.
        worst: The method of that distance.
        methods: How many methods were compared.
        between: Kind of IR -> the largest distance between the runtimes' maps.
        doubtful: The method of the largest of these, if it is above `TOLERANCE`.
        exact: Kind of IR and runtime -> the distance of that method's map from the same graphs' in float64.
        megabytes: Of the float32 weights, and of the memory that the process which translates them takes at most.
        seconds: How long the translation takes.
        reason: Why there is no result.
    """

    network: str
    layer: str = ""
    outputs: dict[str, float] = field(default_factory=dict)
    maps: dict[str, float] = field(default_factory=dict)
    worst: str = ""
    methods: int = 0
    between: dict[str, float] = field(default_factory=dict)
    doubtful: str = ""
    exact: dict[str, float] = field(default_factory=dict)
    megabytes: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    reason: str = ""


def network(name: str) -> tuple[torch.nn.Module, int]:
    """A calibrated network and the side of its images."""
    built, size = build(name), size_of(name)
    damped = {"efficientnet_v2_s": 0.3, "efficientnet_b0": 0.5, "mobilenet_v3_small": 0.5}  # the others hold without
    calibrate(built, images(8, size, 3), damping=damped.get(name, 1.0))
    return built, size


def converted(built: torch.nn.Module, size: int) -> Any:
    """The network as OpenVINO converts it, of any batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ov.convert_model(built, example_input=images(2, size, 2), input=[-1, 3, size, size])


def bundle(source: Path) -> Path:
    """An export with every graph for gradients and relevance."""
    options: dict[str, Any] = {
        "output_path": source.with_suffix(".xai"),
        "preprocess": "imagenet",  # random statistics are those of such images; pixels of 0 to 255 make chaos of some
        "input_gradient": True,
        "pixel_relevance": True,
    }
    try:
        done = export(Request(source, guided=True, **options))
    except ExportError as error:
        if "has none" not in str(error):  # a network without rectifiers
            raise
        done = export(Request(source, **options))
    return done.path


def check(name: str, folder: Path) -> Result:
    """One network in float32 and float16."""
    built, size = network(name)
    result = Result(name)
    model = converted(built, size)
    for kind in ("f32", "f16"):
        ov.save_model(model, folder / f"{kind}.xml", compress_to_fp16=kind == "f16")
    del model
    begun = time.perf_counter()
    load_source(Request(folder / "f32.xml"))
    result.seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result.megabytes = (folder / "f32.bin").stat().st_size / 2**20, peak
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            built,
            (images(2, size, 2),),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None
    program.save(folder / "torch.onnx")
    del program, built
    paths = {kind: bundle(folder / kind) for kind in ("torch.onnx", "f32.xml", "f16.xml")}
    layers = {kind: Bundle.open(path).manifest.target for kind, path in paths.items()}
    shapes = {layer.shape for layer in layers.values() if layer is not None}
    result.layer = " x ".join(map(str, layers["f32.xml"].shape))
    x = images(2, size, 9).numpy()
    for kind in ("f32.xml", "f16.xml"):
        compiled = ov.Core().compile_model(str(folder / kind), "CPU", EXACT)
        want = compiled([x])[0]
        for backend in BACKENDS:
            result.outputs[f"{kind[:3]} {backend}"] = distance(Explainer(paths[kind], backend).predict(x), want)
    if len(shapes) > 1:
        result.reason = f"the layers differ: {sorted(shapes)}"
        return result
    _compare_maps(result, paths, size)
    if result.doubtful and size < LARGE:
        x = images(2, size, 10).numpy()[:1]
        for kind in ("f32.xml", "f16.xml"):
            want = Explainer(paths[kind], in_float64.NAME).explain(x, result.doubtful, 3).raw
            for backend in BACKENDS:
                got = Explainer(paths[kind], backend).explain(x, result.doubtful, 3).raw
                result.exact[f"{kind[:3]} {backend}"] = float(rows(got, want).max())
    return result


def _compare_maps(result: Result, paths: Mapping[str, Path], size: int) -> None:
    """Every method's maps: those of the float32 IR with those of torch's ONNX, and between the runtimes.

    One bundle is open at a time, on one runtime: all graphs of all bundles of AlexNet take 24 GB.
    """
    names = Explainer(paths["f32.xml"], BACKENDS[0]).methods("fast")
    result.methods = len(names)
    pairs = {
        **{backend: [("f32.xml", backend), ("torch.onnx", backend)] for backend in BACKENDS},
        **{kind: [(f"{kind}.xml", backend) for backend in BACKENDS] for kind in ("f32", "f16")},
    }
    best = {(pair, method): np.full(2, np.inf) for pair in pairs for method in names}
    for draws in (range(1), range(1, DRAWS)):
        open_ = [method for method in names if max(float(best[pair, method].max()) for pair in pairs) > TOLERANCE]
        raws = {key: _maps(paths[key[0]], key[1], open_, size, draws) for key in itertools.product(paths, BACKENDS)}
        for (pair, (one, other)), method in itertools.product(pairs.items(), open_):
            apart = [rows(a, b) for a, b in zip(raws[one][method], raws[other][method], strict=True)]
            best[pair, method] = np.minimum.reduce([best[pair, method], *apart])

    def largest(*some: str) -> tuple[float, str]:
        return max((float(best[pair, m].max()), m) for pair in some for m in names)

    result.maps = {backend: largest(backend)[0] for backend in BACKENDS}
    result.worst = largest(*BACKENDS)[1]
    result.between = {kind: largest(kind)[0] for kind in ("f32", "f16")}
    most, method = largest(*result.between)
    result.doubtful = method if most > TOLERANCE else ""


def _maps(path: Path, backend: str, methods: list[str], size: int, draws: range) -> dict[str, list[NDArray[Any]]]:
    """Method -> its maps of two images, for each draw."""
    gc.collect()  # an explainer that is done with holds references to itself
    if not methods:
        return {}
    with Explainer(path, backend) as explainer:
        drawn = [images(2, size, 10 + draw).numpy() for draw in draws]
        return {method: [explainer.explain(x, method, [3, 7]).raw for x in drawn] for method in methods}


@dataclass
class Quantised:
    """What one network quantised by NNCF showed; distances relative to the output's largest magnitude.

    Attributes:
        network: The name.
        roundings: How many FakeQuantize it has.
        step: The largest distance of a rounding from its translation, in steps.
        unrounded: The largest distance of the graph without rounding from its translation.
        own: Distance and agreement of the predicted class, OpenVINO on the IR in floats that are rounded, as FakeQuantize is
            defined, against OpenVINO on the IR in integers: both are OpenVINO's, so this is its own distance.
        same: The same, OpenVINO on the translation.
        other: The same, ONNX Runtime on the translation.
        images: On how many images.
        reason: Why there is no result.
    """

    network: str
    roundings: int = 0
    step: float = float("nan")
    unrounded: float = float("nan")
    own: tuple[float, int] = (float("nan"), 0)
    same: tuple[float, int] = (float("nan"), 0)
    other: tuple[float, int] = (float("nan"), 0)
    images: int = IMAGES
    reason: str = ""


def check_int8(name: str, folder: Path) -> Quantised:
    """One network, quantised."""
    import nncf  # not installed for the tests

    built, size = network(name)
    data = nncf.Dataset([images(1, size, 100 + i).numpy() for i in range(8)])
    ov.save_model(
        nncf.quantize(converted(built, size), data, subset_size=8), folder / "int8.xml", compress_to_fp16=False
    )
    return measured(name, folder / "int8.xml", images(IMAGES, size, 200).numpy())


def measured(name: str, path: Path, x: NDArray[Any]) -> Quantised:
    """Compare a quantised IR with its translation, on images [n, ...]."""
    model = load_source(Request(path)).proto.SerializeToString()
    core = ov.Core()
    source = core.read_model(path)
    source.reshape([1, *x.shape[1:]])  # FakeQuantize is wrong in OpenVINO 2026.4 if sizes are open
    floats = EXACT | {"LP_TRANSFORMS_MODE": "NO"}
    compiled = [
        core.compile_model(m, "CPU", o) for m, o in ((source, EXACT), (source, floats), (core.read_model(model), EXACT))
    ]
    want, own, again = (np.concatenate([run([image[None]])[0] for image in x]) for run in compiled)
    session = open_session(model, "the translation")
    got = np.concatenate([next(iter(run_single(session, image[None]).values())) for image in x])
    with tempfile.TemporaryDirectory() as name_:
        folder = Path(name_)
        child.save_inputs([(False, x[:3])], folder)
        child._unround(core.read_model(path), folder, 1 << 32, {})
        session = open_session((folder / child.MODEL).read_bytes(), "without rounding")
        plain = np.concatenate([next(iter(run_single(session, image[None]).values())) for image in x[:3]])
        unrounded = distance(plain, np.load(folder / child.OUTPUTS)["0"])
        files = (child.ROUNDINGS_IN, child.ROUNDINGS_OUT, child.ROUNDINGS_STEP)
        values, results, steps = (dict(np.load(folder / file)) for file in files)
        session = open_session((folder / child.ROUNDINGS).read_bytes(), "the roundings")
        given = session.run(None, {port.name: values[str(i)] for i, port in enumerate(session.get_inputs())})
        step = max(float((np.abs(g - results[str(i)]) / steps[str(i)]).max()) for i, g in enumerate(given))
    agreeing = [(distance(y, want), int((y.argmax(axis=1) == want.argmax(axis=1)).sum())) for y in (own, again, got)]
    return Quantised(name, len(values), step, unrounded, agreeing[0], agreeing[1], agreeing[2], len(x))


def rows(got: NDArray[Any], want: NDArray[Any]) -> NDArray[np.float64]:
    """The distance of each image's map, relative to its largest magnitude."""
    wide = [v.reshape(len(v), -1).astype(np.float64) for v in (got, want)]
    scale = np.maximum(np.abs(wide[1]).max(axis=1), 1e-30)
    result: NDArray[np.float64] = np.abs(wide[0] - wide[1]).max(axis=1) / scale
    return result


def distance(got: NDArray[Any], want: NDArray[Any]) -> float:
    """The largest difference, relative to the largest magnitude."""
    return float(np.abs(got.astype(np.float64) - want).max() / np.abs(want).max())


HEAD = (
    "| Network | Map | Output, float32 | float16 | Methods | Maps, onnxruntime | OpenVINO | Worst | Between runtimes, float32 "
    "| float16 | From float64, by float32 | float16 | Method | MB | Child, MB | s |"
)  # fmt: skip
INT8_HEAD = (
    "| Network | Roundings | Worst, steps | Without rounding | OpenVINO's own | same class | OpenVINO | same class "
    "| ONNX Runtime | same class |"
)


def row(r: Result) -> str:
    """A network's row of the Markdown table below `HEAD`."""
    if r.reason:
        return f"| {r.network} | {r.reason} |" + " |" * 14
    outputs = [max(v for key, v in r.outputs.items() if key.startswith(kind)) for kind in ("f32", "f16")]
    exact = [
        " to ".join(f"{v:.1e}" for v in sorted(r.exact[f"{k} {b}"] for b in BACKENDS)) if r.exact else ""
        for k in r.between
    ]
    maps = [*(r.maps[b] for b in BACKENDS), r.worst, *r.between.values(), *exact, r.doubtful]
    distances = [f"{v:.1e}" if isinstance(v, float) else str(v) for v in [*outputs, r.methods, *maps]]
    cells = [*distances, *(f"{v:.0f}" for v in [*r.megabytes, r.seconds])]
    return f"| {r.network} | {r.layer} | {' | '.join(cells)} |"


def int8_row(r: Quantised) -> str:
    """A network's row of the Markdown table below `INT8_HEAD`."""
    if r.reason:
        return f"| {r.network} | {r.reason} |" + " |" * 8
    cells = [f"{v:.1e} | {n} of {r.images}" for v, n in (r.own, r.same, r.other)]
    return f"| {r.network} | {r.roundings} | {r.step:.0e} | {r.unrounded:.1e} | {' | '.join(cells)} |"


def single(name: str, function: Callable[[Path], Any]) -> None:
    """Measure one network in a folder of its own, and print the result as JSON, after a word that marks it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = dataclasses.asdict(function(Path(folder)))
        except ExportError as error:
            result = {"network": name, "reason": str(error).replace(folder, "")}
    sys.stdout.write(f"RESULT {json.dumps(result)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--int8", action="store_true", help="the network quantised by NNCF instead")
    options = parser.parse_args()
    single(options.network, functools.partial(check_int8 if options.int8 else check, options.network))


if __name__ == "__main__":
    main()

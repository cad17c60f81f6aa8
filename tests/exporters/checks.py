"""Run a bundle's parts on both runtimes, and compare with what the source itself computes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from xai_exporters.bundle.beside import noise_images

from tests.support.core import core
from tests.support.saturation import saturates
from xai_deploy.format.bundle import ACTIVATION, LOGITS, PIXEL_LOGITS, Bundle

Array = NDArray[Any]
Outputs = dict[str, Array]
Runner = Callable[[bytes, Mapping[str, Array]], Outputs]
EXACT = 1e-5  # of the largest magnitude: float32 rounding along a few layers; a wrong weight shows at 1e-3 and more


def close(got: Array, want: Array, tolerance: float = EXACT) -> None:
    """Equal to `tolerance` of the largest magnitude wanted."""
    assert got.shape == want.shape
    got, want = got.astype(np.float64), want.astype(np.float64)
    assert np.isfinite(got).all()
    scale = np.abs(want).max()
    assert scale > 1e-3, "nothing to compare: the expected values vanish"
    assert np.abs(got - want).max() <= tolerance * scale


def onnxruntime(model: bytes, feeds: Mapping[str, Array]) -> Outputs:
    """All outputs by name, computed by ONNX Runtime; where its products of codes saturate, in floats."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if saturates():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


@lru_cache(maxsize=16)
def _compiled(model: bytes) -> tuple[Any, list[str]]:
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    if saturates():
        properties["LP_TRANSFORMS_MODE"] = "NO"
    compiled = core().compile_model(core().read_model(io.BytesIO(model)), "CPU", properties)
    return compiled, [o.name for o in onnx.load_from_string(model).graph.output]


def open_vino(model: bytes, feeds: Mapping[str, Array]) -> Outputs:
    """All outputs by name, computed by OpenVINO."""
    compiled, names = _compiled(model)
    used = {i.any_name for i in compiled.inputs}
    results = compiled({name: value for name, value in feeds.items() if name in used})
    return {name: np.array(results[compiled.output(name)]) for name in names}


RUNNERS: tuple[Runner, ...] = (onnxruntime, open_vino)


def reference(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Outputs:
    """All outputs by name, computed by ONNX's reference evaluator."""
    evaluator = ReferenceEvaluator(model)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def source_reference(model: onnx.ModelProto, by_runtime: bool = False) -> Callable[[Array], Outputs]:
    """An ONNX source as a function of the images, one at a time.

    Args:
        model: The source.
        by_runtime: Ask ONNX Runtime, where the reference evaluator knows no such operator (QuantizeLinear of opset 13).
    """
    [image] = [i.name for i in model.graph.input if i.name not in {w.name for w in model.graph.initializer}]

    def outputs(x: Array) -> Outputs:
        run: Any = onnxruntime if by_runtime else reference
        what = model.SerializeToString() if by_runtime else model
        runs = [run(what, {image: x[i : i + 1]}) for i in range(len(x))]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    return outputs


@dataclass(frozen=True)
class Parts:
    """What head and tail give: the head's tensors, the logits, and the network's outputs under their own names."""

    between: Outputs
    logits: Array
    outputs: Outputs

    @property
    def activation(self) -> Array:
        return self.between[ACTIVATION]


def recompose(bundle: Bundle, x: Array, run: Runner = onnxruntime) -> Parts:
    """Head, then tail."""
    spec = bundle.manifest.input
    between = run(bundle.graph("head"), {spec.name: x})
    assert list(between) == [ACTIVATION, *(side.name for side in bundle.manifest.side)]
    after = run(bundle.graph("tail"), between)
    assert set(after) == {LOGITS, *(o.tensor for o in bundle.manifest.outputs)}
    return Parts(between, after[LOGITS], {o.name: after[o.tensor] for o in bundle.manifest.outputs})


def check_bundle(
    path: Path,
    source: Callable[[Array], Mapping[str, Array]],
    activation: Callable[[Array], Array] | None = None,
    tolerance: float = EXACT,
) -> Bundle:
    """The bundle reproduces the source's outputs, and the activation, at batch 1 and 3 on both runtimes.

    Args:
        path: The bundle.
        source: Images to the source's own outputs by name.
        activation: Images to the target layer's output, channels first.
        tolerance: See `close`.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    images = noise_images(manifest.input, 4)
    for x in (images[:1], images[1:]):
        want = source(x)
        for run in RUNNERS:
            got = recompose(bundle, x, run)
            assert got.activation.shape == (len(x), *manifest.target.shape)
            assert got.logits.shape == (len(x), manifest.classes)
            assert got.outputs.keys() == want.keys()
            for output in manifest.outputs:
                close(got.outputs[output.name], want[output.name], tolerance)
                assert got.outputs[output.name].shape[1:] == output.shape
            for side in manifest.side:
                assert (got.between[side.name].shape[1:], got.between[side.name].dtype.name) == (side.shape, side.dtype)
            if activation is not None:
                close(got.activation, activation(x), tolerance)
    return bundle


def check_pixelwise(bundle: Bundle, weight: Array | None) -> None:
    """pixel_logits is A.W in float64, and its mean over positions with the bias is the logits; W [K,classes] or None."""
    x = noise_images(bundle.manifest.input, 3)
    for run in RUNNERS:
        parts = recompose(bundle, x, run)
        [(name, scores)] = run(bundle.graph("pixelwise-tail"), {ACTIVATION: parts.activation}).items()
        assert name == PIXEL_LOGITS
        n, k, h, w = parts.activation.shape
        positions = parts.activation.astype(np.float64).reshape(n, k, h * w).transpose(0, 2, 1)
        close(scores, positions if weight is None else positions @ weight.astype(np.float64))
        residue = parts.logits - scores.mean(axis=1)
        close(scores.mean(axis=1) + residue[:1], parts.logits)  # the bias: one for all images


def hooked(module: torch.nn.Module, path: str, call: int = 0) -> Callable[[Array], Array]:
    """Images -> what the submodule gives at its `call`, as torch computes it."""

    def activation(x: Array) -> Array:
        seen: list[torch.Tensor] = []
        hook = module.get_submodule(path).register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
        with torch.no_grad():
            module(torch.from_numpy(x))
        hook.remove()
        return np.asarray(seen[call].numpy())

    return activation


def forward(module: torch.nn.Module, name: str = "output") -> Callable[[Array], Outputs]:
    """Images -> the module's outputs, by the names that exports give them; `name` where there is one."""

    def outputs(x: Array) -> Outputs:
        with torch.no_grad():
            got = module(torch.from_numpy(x))
        named = got if isinstance(got, dict) else {name: got}
        return {name: value.numpy() for name, value in named.items()}

    return outputs

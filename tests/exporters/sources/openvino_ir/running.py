"""Small OpenVINO models, their translation, and both runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from xai_exporters.sources.openvino_ir.translate import translate

from xai_deploy.foundation import runtimes
from xai_deploy.foundation.exact_onnxruntime import open_exactly

ov = runtimes.openvino()
import openvino.opset1 as o1  # noqa: E402
import openvino.opset2 as o2  # noqa: E402
import openvino.opset13 as o  # noqa: E402
import openvino.opset14 as o14  # noqa: E402

__all__ = [
    "Build",
    "agree",
    "c",
    "f32",
    "floats",
    "grouped",
    "ints",
    "o",
    "o1",
    "o2",
    "o14",
    "of_version",
    "ov",
    "positive",
    "saved",
    "saved_together",
]

Build = Callable[[Any], Any]
SHAPE = (3, 5, 7)
_rng = np.random.default_rng(0)
_START = _rng.bit_generator.state
_EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def c(values: Any) -> Any:
    """A constant of the array's own type."""
    return o.constant(np.asarray(values))


def f32(*values: float) -> Any:
    """A vector of float32; a scalar for one value."""
    return o.constant(np.array(values if len(values) > 1 else values[0], np.float32))


def ints(*values: int) -> Any:
    """A vector of int64."""
    return o.constant(np.array(values, np.int64))


def floats(*shape: int) -> Any:
    """Normal float32."""
    return o.constant(_rng.normal(size=shape).astype(np.float32))


def positive(*shape: int) -> Any:
    """Float32 from 0.5 to 1.5."""
    return o.constant((_rng.random(shape) + 0.5).astype(np.float32))


def of_version(opset: str, kind: str, inputs: Sequence[Any], **attributes: Any) -> Any:
    """An operator of an old opset, for which Python has no function."""
    from openvino.utils.node_factory import NodeFactory

    return NodeFactory(opset).create(kind, [node.output(0) for node in inputs], attributes)


def saved(folder: Path, build: Build, batch: int, half: bool = False, kind: Any = np.float32) -> Path:
    """A model of one operator as IR; a batch of -1 is open."""
    return saved_together(folder, {"net": build}, batch, half, kind)


def saved_together(
    folder: Path, builds: Mapping[str, Build], batch: int, half: bool = False, kind: Any = np.float32
) -> Path:
    """A model of an operator for each output as IR, as `saved`: one model is prepared ten times as fast as ten are."""
    x = o.parameter([batch, *SHAPE], kind, name="x")
    _rng.bit_generator.state = (
        _START  # the same numbers whatever ran before: one can lie where rounding decides between two steps
    )
    made = [build(x) for build in builds.values()]
    model = ov.Model([one.output(0) if hasattr(one, "output") else one for one in made], [x], "net")
    ov.save_model(model, folder / "net.xml", compress_to_fp16=half)
    return folder / "net.xml"


def grouped(cases: Mapping[str, Build]) -> dict[str, dict[str, Build]]:
    """A dozen cases at a time, under the name of the first."""
    names = [*cases]
    return {names[i]: {name: cases[name] for name in names[i : i + 12]} for i in range(0, len(names), 12)}


def agree(path: Path, x: NDArray[Any], tolerance: float = 1e-4, names: Sequence[str] = ("net",)) -> onnx.ModelProto:
    """Compare the translation on both runtimes with OpenVINO's own run of the IR, each output relative to its largest magnitude.

    Args:
        path: The IR.
        x: Its input.
        tolerance: The largest relative difference.
        names: What each output is, for the message.
    """
    core = ov.Core()
    wanted = [*core.compile_model(core.read_model(path), "CPU", _EXACT)([x]).values()]
    model = ir.to_proto(translate(core.read_model(path), 1 << 30))
    onnx.checker.check_model(model)
    session = open_exactly(model.SerializeToString(), runtimes.onnxruntime().SessionOptions(), ["CPUExecutionProvider"])
    [name] = [i.name for i in session.get_inputs()]
    openvino = core.compile_model(core.read_model(model.SerializeToString()), "CPU", _EXACT)
    for results in (session.run(None, {name: x}), [*openvino([x]).values()]):
        for of, got, want in zip(names, results, wanted, strict=True):
            assert got.shape == want.shape, of
            assert got.dtype == want.dtype, of
            scale = max(float(np.abs(want.astype(np.float64)).max()), 1e-9)
            assert np.abs(got.astype(np.float64) - want).max() <= tolerance * scale, of
    return model

"""The discrete Fourier transform as a matrix product: against torch's, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.decompose import decompose

from ..vjp.harness import RUNTIMES, Array, check_graph, graph_model


def transformed(x: torch.Tensor, name: str, dim: int, length: int | None = None) -> torch.Tensor:
    values = torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]
    y: torch.Tensor = getattr(torch.fft, name)(values, length, dim=dim)
    return torch.view_as_real(y) if y.is_complex() else y[..., None]


def network(parts: int, opset: int, axis: int | None, length: int | None, **attributes: Any) -> onnx.ModelProto:
    """x [N,5,6,parts] -> y."""
    constants: dict[str, Array] = {} if length is None else {"length": np.array(length)}
    names = ["x", "length" if constants else ""]
    if axis is not None and opset >= 20:
        names, constants = [*names, "axis"], constants | {"axis": np.array(axis)}
    elif axis is not None:
        attributes["axis"] = axis
    node = helper.make_node("DFT", names, ["y"], name="transform", **attributes)
    rewritten = ir.from_proto(graph_model([node], {"x": ["N", 5, 6, parts]}, constants, opset=opset))
    assert decompose(rewritten)
    return ir.to_proto(rewritten)


CASES: list[tuple[tuple[Any, ...], dict[str, Any], tuple[Any, ...]]] = [
    ((1, 20, 1, None), {}, ("fft", 1)),
    ((1, 20, -2, None), {"onesided": 1}, ("rfft", 2)),
    ((2, 20, 1, None), {"inverse": 1}, ("ifft", 1)),
    ((2, 20, None, 4), {}, ("fft", 2, 4)),
    ((1, 18, 1, 7), {}, ("fft", 1, 7)),
    ((2, 18, None, None), {}, ("fft", 1)),
    ((2, 20, 1, None), {"inverse": 1, "onesided": 1}, ("irfft", 1)),
    ((2, 20, 1, 9), {"inverse": 1, "onesided": 1}, ("irfft", 1, 9)),
]


@pytest.mark.parametrize(("form", "attributes", "own"), CASES, ids=str)
def test_it_is_torchs(form: tuple[Any, ...], attributes: dict[str, Any], own: tuple[Any, ...]) -> None:
    model = network(*form, **attributes)
    x = np.random.default_rng(0).standard_normal((3, 5, 6, form[0])).astype(np.float32)
    want = transformed(torch.from_numpy(x), *own).numpy()
    for name, function in RUNTIMES.items():
        np.testing.assert_allclose(function(model, "y")({"x": x}), want, rtol=0, atol=1e-5, err_msg=name)


def test_its_gradient() -> None:
    check_graph(network(2, 20, 1, 9, inverse=1, onesided=1))


def test_a_computed_length_is_refused() -> None:
    nodes = [helper.make_node("Size", ["x"], ["n"]), helper.make_node("DFT", ["x", "n"], ["y"], name="transform")]
    with pytest.raises(GraphError, match=r"node 'transform' is DFT, which .* its length or its axis is computed"):
        decompose(ir.from_proto(graph_model(nodes, {"x": [1, 5, 6, 1]}, opset=20)))


def frames(parts: int, window: bool, length: int | None, **attributes: Any) -> onnx.ModelProto:
    """A signal [N,30,parts] in frames of 8, a step of 5 apart."""
    constants: dict[str, Array] = {"step": np.array(5)}
    constants |= {"window": np.hanning(8).astype(np.float32)} if window else {}
    constants |= {"length": np.array(length)} if length else {}
    names = ["x", "step", "window" if window else "", "length" if length else ""]
    node = helper.make_node("STFT", names, ["y"], name="transform", **attributes)
    return graph_model([node], {"x": ["N", 30, parts]}, constants)


@pytest.mark.parametrize(("form", "onesided"), [((1, True, None), 1), ((1, True, 8), 0), ((2, False, 8), 0)], ids=str)
def test_frames(form: tuple[int, bool, int | None], onesided: int) -> None:
    model = frames(*form, onesided=onesided)
    rewritten = ir.from_proto(model)
    assert decompose(rewritten)
    x = np.random.default_rng(0).standard_normal((3, 30, form[0])).astype(np.float32)
    want = RUNTIMES["onnxruntime"](model, "y")({"x": x})
    for name, function in RUNTIMES.items():
        np.testing.assert_allclose(
            function(ir.to_proto(rewritten), "y")({"x": x}), want, rtol=0, atol=1e-5, err_msg=name
        )


def test_frames_of_a_computed_step_are_refused() -> None:
    model = frames(1, True, None)
    model.graph.initializer.remove(model.graph.initializer[0])
    model.graph.node.insert(0, helper.make_node("Size", ["x"], ["step"]))
    with pytest.raises(
        GraphError,
        match=r"node 'transform' is STFT, which .* its frame_step, its window or its frame_length is computed",
    ):
        decompose(ir.from_proto(model))
    with pytest.raises(GraphError, match="it has neither a window nor a frame_length"):
        decompose(ir.from_proto(frames(1, False, None)))

"""The single-operator models that the onnx package ships for its backends' tests: cases nobody here wrote."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
import pytest
from onnx import TensorProto, numpy_helper
from xai_exporters.errors import ExportError
from xai_exporters.passes.opset import to_common_opset
from xai_exporters.vjp.table import vjp

from .harness import STEP, evaluate, gradient_model, to_float64

# Inputs at kinks (integers at ties, values at bounds), where a difference says nothing; shifted a little they pass or are left out
NUDGE = 0.0123

VERDICTS: dict[str, dict[str, str]] = {}
# MeanVarianceNormalization: the checker refuses its function. ReduceLogSumExp: its models are in double, which is not float32.
NOT_CHECKED = {"MeanVarianceNormalization", "ReduceLogSumExp"}
SKIPPED = {
    f"test_resize_downsample_scales_{mode}_align_corners": "onnxruntime rounds the size before it divides by it"
    for mode in ("linear", "cubic")
}


def _models() -> list[Any]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases overflows here and there
        cases = onnx.backend.test.loader.load_model_tests(kind="node")
    for case in cases:
        model = case.model or onnx.load(f"{case.model_dir}/model.onnx")
        nodes = model.graph.node
        if len(nodes) != 1 or nodes[0].domain or nodes[0].op_type not in set(vjp):
            continue
        first = model.graph.input[0].type.tensor_type
        result = model.graph.output[0].type.tensor_type.elem_type
        if first.elem_type == result == TensorProto.FLOAT and nodes[0].input[0] == model.graph.input[0].name:
            found.append((case, model))
    return found


def _feeds(case: Any) -> dict[str, Any]:
    model = case.model or onnx.load(f"{case.model_dir}/model.onnx")
    names = [i.name for i in model.graph.input]
    if case.data_sets:
        return dict(zip(names, case.data_sets[0][0], strict=False))
    feeds = {}
    for i, name in enumerate(names):
        tensor = onnx.TensorProto()
        with open(f"{case.model_dir}/test_data_set_0/input_{i}.pb", "rb") as file:
            tensor.ParseFromString(file.read())
        feeds[name] = numpy_helper.to_array(tensor)
    return feeds


def _one(case: Any, model: onnx.ModelProto) -> str:
    """ "checked", or why the model says nothing."""
    feeds = _feeds(case)
    if any(np.asarray(value).size == 0 for value in feeds.values()):
        return "empty"
    if case.name in SKIPPED:
        return SKIPPED[case.name]
    first, *others = model.graph.input
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.input[1:]
    for value in others:  # all inputs but the first are the network's own constants
        if value.name in feeds:
            fixed.graph.initializer.append(numpy_helper.from_array(np.asarray(feeds[value.name]), value.name))
    fixed.graph.node[0].name = "node"
    fixed.ir_version = 10
    del fixed.graph.output[1:]
    try:
        converted = to_common_opset(fixed)
        gradient = gradient_model(converted, first.name)
    except ExportError as error:  # a refusal in words, or the runtime does not run the operator
        return f"refused: {str(error)[:60]}"
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return "the checker refuses the operator, or infers another shape than the runtime gives"
    exact, exact_gradient = to_float64(converted), to_float64(gradient)
    rng = np.random.default_rng(0)
    x = np.asarray(feeds[first.name], np.float64)
    x = x + NUDGE * rng.uniform(0.5, 1.5, x.shape)
    output = converted.graph.output[0].name
    y = evaluate(exact, {first.name: x}, output)
    if y.dtype != np.float64:
        return "no float64 in the evaluator"
    dy = rng.standard_normal(y.shape)
    direction = rng.standard_normal(x.shape)
    dx = evaluate(exact_gradient, {first.name: x, "dy": dy}, "dx")
    ends = [float((dy * evaluate(exact, {first.name: x + h * direction}, output)).sum()) for h in (STEP, -STEP)]
    numeric, analytic = (ends[0] - ends[1]) / (2 * STEP), float((dx * direction).sum())
    scale = max(abs(numeric), float(np.abs(dx).max()) * x.size**0.5 * 1e-2, 1e-3)
    assert abs(numeric - analytic) <= 1e-5 * scale, f"{case.name}: analytic {analytic}, numeric {numeric}"
    return "checked"


MODELS = _models()


def test_there_are_models() -> None:
    assert len(MODELS) > 250


@pytest.mark.parametrize("operator", sorted({model.graph.node[0].op_type for _, model in MODELS}))
def test_operator(operator: str) -> None:
    verdicts = VERDICTS.setdefault(operator, {})
    for case, model in MODELS:
        if model.graph.node[0].op_type == operator:
            verdicts[case.name] = _one(case, model)
    assert "checked" in verdicts.values() or operator in NOT_CHECKED, verdicts


def test_most_were_checked() -> None:
    if len(VERDICTS) < len({model.graph.node[0].op_type for _, model in MODELS}):
        pytest.skip("only some of the operators were asked for")
    verdicts = [verdict for found in VERDICTS.values() for verdict in found.values()]
    assert sum(verdict == "checked" for verdict in verdicts) > 0.85 * len(verdicts)

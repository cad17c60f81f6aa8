"""The single-operator models that the onnx package ships for its backends' tests: cases nobody here wrote.

Each is differentiated with respect to its first float input; the others become constants. The shipped outputs also check the
evaluator that the central differences run on, and its substitutes.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node
import onnx.backend.test.loader
import pytest
from onnx import TensorProto, numpy_helper
from xai_exporters.errors import ExportError, RuleError
from xai_exporters.passes.opset import to_common_opset
from xai_exporters.vjp.table import vjp

from .harness import STEP, evaluate, gradient_model, to_float64

NUDGE = 0.0123  # integers, which are at ties and bounds, are moved off them
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)

CHECKED = "checked"
# why a model says nothing -> the most models that may be so
REASONS = {
    "an input is empty": 56,
    "no rule covers it": 22,  # training, an aspect kept, a maximum of RoiAlign, Unique: test_refusals; indices of a OneHot
    "onnxruntime or the converter can't read it": 20,
    "the checker infers another shape than the runtime, or none": 3,
    "a runtime and the standard disagree": 3,
}
# onnxruntime rounds the size before it divides by it; the rule follows the runtime
DISAGREE = {f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")} | {
    # the evaluator counts the padding that ceil mode adds
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True"
}
# Unique: it is refused
# MeanVarianceNormalization: the checker can't infer its body; DequantizeLinear: its only float is the scale; CastLike: the second
# input is empty; OneHot: the first floats are the indices; the others: no case has floats on both sides
NEVER = {
    "Unique",
    "MeanVarianceNormalization",
    "DequantizeLinear",
    "CastLike",
    "DynamicQuantizeLinear",
    "OneHot",
    "QuantizeLinear",
    "Trilu",
}
INSIDE = {"Asin", "Acos", "Atanh"}  # defined between -1 and 1, where the shipped values lie close to 1
VERDICTS: dict[str, dict[str, str]] = {}


@cache
def _cases() -> list[Any]:
    """Computing all of them takes seconds, so that not every worker does it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases overflows here and there
        cases = onnx.backend.test.loader.load_model_tests(kind="node")
    rules = set(vjp)
    found = []
    for case in cases:
        model = case.model
        if model is None or len(model.graph.node) != 1:
            continue
        [node] = model.graph.node
        kinds = [v.type.tensor_type.elem_type for v in model.graph.input]
        result = model.graph.output[0].type.tensor_type.elem_type
        if not node.domain and node.op_type in rules and set(kinds) & set(FLOATS) and result in FLOATS:
            found.append(case)
    return found


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _verdict(case: Any) -> str:
    inputs, outputs = ([_array(v) for v in side] for side in case.data_sets[0][:2])
    values = dict(zip([v.name for v in case.model.graph.input], inputs, strict=False))
    if case.name in DISAGREE:
        return "a runtime and the standard disagree"
    if any(value.size == 0 for value in values.values()):
        return "an input is empty"
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = 10
    model.graph.node[0].name = "node"
    first = next(v for v in model.graph.input if v.type.tensor_type.elem_type in FLOATS)
    for value in [v for v in model.graph.input if v.name != first.name]:
        model.graph.input.remove(value)
        model.graph.initializer.append(numpy_helper.from_array(values[value.name], value.name))
    del model.graph.output[1:]
    try:
        model = to_common_opset(model)
        gradient = gradient_model(model, first.name)
    except RuleError:
        return "no rule covers it"
    except ExportError:
        return "onnxruntime or the converter can't read it"
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return "the checker infers another shape than the runtime, or none"
    exact, exact_gradient, y = to_float64(model), to_float64(gradient), model.graph.output[0].name
    given, shipped = values[first.name].astype(np.float64), outputs[0].astype(np.float64)
    np.testing.assert_allclose(evaluate(exact, {first.name: given}, y), shipped, 1e-3, 1e-5, err_msg=case.name)
    rng = np.random.default_rng(0)
    x = np.where(np.isfinite(given), given, 0.5) + NUDGE * rng.uniform(0.5, 1.5, given.shape)
    x = 0.9 * x if model.graph.node[0].op_type in INSIDE else x
    dy = rng.standard_normal(shipped.shape)
    direction = rng.standard_normal(x.shape)
    dx = evaluate(exact_gradient, {first.name: x, "dy": dy}, "dx")
    assert dx.shape == x.shape, case.name
    ends = [float((dy * evaluate(exact, {first.name: x + h * direction}, y)).sum()) for h in (STEP, -STEP)]
    numeric, analytic = (ends[0] - ends[1]) / (2 * STEP), float((dx * direction).sum())
    scale = max(abs(numeric), 1e-2 * float(np.abs(dx * direction).sum()))
    # scales of a Resize that are no binary fractions: float32 coordinates in the runtime, float64 ones in the evaluator
    tolerance = 1e-4 if model.graph.node[0].op_type == "Resize" else 1e-6
    noise = 1e-10 * max(float(np.abs(dy * np.nan_to_num(shipped, posinf=0, neginf=0)).sum()), 1)
    assert abs(numeric - analytic) <= tolerance * scale + noise, f"{case.name}: analytic {analytic}, numeric {numeric}"
    return CHECKED


_FILES = {file.name.replace("_", "") for file in pkgutil.iter_modules(onnx.backend.test.case.node.__path__)}
OPERATORS = [op for op in sorted(set(vjp)) if {op.lower(), f"{op.lower()}op"} & _FILES]  # range.py is called rangeop.py


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator(operator: str) -> None:
    found = VERDICTS.setdefault(operator, {})
    for case in _cases():
        if case.model.graph.node[0].op_type == operator:
            found[case.name] = _verdict(case)
    assert CHECKED in found.values() or operator in NEVER, found


def test_most_were_checked() -> None:
    if len(VERDICTS) < len(OPERATORS):
        pytest.skip("only some of the operators were asked for")
    assert {case.model.graph.node[0].op_type for case in _cases()} <= set(OPERATORS)
    counts = Counter(verdict for found in VERDICTS.values() for verdict in found.values())
    assert counts.pop(CHECKED) > 380
    assert not {k: n for k, n in counts.items() if n > REASONS[k]}

"""The table: every operator has cases; a second rule is a mistake; the harness itself would notice a wrong graph."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from xai_exporters.backward.rules import RuleTable
from xai_exporters.passes.fused_node import rules as fused
from xai_exporters.vjp.table import vjp

from .harness import RUNTIMES, Case, Free, Gradient, forward_model, gradient_model, ints, reference, to_float64

# steps, which no central difference measures, and what is refused: test_quantization, ../passes/test_dynamically_quantised,
# test_refusals
LACKING = {"onnxruntime": set[str](), "openvino": {"CumProd", "Det"}}  # runtime -> operators that it does not have
APART = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Unique"}


def cases() -> list[Case]:
    """Those of every test module beside this one."""
    found: list[Case] = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("test_") and module.name not in ("test_table", "test_backend_nodes"):
            found += getattr(importlib.import_module(f"{__package__}.{module.name}"), "CASES", [])
    return found


def test_every_operator_has_a_case() -> None:
    tested = Counter(case.op for case in cases())
    assert set(vjp) - set(tested) == APART
    assert set(tested) <= set(vjp)
    assert sum(tested.values()) > 350


def test_every_operator_runs_on_both_runtimes() -> None:
    """At least one case of each."""
    for name in RUNTIMES:
        assert {case.op for case in cases() if name not in case.skip} == {case.op for case in cases()} - LACKING[name]


NOT_HERE = {
    "written in other operators before": "BitCast Constant Loop If Scan SequenceMap Scatter Upsample LSTM GRU RNN "
    "ConvInteger MatMulInteger QLinearConv QLinearMatMul DynamicQuantizeLinear",
    "of no image or none of its values": "BlackmanWindow HammingWindow HannWindow MelWeightMatrix RandomNormal RandomUniform "
    "ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "sequences and options, which no bundle may hold": "ConcatFromSequence Optional OptionalGetElement OptionalHasElement "
    "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence",
    "of training": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "chance: `passes/supported`": "Bernoulli Multinomial RandomNormalLike RandomUniformLike",
}
"""Why an operator of ONNX's has no rule -> those operators."""


def test_every_operator_of_onnx_has_a_rule_or_a_reason() -> None:
    """So that a new version of onnx is noticed."""
    known = {op for text in NOT_HERE.values() for op in text.split()}
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    ruled = {op for op in standard if op in set(vjp) or fused.get(op) or vjp.stops(ir.node(op, []).outputs[0], ())}
    assert standard - ruled - known == set()
    assert known <= standard


@pytest.mark.parametrize("case", [c for c in cases() if c.skip], ids=str)
def test_a_runtime_is_left_out_where_it_fails_the_network_itself(case: Case) -> None:
    """So that a newer runtime is noticed."""
    model, rng = forward_model(case), np.random.default_rng(0)
    y, feeds = f"y{case.output}", case.sample(2, rng)
    wanted = reference(to_float64(model), y)(feeds)
    for name in case.skip:
        try:
            got = RUNTIMES[name](model, y)({k: v.astype(np.float32) for k, v in feeds.items()})
        except Exception:  # of the runtime's own kind
            continue
        assert got.shape != wanted.shape or not np.allclose(got, wanted, atol=1e-4), case.skip[name]


def test_a_second_rule_for_an_operator_is_a_mistake() -> None:
    table = RuleTable("xai_exporters.vjp.table")
    table("Foo")(lambda *_: None)
    table.flat("Bar")
    for name in ("Foo", "Bar"):
        with pytest.raises(ValueError, match=f"xai_exporters.vjp.table: '{name}' is registered twice"):
            table(name)(lambda *_: None)
        with pytest.raises(ValueError, match=f"'{name}' is registered twice"):
            table.flat(name)


def test_the_checker_is_run() -> None:
    model = gradient_model(forward_model(Case("Relu", (Free(("N", 2)),))), "x0")
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model, full_check=True)


def test_a_coefficient_that_is_off_by_a_millionth_is_noticed() -> None:
    case = Case("ReduceMean", (Free(("N", 3, 4)), ints(1)))
    gradient = Gradient(forward_model(case), "x0", str(case))
    wrong = to_float64(gradient.model)
    for tensor in wrong.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float64:
            tensor.CopyFrom(numpy_helper.from_array(value * (1 + 5e-6), tensor.name))
    gradient.same = reference(wrong, "dx")
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match=r"ReduceMean .*: analytic .*, numeric .*"):
        gradient.against_central_differences(case.sample(2, rng), rng.standard_normal((2, 1, 4)), rng)

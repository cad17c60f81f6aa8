"""Sizes and values told before a graph runs, against what the operators' own examples in the package `onnx` give."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from xai_deploy.format.guard.messages import parse
from xai_deploy.format.guard.operators import FIRST_OPSET, OPERATORS, arity
from xai_deploy.format.guard.shapes import Harmful, Known, Run, Unknowable

Arrays = list[NDArray[Any]]


@functools.cache
def examples() -> dict[str, tuple[onnx.ModelProto, Arrays, Arrays]]:
    """Name -> a model of allowed operators, its inputs and its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases: Any = collect_testcases(None)
    found = {}
    for case in cases:
        nodes, [opset] = case.model.graph.node, case.model.opset_import[:1]
        known = opset.version >= FIRST_OPSET and all(arity(node.op_type, opset.version) for node in nodes)
        if not known or case.model.functions or not case.data_sets or len(case.model.opset_import) != 1:
            continue
        ports = (*case.model.graph.input, *case.model.graph.output)
        if not all(port.type.HasField("tensor_type") for port in ports):
            continue
        inputs, outputs = ([np.asarray(one) for one in side] for side in case.data_sets[0])
        if all(array.dtype != object for array in (*inputs, *outputs)):
            found[case.name] = case.model, inputs, outputs
    return found


def told(model: onnx.ModelProto, inputs: Arrays, values: bool) -> dict[str, Known]:
    """What is known of every result; `values`: of the inputs' values, too."""
    data = model.SerializeToString()
    known = {
        port.name: Known(array.shape, array.dtype.itemsize, array if values and array.size <= 1024 else None)
        for port, array in zip(model.graph.input, inputs, strict=True)
    }
    found: dict[str, Known] = {}
    for node, results in Run(parse(data), data).results(known):
        found.update(zip(node.outputs, results, strict=True))
    return found


def test_examples_cover_the_operators() -> None:
    seen = {node.op_type for model, _, _ in examples().values() for node in model.graph.node}
    assert len(examples()) > 800
    assert sorted(set(OPERATORS) - seen) == ["GlobalLpPool", "MaxRoiPool"]


@pytest.mark.parametrize("values", [True, False])
def test_sizes(values: bool) -> None:
    """Never less than what comes out; the same where the rule says so. Without the inputs' values much can't be told."""
    wrong, refused = [], 0
    for name, (model, inputs, outputs) in examples().items():
        try:
            found = told(model, inputs, values)
        except (Unknowable, Harmful) as error:
            refused += 1
            if values:
                wrong.append(f"{name}: {error}")
            continue
        for port, array in zip(model.graph.output, outputs, strict=True):
            one = found[port.name]
            fits = one.shape == array.shape if one.exact else one.count >= array.size
            if not fits or one.size < array.dtype.itemsize:
                wrong.append(f"{name}: {port.name} {one.shape} x {one.size} for {array.shape} {array.dtype}")
            if one.values is not None and not np.array_equal(one.values, array, equal_nan=array.dtype.kind == "f"):
                wrong.append(f"{name}: {port.name} holds {one.values.reshape(-1)[:5]} for {array.reshape(-1)[:5]}")
    assert wrong == []
    assert refused < 300

"""Every operator's examples from the package `onnx`, computed beside a head: nodes over constants, which a runtime folds as it
loads the graph. An input is the head's bytes."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from xai_deploy.format.guard.operators import arity

from .explaining import explain
from .material import bundle, changed_bundle, folder
from .onnx_fields import mutate_file

_OPSET = 21  # read by both runtimes
_LARGEST = 1 << 16  # bytes of an example


@functools.cache
def seeds() -> list[bytes]:
    """The examples; made once per campaign, because that takes a while."""
    place = folder() / "operators"
    if not place.exists():
        unfinished = folder() / "operators.part"
        unfinished.mkdir()
        for i, model in enumerate(_heads()):
            (unfinished / f"{i:05}").write_bytes(model.SerializeToString())
        unfinished.rename(place)
    return [file.read_bytes() for file in sorted(place.iterdir())]


def _heads() -> list[onnx.ModelProto]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases: Any = collect_testcases(None)
    head = onnx.load(bundle() / "head.onnx")
    made: list[onnx.ModelProto] = []
    for case in cases:
        known = all(node.domain == "" and arity(node.op_type, _OPSET) for node in case.model.graph.node)
        ports = (*case.model.graph.input, *case.model.graph.output)
        if known and case.data_sets and not case.model.functions and all(p.type.HasField("tensor_type") for p in ports):
            inputs = [np.asarray(one) for one in case.data_sets[0][0]]
            if any(array.dtype.kind not in "biuf" for array in inputs):
                continue
            joined = _joined(head, case.model, inputs)
            if joined.ByteSize() < head.ByteSize() + _LARGEST:
                made.append(joined)
    return made


def _joined(head: onnx.ModelProto, example: onnx.ModelProto, inputs: Sequence[Any]) -> onnx.ModelProto:
    """A head that adds the sum of the example's outputs, times zero, to its activation."""
    model = onnx.ModelProto()
    model.CopyFrom(head)
    model.opset_import[0].version = _OPSET
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "activation" else name for name in node.output]
    for port, array in zip(example.graph.input, inputs, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(array, f"example/{port.name}"))
    for node in example.graph.node:
        copied = model.graph.node.add()
        copied.CopyFrom(node)
        copied.input[:] = [name and f"example/{name}" for name in node.input]
        copied.output[:] = [name and f"example/{name}" for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
    last = "plain"
    for i, port in enumerate(example.graph.output):
        nodes = (
            ("Cast", [f"example/{port.name}"], f"f{i}"),
            ("ReduceSum", [f"f{i}"], f"s{i}"),
            ("Mul", [f"s{i}", "zero"], f"z{i}"),
        )
        for op, given, result in nodes:
            kind = {"to": TensorProto.FLOAT} if op == "Cast" else {"keepdims": 0} if op == "ReduceSum" else {}
            model.graph.node.append(helper.make_node(op, given, [result], **kind))
        following = "activation" if i == len(example.graph.output) - 1 else f"a{i}"
        model.graph.node.append(helper.make_node("Add", [last, f"z{i}"], [following]))
        last = following
    return model


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly fields of the graph, sometimes its bytes."""
    return mutate_file(data, others, rng, 0.9)


def one(data: bytes, backend: str) -> None:
    """Open and run.

    Raises:
        XaiError: It is refused.
    """
    explain(changed_bundle({"head.onnx": data}), backend, ["head"])

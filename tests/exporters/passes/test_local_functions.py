"""Functions of a file's own, with attributes that a call leaves out; ONNX Runtime's run of the file is the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import AttributeProto, helper
from xai_exporters.passes.clean import clean
from xai_exporters.passes.local_functions import inline_functions

from .. import onnx_nets as o
from ..checks import close, onnxruntime

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 16, 20)).astype(np.float32)
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]


def refers(node: onnx.NodeProto, name: str, to: str) -> onnx.NodeProto:
    """The node with an attribute that the function's caller gives."""
    node.attribute.append(AttributeProto(name=name, ref_attr_name=to, type=AttributeProto.FLOAT))
    return node


def network(given: dict[str, Any]) -> onnx.ModelProto:
    """Leak calls LeakyRelu with `slope`, by default 0.3; Twice calls Leak, with its default and with 0.7."""
    b = o.Build(18)
    y = b("Twice", b("Leak", "image", domain="own", **given), domain="own")
    model = b.model(b.linear(b.pooled(b.conv(y, 3, 6)), out="scores"), imports=OPSETS[1:])
    leak = helper.make_function(
        "own", "Leak", ["x"], ["y"], [refers(helper.make_node("LeakyRelu", ["x"], ["y"]), "alpha", "slope")], OPSETS, [],
        [helper.make_attribute("slope", 0.3)],
    )  # fmt: skip
    calls = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Leak", ["n"], ["a"], domain="own"),
        helper.make_node("Leak", ["n"], ["b"], domain="own", slope=0.7),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    model.functions.extend([leak, helper.make_function("own", "Twice", ["x"], ["y"], calls, OPSETS)])
    return model


@pytest.mark.parametrize("given", [{}, {"slope": 0.1}], ids=["default", "given"])
def test_defaults(given: dict[str, float]) -> None:
    source = network(given)
    before = source.SerializeToString()
    want = onnxruntime(before, {"image": IMAGES})["scores"]
    close(onnxruntime(inline_functions(source).SerializeToString(), {"image": IMAGES})["scores"], want)
    assert source.SerializeToString() == before
    again = ir.to_proto(ir.Model(clean(source, None).graph, ir_version=10))
    close(onnxruntime(again.SerializeToString(), {"image": IMAGES})["scores"], want)

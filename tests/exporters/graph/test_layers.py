"""Names of layers: module paths out of two exporters' records, tensors, nodes."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from xai_exporters.cut.layer import find_layer
from xai_exporters.errors import LayerError
from xai_exporters.graph.module_paths import module_outputs, module_paths, no_such_layer

from .. import onnx_nets as o

SCOPES = "pkg.torch.onnx.name_scopes"


def node(name: str, scopes: str | None = None) -> ir.Node:
    made = ir.node("Relu", [ir.Value(name="x")], name=name)
    if scopes is not None:
        made.metadata_props[SCOPES] = scopes
    return made


@pytest.mark.parametrize(
    ("made", "paths"),
    [
        (node("n", "['', 'layer3', 'layer3.0', 'conv2d_7']"), ["layer3", "layer3.0"]),
        (node("/a/b/Relu", "['', 'relu']"), []),
        (node("n", "not a list ["), []),
        (node("/layer3/layer3.0/conv1/Conv"), ["layer3", "layer3.0", "layer3.0.conv1"]),
        (node("/features/features.12/Conv"), ["features", "features.12"]),
        (node("/net/head/head.0/head.0.1/Conv"), ["net", "net.head", "net.head.0", "net.head.0.1"]),
        (
            node("/net/head/head.1/body/body.2/Relu"),
            ["net", "net.head", "net.head.1", "net.head.1.body", "net.head.1.body.2"],
        ),
        (node("/Relu"), []),
        (node("Relu_3"), []),
    ],
)
def test_module_paths(made: ir.Node, paths: list[str]) -> None:
    assert module_paths(made) == paths


def test_module_outputs_and_ambiguous_modules() -> None:
    b = o.Build()
    one = b("Relu", "image", name="/block/one/Relu")
    two = b("Relu", "image", name="/block/two/Relu")
    model = ir.from_proto(b.model(b("Add", one, two, name="/Add", out="sum")))
    found = {path: [v.name for v in values] for path, values in module_outputs(model.graph).items()}
    assert found == {"block": [one, two], "block.one": [one], "block.two": [two]}
    assert find_layer(model.graph, "block.two")[0].name == two
    with pytest.raises(LayerError, match=f"the module 'block' has 2 outputs in the graph: .* '{one}', '{two}'"):
        find_layer(model.graph, "block")


def test_node_of_several_outputs() -> None:
    split = ir.node("Split", [ir.Value(name="x")], attributes={"num_outputs": 2}, num_outputs=2, name="split")
    for i, value in enumerate(split.outputs):
        value.name = f"half_{i}"
    graph = ir.Graph([v for v in split.inputs if v is not None], split.outputs, nodes=[split], opset_imports={"": 18})
    with pytest.raises(LayerError, match="the node 'split' has several outputs: split at one of 'half_0', 'half_1'"):
        find_layer(graph, "split")
    assert find_layer(graph, "half_1")[0] is split.outputs[1]


def test_no_such_layer_lists_the_nearest() -> None:
    known = ["stem", "layer1", "layer2", "layer1"]
    assert no_such_layer("layr1", known).startswith(
        "no layer 'layr1' in this network; the nearest are 'layer1', 'layer2'"
    )
    assert "nothing is named like it" in no_such_layer("zzz", known)
    assert "the nearest are 'features.denseblock4.denselayer16.conv2'" in no_such_layer(
        "conv2", ["features.denseblock4.denselayer16.conv2", "classifier"]
    )


def test_modules_are_listed_outermost_first() -> None:
    b = o.Build()
    b("Relu", "image", name="/a/a.b/a.b.c/a.b.c.d/a.b.c.d.e/Relu", out="out")
    graph = ir.from_proto(b.model("out")).graph
    assert list(module_outputs(graph)) == ["a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e"]

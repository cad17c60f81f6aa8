"""ONNX files in which several nodes have one name."""

from __future__ import annotations

import time

import onnx
from onnx import helper
from xai_exporters.sources.onnx_file import _name_apart


def nodes(*names: str) -> onnx.ModelProto:
    made = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=name) for i, name in enumerate(names)]
    return helper.make_model(helper.make_graph(made, "g", [], []))


def apart(model: onnx.ModelProto) -> list[str]:
    _name_apart(model)
    return [node.name for node in model.graph.node]


def test_the_first_keeps_its_name_and_the_others_get_free_ones() -> None:
    assert apart(nodes("a", "a_1", "", "a", "b", "a", "a_1", "", "b")) == [
        "a",
        "a_1",
        "",
        "a_2",
        "b",
        "a_3",
        "a_1_1",
        "",
        "b_1",
    ]


def test_time_grows_with_the_number_of_nodes_and_no_faster() -> None:
    seconds = []
    for count in (1_500, 6_000):
        model = nodes(*["a"] * count)
        started = time.process_time()
        names = apart(model)
        seconds.append(time.process_time() - started)
        assert len(set(names)) == count
    assert seconds[1] < 8 * seconds[0] + 0.1

"""OpenVINO gives the numbers that ONNX defines for networks of integers: against the formula, where its defaults are far off."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from xai_deploy.backends import Config, create
from xai_deploy.errors import RuntimeFailure
from xai_deploy.foundation import exact_openvino


@pytest.mark.parametrize("device", ["cpu", "auto"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("apply", [np.multiply, np.add])
def test_openvino_rounds_as_onnx_defines_it(device: str, batch: int, apply: Any) -> None:
    """While a size is open it takes the first channel's range for all, if channels have constants: 150 to 200 % off."""
    by = np.array([0.5, -1.0, 2.0], np.float32).reshape(1, 3, 1, 1)
    x = np.random.default_rng(1).standard_normal((batch, 3, 5, 7)).astype(np.float32)
    codes = np.clip(np.rint(apply(x, by) / np.float32(1 / 128)) + 128, 0, 255)
    opened = create("openvino", Config(device=device)).open(rounding("Mul" if apply is np.multiply else "Add", by))
    got = np.asarray(opened.run({"x": x, "surplus": x[0]}, ["y"])["y"])
    np.testing.assert_allclose(got, (codes - 128) / 128, rtol=0, atol=1e-6)
    assert sorted(opened._compiled) == [True]  # type: ignore[attr-defined]
    with pytest.raises(RuntimeFailure, match="failed while running a graph"):
        opened.run({"x": np.zeros((), np.float32)}, ["y"])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_cpu_loads_no_plugin_of_another_device() -> None:
    """The other plugins that OpenVINO ships are 6 MB of code in memory; asking for another device loads them."""
    code = (
        "import sys; from xai_deploy.backends import Config, create; create('openvino', Config(device=sys.argv[1])); "
        "print({part for part in open('/proc/self/maps').read().split() if part.endswith('_plugin.so')})"
    )
    loaded = [
        subprocess.run([sys.executable, "-c", code, device], check=True, stdout=subprocess.PIPE, text=True).stdout
        for device in ("cpu", "auto")
    ]
    assert loaded[0].count("_plugin.so") == 1
    assert loaded[1].count("_plugin.so") > 1


def test_openvino_takes_what_holds_no_images_for_an_error() -> None:
    opened = create("openvino", Config()).open(rounding("Mul", np.ones((1, 3, 1, 1), np.float32), also=True))
    x = np.ones((2, 3, 5, 7), np.float32)
    assert np.asarray(opened.run({"x": x, "z": x}, ["y"])["y"]).shape == x.shape
    with pytest.raises(RuntimeFailure, match="its inputs hold different numbers of images"):
        opened.run({"x": x, "z": x[:1]}, ["y"])


def rounding(op: str, by: Any, also: bool = False) -> bytes:
    """x, and z if it is so asked, each with its constant applied, then in codes of 8 bits."""
    shape = ["N", *by.shape[1:2], 5, 7]
    inputs = ["x", "z"] if also else ["x"]
    nodes = [helper.make_node("Add", ["x", "z"], ["v"])] if also else []
    nodes += [
        helper.make_node(op, ["v" if also else "x", "by"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "s", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["y"]),
    ]
    weights = {"by": by, "s": np.float32(1 / 128), "zero": np.uint8(128)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (*inputs, "y")]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:-1], values[-1:], held)
    model: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)]
    ).SerializeToString()
    return model


def test_openvino_is_told_to_compute_exactly() -> None:
    """Its low-precision transformations broke relevance graphs of int8 transformers. A device without such a property goes on."""
    said: list[tuple[str, str]] = []

    class Core:
        def set_property(self, device: str, properties: dict[str, Any]) -> None:
            if device == "NPU":
                raise RuntimeError("no such property")
            said.extend((device, name) for name in properties)

    exact_openvino.compute_exactly(Core(), ["NPU", "CPU"])
    assert said == [("CPU", "DYNAMIC_QUANTIZATION_GROUP_SIZE"), ("CPU", "LP_TRANSFORMS_MODE")]
    openvino.Core().set_property("CPU", {"LP_TRANSFORMS_MODE": False})  # this OpenVINO has it

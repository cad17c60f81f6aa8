"""ONNX Runtime, on the training side: runs the source for reference, and measures the shape of every tensor.

Shapes are measured, not inferred: a Shape node on every tensor, one run at batch 2 and one at batch 3. What stays the
same is a constant, what grows is a multiple of the batch; no inference rule can be missing or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from .errors import GraphError


@dataclass(frozen=True)
class Measured:
    """Shapes at batch 2 and batch 3, by tensor name."""

    two: dict[str, tuple[int, ...]]
    three: dict[str, tuple[int, ...]]

    def rename(self, old: str, new: str) -> None:
        """Follow a tensor to its new name."""
        for shapes in (self.two, self.three):
            shapes[new] = shapes.pop(old)

    def per_image(self, name: str | None) -> tuple[int, ...] | None:
        """The shape of one image's part where the first dimension is the batch and no other one grows; else None."""
        if name is None or name not in self.two:
            return None
        two, three = self.two[name], self.three[name]
        if two[:1] == (2,) and three[:1] == (3,) and two[1:] == three[1:]:
            return two[1:]
        return None


def open_session(model: bytes, what: str, optimise: bool = False) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        model: The ONNX file.
        what: What it is, for the message.
        optimise: Let the runtime fuse nodes. Off where graphs are compared: fusing across a cut rounds differently in
            quantised networks, which says nothing about the cut.

    Raises:
        GraphError: The runtime refuses the graph.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and said in our words
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exception types are not documented
        raise GraphError(f"ONNX Runtime can't open {what}: {error}") from error


def run(session: Any, feeds: Mapping[str, NDArray[Any]], what: str) -> dict[str, NDArray[Any]]:
    """All outputs by name.

    Raises:
        GraphError: The runtime failed.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:
        raise GraphError(f"ONNX Runtime can't run {what}: {error}") from error


def measure(model: ir.Model, image_shape: tuple[int, ...]) -> Measured:
    """The shape of every tensor of the model at batch 2 and 3.

    Raises:
        GraphError: The network does not run at these batches.
    """
    proto = ir.to_proto(model)
    [image] = model.graph.inputs
    names = [str(v.name) for node in model.graph for v in node.outputs if v.name] + [str(image.name)]
    del proto.graph.output[:]
    for i, name in enumerate(names):
        proto.graph.node.append(onnx.helper.make_node("Shape", [name], [f"xai/shape/{i}"]))
        proto.graph.output.append(onnx.helper.make_tensor_value_info(f"xai/shape/{i}", onnx.TensorProto.INT64, None))
    session = open_session(proto.SerializeToString(), "the network")
    dtype = image.dtype.numpy() if image.dtype is not None else np.float32
    shapes = []
    for batch in (2, 3):
        zeros = np.zeros((batch, *image_shape), dtype=dtype)
        results = run(session, {str(image.name): zeros}, f"the network on {batch} images").values()
        shapes.append({name: tuple(map(int, shape)) for name, shape in zip(names, results, strict=True) if name})
    return Measured(*shapes)

"""Find the dimension that holds the batch in every tensor: infer shapes node by node, with a marker in place of the batch.

The marker is a large prime. No ordinary size is a multiple of it, so a dimension that is a multiple grows with the batch. A
dimension may hold more than the batch: Swin's windows give N * windows, attention gives N * heads. In general it is
outer * N * inner; only `outer` has to be noted, because `inner` follows from the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import shape_inference
from onnx.reference import ReferenceEvaluator

from ..graph.reading import attribute, constant_of

MARK = 16_777_213
"""The marker for the batch: the largest prime below 2^24. Float32, the type of a Resize's scales, holds it exactly."""

_SMALL = 1 << 16  # entries; shapes, axes and indices are computed from smaller tensors


@dataclass
class BatchAxes:
    """Facts about a graph's tensors, collected during a walk that starts at the graph's input.

    Attributes:
        batch: The fixed batch that the source was exported for.
        opset: The opset of the standard operators.
        types: Element type and shape of each tensor; the shape holds the marker.
        outer: The factor outside the batch in the dimension that holds it, for each tensor; 1 if a tensor is not listed.
        values: The values of small tensors that are constant, or computed from shapes.
        computed: The tensors of `values` that are computed from a shape that holds the batch.
    """

    batch: int
    opset: int
    types: dict[ir.Value, onnx.TypeProto] = field(default_factory=dict)
    outer: dict[ir.Value, int] = field(default_factory=dict)
    values: dict[ir.Value, NDArray[Any]] = field(default_factory=dict)
    computed: set[ir.Value] = field(default_factory=set)

    def dims(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """The shape with the marker, or None if it is not known."""
        known = None if value is None else self.types.get(value)
        if known is None or not known.tensor_type.HasField("shape"):
            return None
        dims = known.tensor_type.shape.dim
        return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None

    def axis(self, value: ir.Value | None) -> int | None:
        """The dimension that grows with the batch, or None."""
        # a size of 0 is a multiple of everything
        axes = [i for i, d in enumerate(self.dims(value) or ()) if d and d % MARK == 0]
        return axes[0] if len(axes) == 1 else None

    def source_dims(self, value: ir.Value) -> tuple[int, ...]:
        """The shape at the source's own batch."""
        return tuple(d // MARK * self.batch if d % MARK == 0 else d for d in self.dims(value) or ())

    def before(self, value: ir.Value) -> int:
        """The product of all sizes outside the batch, in row-major order."""
        axis = self.axis(value)
        return prod((self.dims(value) or ())[:axis]) * self.outer.get(value, 1)

    def declare(self, value: ir.Value, dims: Sequence[int], dtype: int, outer: int = 1) -> None:
        """Note a tensor's shape and element type."""
        self.types[value] = onnx.helper.make_tensor_type_proto(dtype, dims)
        self.outer[value] = outer

    def type_of(self, value: ir.Value) -> int:
        """The element type."""
        return int(self.types[value].tensor_type.elem_type)

    def constant(self, value: ir.Value | None) -> NDArray[Any] | None:
        """A tensor's value, or None if it depends on the batch: then an entry has about the marker's size, or more."""
        array = self.values.get(value) if value is not None else None
        if array is None or value not in self.computed:
            return array
        sizes = np.abs(array.astype(np.float64))
        return None if ((sizes > MARK / 1000) & (sizes < 2.0**60)).any() else array  # 2^63 - 1 stands for "to the end"

    def know(self, value: ir.Value) -> None:
        """Note a constant."""
        if value in self.types:
            return
        tensor = constant_of(value)
        if tensor is not None:
            dtype = ir.DataType.from_numpy(tensor.dtype)
            self.declare(value, tensor.shape, int(dtype))
            if tensor.size <= _SMALL:
                self.values[value] = tensor

    def infer(self, node: ir.Node) -> None:
        """Note the shapes and values of a node's outputs; note nothing if an input is not known, or if shapes do not fit."""
        given = [x for x in node.inputs if x is not None]
        if any(x not in self.types for x in given):
            return
        named = ir.to_proto(node)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
            types = shape_inference.infer_node_outputs(
                schema,
                named,
                {str(x.name): self.types[x] for x in given},
                {str(x.name): onnx.numpy_helper.from_array(self.values[x]) for x in given if x in self.values},
                opset_imports=[onnx.helper.make_opsetid("", self.opset)],
            )
        except Exception:  # the schemas' own inference documents no exception types
            return
        marked = [x for x in given if self.axis(x) is not None]
        for value in node.outputs:
            if str(value.name) in types:
                self.types[value] = types[str(value.name)]
                if marked:  # the first input that holds the batch passes its factor on
                    self.outer[value] = self.outer.get(marked[0], 1)
        if node.op_type == "Shape" and (dims := self.dims(node.inputs[0])) is not None:
            span = slice(attribute(node, "start", 0), attribute(node, "end", None))
            self.values[node.outputs[0]] = np.array(dims[span], np.int64)
            self.computed.add(node.outputs[0])
        elif all(x in self.values for x in given) and all(self._is_small(y) for y in node.outputs):
            self._evaluate(node, named)

    def _is_small(self, value: ir.Value) -> bool:
        dims = self.dims(value)
        return dims is not None and prod(dims) <= _SMALL

    def _evaluate(self, node: ir.Node, named: onnx.NodeProto) -> None:
        """Arithmetic on shapes and constants."""
        names = {str(x.name): self.values[x] for x in node.inputs if x is not None}
        inputs = [onnx.ValueInfoProto(name=str(x.name), type=self.types[x]) for x in node.inputs if x is not None]
        outputs = [onnx.ValueInfoProto(name=str(v.name)) for v in node.outputs]
        graph = onnx.helper.make_graph([named], "one", inputs, outputs)
        opset = [onnx.helper.make_opsetid("", self.opset)]
        try:
            results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opset)).run(None, names)
        except Exception:  # an operator that the evaluator lacks
            return
        for value, result in zip(node.outputs, results, strict=True):
            self.values[value] = np.asarray(result)
            if self.computed.intersection(node.inputs):
                self.computed.add(value)

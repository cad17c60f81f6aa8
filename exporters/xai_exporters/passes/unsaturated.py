"""Write int8 weights of operators on integers as uint8, so that sums of products don't saturate.

    w = (w_q - z) s = ((w_q + 128) - (z + 128)) s

On x86 processors without VNNI, ONNX Runtime's kernels for uint8 inputs and int8 weights add up two products in 16 bits, which
saturate: 2 * 255 * 127 > 32767. Those for uint8 weights are exact on all processors. Operators in QDQ form keep their weights:
the session's own setting does the same for them (`xai_deploy.foundation.exact_onnxruntime`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from .qoperator import MOVES
from .rewriting import OURS, Rewriting, attribute_of, inputs_of


@dataclass(frozen=True)
class _Layer:
    """Positions of inputs.

    Attributes:
        zero: The zero point of the layer's input, whose type is that of the input; None if the input always has uint8.
        weights: The weights' codes and zero points.
    """

    zero: int | None
    weights: tuple[tuple[int, int], ...]


_LAYERS: Mapping[str, _Layer] = {
    "QLinearConv": _Layer(2, ((3, 5),)),
    "QLinearMatMul": _Layer(2, ((3, 5),)),
    "QGemm": _Layer(2, ((3, 5),)),
    "ConvInteger": _Layer(2, ((1, 3),)),
    "MatMulInteger": _Layer(2, ((1, 3),)),
    "MatMulIntegerToFloat": _Layer(4, ((1, 5),)),
    "DynamicQuantizeMatMul": _Layer(None, ((1, 3),)),
    "DynamicQuantizeLSTM": _Layer(None, ((1, 9), (2, 11))),
    "QAttention": _Layer(6, ((1, 7),)),
}


def without_saturation(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with uint8 weights where the input has uint8 and the weights have int8, or None if there is no such layer."""
    return _Weights(model).run()


class _Weights(Rewriting):
    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        self.shifted: dict[str, str] = {}
        self.unsigned = {i.name for i in self.graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
        self.unsigned |= {name for name, tensor in self.constants.items() if tensor.data_type == TensorProto.UINT8}
        for node in self.graph.node:
            if node.op_type == "DynamicQuantizeLinear":
                self.unsigned |= {node.output[0], node.output[2]}
            elif self._gives_uint8(node):
                self.unsigned.add(node.output[0])

    def _gives_uint8(self, node: NodeProto) -> bool:
        if node.op_type == "QuantizeLinear":
            zero = inputs_of(node, 3)[2]
            return zero in self.unsigned if zero else attribute_of(node, "output_dtype", 0) in (0, TensorProto.UINT8)
        return node.op_type in MOVES and node.input[0] in self.unsigned

    def run(self) -> onnx.ModelProto | None:
        for node in self.graph.node:
            layer = _LAYERS.get(node.op_type) if node.domain in (*OURS, "com.microsoft") else None
            if layer is not None and self._takes_uint8(node, layer):
                for weight, zero in layer.weights:
                    self._shift(node, weight, zero)
            self.nodes.append(node)
        return self.finish() if self.shifted else None

    def _takes_uint8(self, node: NodeProto, layer: _Layer) -> bool:
        if layer.zero is None:
            return True
        given = inputs_of(node, layer.zero + 1)
        return (given[layer.zero] or given[0]) in self.unsigned

    def _shift(self, node: NodeProto, weight: int, zero: int) -> None:
        """Move the codes and the zero point of a weight up by 128."""
        given = inputs_of(node, zero + 1)
        codes, point = self.value(given[weight]), self.value(given[zero])
        if codes is None or codes.dtype != np.int8 or (given[zero] and point is None):
            return
        given[weight] = self._up(given[weight], codes)
        given[zero] = self._up(given[zero] or f"{given[weight]}/zero", np.int8(0) if point is None else point)
        del node.input[:]
        node.input.extend(given)

    def _up(self, name: str, codes: np.ndarray[tuple[int, ...], np.dtype[np.int8]] | np.int8) -> str:
        """The codes as uint8, once for all that read them."""
        if name not in self.shifted:
            self.shifted[name] = self.constant((np.asarray(codes, np.int16) + 128).astype(np.uint8), name)
        return self.shifted[name]

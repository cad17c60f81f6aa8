"""Bring codes of 4 and 16 bits, and scales for blocks, into forms that opset 18 and every runtime have.

1. Activations in 16 bits (OpenVINO computes their QuantizeLinear wrongly) are floats that hold integers:
       codes = clip(round(x / s) + z, least, greatest),   y = (codes - z) s.
   Float32 holds them exactly. Activations in 4 bits are the same, in codes of 8 bits.
2. Weights in 4 bits are stored in 8 bits, weights in 16 bits as floats.
3. A weight with a scale for each block of `block_size` entries is stored as [blocks, block_size], with a scale for each row.
4. A weight that the file quantises itself to such codes is stored in them (those of 8 bits: `stored_codes`).
5. ONNX Runtime's MatMulNBits is a MatMul with such a weight: W[n,k] = (codes[n,k] - z[n,k / block_size]) s[n,k / block_size].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..errors import GraphError
from ..graph.coded_weights import LIMITS, codes_of_weight, spread
from ..graph.reading import STRAIGHT, called
from .rewriting import OURS, Rewriting, attribute_of, fits, inputs_of

Array = NDArray[Any]
_OTHER = ("int4", "uint4", "int16", "uint16")
_BYTES = {"int4": np.int8, "uint4": np.uint8}
_QUANTISE, _DEQUANTISE, _N_BITS = "QuantizeLinear", "DequantizeLinear", "MatMulNBits"


def to_common_codes(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model in these forms; None if it holds nothing of the kind.

    Raises:
        GraphError: Codes that have no other form; names the node.
    """
    if not any(node.op_type in (_QUANTISE, _DEQUANTISE, _N_BITS) for node in model.graph.node):
        return None
    return _Codes(model).run()


def only_weights(model: onnx.ModelProto) -> bool:
    """Whether codes are those of weights alone, so that the model in these forms differs by the rounding of floats only.

    ONNX Runtime 1.31 quantises the input of MatMulNBits, too, if it has accuracy level 4 or codes of 8 bits.
    """

    def rounds(node: NodeProto) -> bool:
        if node.op_type == _N_BITS:
            return bool(attribute_of(node, "accuracy_level", 0) == 4 or attribute_of(node, "bits", 4) == 8)
        return bool(node.op_type == _QUANTISE)

    return not any(map(rounds, model.graph.node))


class _Codes(Rewriting):
    def run(self) -> onnx.ModelProto | None:
        held: dict[str, str] = {}  # tensors of codes of 4 and 16 bits -> their type
        changed = False
        for node in list(self.graph.node):
            kind = self.kind(node, held)
            self.require_scale(node)
            if node.op_type == _N_BITS and node.domain == "com.microsoft":
                self.n_bits(node)
            elif node.op_type == _QUANTISE and (kind in _OTHER or attribute_of(node, "block_size", 0)):
                self.quantise(node, kind)
                held[node.output[0]] = kind
            elif node.op_type == _DEQUANTISE and (kind in _OTHER or attribute_of(node, "block_size", 0)):
                self.dequantise(node, kind)
            else:
                self.nodes.append(node)
                moved = next((held[name] for name in node.input if name in held), "")
                held.update(dict.fromkeys(node.output if moved else (), moved))
                continue
            changed = True
        return self.finish() if changed else None

    def kind(self, node: NodeProto, held: dict[str, str]) -> str:
        """The type of the codes that a QuantizeLinear gives or a DequantizeLinear takes; "" if it is not known."""
        if node.op_type not in (_QUANTISE, _DEQUANTISE) or node.domain not in (*OURS, "com.microsoft"):
            return ""
        x, _, zero = inputs_of(node, 3)
        constants = [
            self.constants[name]
            for name in ((x, zero) if node.op_type == _DEQUANTISE else (zero,))
            if name in self.constants
        ]
        types = [tensor.data_type for tensor in constants] or [attribute_of(node, "output_dtype", 0)]
        name = helper.tensor_dtype_to_np_dtype(types[0]).name if types[0] else ""
        name = held.get(x, name) if node.op_type == _DEQUANTISE else name
        if name.startswith("float8") or name.startswith("float4"):
            raise GraphError(
                f"{called(node.name, node.output)} has codes in {name}, which only some runtimes compute; quantise the network to "
                "integers (quantize_static with QuantType.QInt8 or QUInt8)"
            )
        return name

    def require_scale(self, node: NodeProto) -> None:
        """Refuse an activation whose scale gives no codes: each runtime would compute something else."""
        if node.op_type != _QUANTISE or self.value(node.input[0]) is not None:
            return
        scale = self.value(node.input[1])
        wrong = [] if scale is None else [s for s in scale.reshape(-1) if not np.finfo(np.float32).tiny <= s < np.inf]
        if wrong and scale is not None and scale.dtype == np.float32:
            raise GraphError(
                f"{called(node.name, node.output)} quantises with the scale {wrong[0]:g}, which gives no codes; quantise the "
                "network again, calibrated with images"
            )

    def quantise(self, node: NodeProto, kind: str) -> None:
        """Cases 1, 2 and 4: x to codes."""
        x, scale, zero = inputs_of(node, 3)
        s, z, name = self.value(scale), self.value(zero), node.output[0]
        weight = self.value(x)
        if weight is not None and s is not None and z is not None:
            axis, block = (int(attribute_of(node, what, default)) for what, default in (("axis", 1), ("block_size", 0)))
            codes = codes_of_weight(weight, s, z, axis, block)
            self.initializer(name, codes if kind.endswith("8") else codes.astype(_BYTES.get(kind, np.float32)))
            return
        if s is None or s.size > 1 or (zero and z is None) or attribute_of(node, "block_size", 0):
            raise GraphError(
                f"{called(node.name, node.output)} quantises to {kind} with several or computed scales; take one scale"
            )
        v = self.add("Round", [self.add("Div", [x, self.constant(s.reshape(()), f"{name}/scale")], name)], name)
        self.nodes[-1].metadata_props.add(key=STRAIGHT, value="yes")
        if z is not None and z.astype(np.float32).any():
            v = self.add("Add", [v, self.constant(z.astype(np.float32).reshape(()), f"{name}/zero")], name)
        limits = [self.constant(np.float32(limit), f"{name}/limit") for limit in LIMITS[kind]]
        if kind not in _BYTES:
            self.add("Clip", [v, *limits], name, name)
            return
        one, nothing = self.constant(np.float32(1), f"{name}/one"), self.constant(_BYTES[kind](0), f"{name}/nothing")
        self.add(_QUANTISE, [self.add("Clip", [v, *limits], name), one, nothing], name, name)

    def dequantise(self, node: NodeProto, kind: str) -> None:
        """All cases: codes to floats."""
        x, scale, zero = inputs_of(node, 3)
        codes, s, z, name = self.value(x), self.value(scale), self.value(zero), node.output[0]
        if s is None or (zero and z is None):
            raise GraphError(
                f"{called(node.name, node.output)} dequantises {kind} with computed scales; take constant ones"
            )
        z = np.zeros(s.shape, np.float32) if z is None else z
        if codes is None:
            self.activation(node, kind, s, z)
            return
        s = s.astype(np.float32)
        block, axis = int(attribute_of(node, "block_size", 0)), int(attribute_of(node, "axis", 1)) % max(codes.ndim, 1)
        narrow = next((k for k in (np.int8, np.uint8) if fits(codes, k) and fits(z, k)), None)
        if narrow is None or (block and codes.shape[axis] % block):
            floats = (codes.astype(np.float32) - spread(z, codes, axis, block)) * spread(s, codes, axis, block)
            self.initializer(name, floats)
        elif block:
            self.blocks(codes.astype(narrow), s, z.astype(narrow), axis, block, name)
        else:
            given = [
                self.constant(a, f"{name}/{what}")
                for a, what in zip((codes.astype(narrow), s, z.astype(narrow)), ("codes", "scale", "zero"), strict=True)
            ]
            self.add(_DEQUANTISE, given, name, name, **({"axis": axis} if s.size > 1 else {}))

    def activation(self, node: NodeProto, kind: str, s: Array, z: Array) -> None:
        """Codes that `quantise` has written."""
        x, name = node.input[0], node.output[0]
        if s.size > 1:
            raise GraphError(f"{called(node.name, node.output)} dequantises {kind} with several scales; take one scale")
        scale = self.constant(s.astype(np.float32).reshape(()), f"{name}/scale")
        if kind in _BYTES:
            zero = self.constant(z.astype(_BYTES[kind]).reshape(()), f"{name}/zero")
            self.add(_DEQUANTISE, [x, scale, zero], name, name)
            return
        if z.any():
            x = self.add("Sub", [x, self.constant(z.astype(np.float32).reshape(()), f"{name}/zero")], name)
        self.add("Mul", [x, scale], name, name)

    def blocks(self, codes: Array, s: Array, z: Array, axis: int, block: int, out: str) -> None:
        """Case 3: a weight with a scale for each block along an axis."""
        rows = np.moveaxis(codes, axis, -1)
        given = [rows.reshape(-1, block), *(np.moveaxis(a, axis, -1).reshape(-1) for a in (s, z))]
        names = [
            self.constant(np.ascontiguousarray(a), f"{out}/{what}")
            for a, what in zip(given, ("codes", "scale", "zero"), strict=True)
        ]
        flat = self.add(_DEQUANTISE, names, out, axis=0)
        shape = self.constant(np.array(rows.shape, np.int64), f"{out}/shape")
        if axis == codes.ndim - 1:
            self.add("Reshape", [flat, shape], out, out)
            return
        order = [i for i in range(codes.ndim) if i != axis] + [axis]
        self.add(
            "Transpose", [self.add("Reshape", [flat, shape], out)], out, out, perm=[int(i) for i in np.argsort(order)]
        )

    def n_bits(self, node: NodeProto) -> None:
        """Case 5."""
        a, b, scale, zero, group, bias = inputs_of(node, 6)
        k, n, block = (int(attribute_of(node, name, 0)) for name in ("K", "N", "block_size"))
        bits, count = int(attribute_of(node, "bits", 4)), -(-k // max(block, 1))
        packed, s, z, name = self.value(b), self.value(scale), self.value(zero), node.output[0]
        if (
            group
            or packed is None
            or s is None
            or (zero and z is None)
            or bits not in (2, 4, 8)
            or min(k, n, block) < 1
        ):
            raise GraphError(
                f"{called(node.name, node.output)} is MatMulNBits with computed weights or an order of its own (g_idx)"
            )
        codes = _unpacked(packed.reshape(n * count, -1), bits)[:, :block].reshape(n, count * block)
        if z is None:
            zeros = np.full(n * count, 2 ** (bits - 1), np.uint8)
        elif z.dtype == np.uint8:
            zeros = _unpacked(z.reshape(n, -1), bits)[:, :count].reshape(-1)
        else:
            zeros = z.reshape(-1)
        weight = self.name(f"{name}/weight")
        half = TensorProto.FLOAT16 if s.dtype == np.float16 else None
        s = s.reshape(n, count).astype(np.float32)
        if k % block or not fits(zeros, np.uint8):
            wide = [np.repeat(part.reshape(n, count), block, axis=1)[:, :k].astype(np.float32) for part in (zeros, s)]
            self.initializer(weight, (codes[:, :k].astype(np.float32) - wide[0]) * wide[1])
        else:
            self.blocks(codes, s, zeros.reshape(n, count).astype(np.uint8), 1, block, weight)
        if half is not None:  # as the activation
            weight = self.add("Cast", [weight], name, to=half)
        turned = self.add("Transpose", [weight], name, perm=[1, 0])
        y = self.add("MatMul", [a, turned], name, "" if bias else name)
        if bias:
            self.add("Add", [y, bias], name, name)

    def initializer(self, name: str, array: Array) -> None:
        """A weight by the name that its readers know."""
        self.constants[name] = numpy_helper.from_array(array, name)
        self.graph.initializer.append(self.constants[name])


def _unpacked(packed: Array, bits: int) -> Array:
    """[rows, bytes] -> [rows, codes]; the first code is in the lowest bits."""
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(len(packed), -1).astype(np.uint8)

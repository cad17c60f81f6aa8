"""The names of nodes that OpenVINO's readers lose, and those that are not UTF-8.

The readers for TFLite and TensorFlow turn NHWC into NCHW: a node and the Transpose after it exchange their names, and most of these
Transposes vanish. They stay before the model's outputs. So the file is read a second time, with every tensor as an output, and the
nodes of both models are compared by *fingerprints*: the type of a node, the elements of its weights in any order, the sizes of its
output in any order, and the fingerprints of its inputs. Transposes are passed over. A fingerprint that two nodes of a model share
names neither.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOVING = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Convert")
"""They change nothing but the layout of weights, in which both models may differ."""
_CHUNK = 1 << 20  # elements
_UNNAMED = ("Constant", "Parameter", "Result")


def make_readable(model: Any) -> None:
    """Replace names that are not UTF-8, which Python can't read: a node gets its type and its place, a tensor none of its own.

    Args:
        model: An `openvino.Model`; the graphs inside its nodes are changed too.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        try:
            node.get_friendly_name()
        except UnicodeDecodeError:
            node.set_friendly_name(f"{kind}_{place}")
        for port in node.outputs():
            try:
                port.get_names()
            except UnicodeDecodeError:
                port.get_tensor().set_names(set())
        if kind == "If":
            make_readable(node.get_function(0))
            make_readable(node.get_function(1))
        elif kind in ("Loop", "TensorIterator"):
            make_readable(node.get_function() if kind == "Loop" else node.get_body())


def of_tensors(model: Any, names: Mapping[str, str]) -> dict[str, str]:
    """Names by the fingerprint of the tensor, in a model that has these tensors as its outputs.

    Args:
        model: An `openvino.Model`.
        names: What to call the node that gives a tensor, by the tensor's name.
    """
    prints = _Fingerprints(model)
    found: dict[str, str] = {}
    after: dict[str, str] = {}
    for port in model.outputs:
        known = [names[name] for name in sorted(port.get_names()) if name in names]
        value = port.get_node().input_value(0)
        if known:
            _add(found, prints.unique(value), known[0])
        while known and value.get_node().get_type_name() in ("Transpose", "Convert"):  # int8: what FakeQuantize gives
            value = value.get_node().input_value(0)
            _add(after, prints.unique(value), known[0])
    return after | found


def of_nodes(model: Any, names: Mapping[str, str]) -> dict[str, str]:
    """The names of a model's nodes, by `get_name()`.

    Args:
        model: An `openvino.Model`.
        names: What `of_tensors` gives.
    """
    prints = _Fingerprints(model)
    found: dict[str, str] = {}
    for node in model.get_ordered_ops() if names else ():
        if node.get_type_name() in (*_UNNAMED, "Transpose"):
            continue
        for port in node.outputs():
            fingerprint = prints.unique(port)
            if fingerprint is not None and fingerprint in names:
                found.setdefault(node.get_name(), names[fingerprint])
    return found


def _add(found: dict[str, str], fingerprint: str | None, name: str) -> None:
    if fingerprint is not None:
        found.setdefault(fingerprint, name)


class _Fingerprints:
    """Fingerprints of a model's tensors."""

    def __init__(self, model: Any) -> None:
        self._of: dict[tuple[str, int], str] = {}
        self._fixed: set[str] = set()
        self._count: Counter[str] = Counter()
        for node in model.get_ordered_ops():
            self._add(node)

    def unique(self, output: Any) -> str | None:
        """The fingerprint of a node's output, or None if another has the same."""
        fingerprint = self._of.get(_key(output))
        return fingerprint if fingerprint is not None and self._count[fingerprint] == 1 else None

    def _add(self, node: Any) -> None:
        kind, inputs = node.get_type_name(), node.input_values()
        before = [self._of[_key(output)] for output in inputs]
        fixed = kind == "Constant" or (bool(inputs) and all(o.get_node().get_name() in self._fixed for o in inputs))
        if fixed:
            self._fixed.add(node.get_name())
        if kind == "Transpose" or (fixed and kind in _MOVING):
            self._of[node.get_name(), 0] = before[0]
            return
        if kind == "FakeQuantize":  # the output has its codes, the next node the values that they stand for
            before = before[:3]
        for port in node.outputs():
            sizes = None if fixed else _sizes(port.get_partial_shape())
            text = repr((kind, _own(node), before, sizes, port.get_index()))
            fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            self._of[_key(port)] = fingerprint
            self._count[fingerprint] = 1 if kind == "FakeQuantize" else self._count[fingerprint] + 1


def _own(node: Any) -> object:
    """What a node holds itself, as far as no layout is in it."""
    kind = node.get_type_name()
    if kind == "Parameter":
        return sorted(node.output(0).get_names())
    if kind == "Constant":
        element = node.get_output_element_type(0).get_type_name()
        # i32, i64: axes, paddings, shapes; dynamic: no elements can be read, the translation refuses the node
        if element in ("i32", "i64", "dynamic"):
            return node.get_output_size()
        return _elements(np.asarray(node.get_data()))
    return sorted((key, value) for key, value in node.get_attributes().items() if isinstance(value, float))


def _elements(array: NDArray[Any]) -> tuple[int, int, int]:
    """The number of elements, and two sums that do not depend on their order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    sums = np.zeros(2, np.uint64)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        codes = part.astype(np.float32).view(np.uint32) if part.dtype.kind == "f" else part.astype(np.int64)
        mixed = codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # splitmix64, which wraps around
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        sums += np.array([mixed.sum(dtype=np.uint64), (mixed * mixed).sum(dtype=np.uint64)])
    return flat.size, int(sums[0]), int(sums[1])


def _sizes(shape: Any) -> list[int] | None:
    return sorted(d.get_length() if d.is_static else -1 for d in shape) if shape.rank.is_static else None


def _key(output: Any) -> tuple[str, int]:
    return output.get_node().get_name(), output.get_index()

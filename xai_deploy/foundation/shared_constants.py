"""Weights in memory once: OpenVINO's graphs of one network share the constants that they have in common.

OpenVINO copies the weights of each graph that it reads, and keeps them beside those that it reorders for the device. Of a bundle's
graphs the copies are the same bytes.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

_LARGE = 4096  # bytes
_SAMPLE = 64  # numbers
_FLOATS = ("f32", "f16")


class SharedConstants:
    """The large constants of the graphs that are open.

    A constant's memory is a tensor of OpenVINO's own, which every graph that holds it keeps alive.

    Args:
        openvino: The package.
    """

    def __init__(self, openvino: Any) -> None:
        self._ov = openvino
        self._lock = threading.Lock()
        self._tensors: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()

    def share(self, network: Any) -> list[Any]:
        """Let a graph use the constants that others hold.

        Args:
            network: An `openvino.Model` that was just read; its constants are replaced.

        Returns:
            Its tensors. The caller keeps them while the graph is open, so that graphs opened later find them.
        """
        nodes, kept = network.get_ops(), []
        with self._lock:
            while nodes:  # each is freed before the next is copied
                node = nodes.pop()
                if node.get_type_name() != "Constant" or node.get_byte_size() < _LARGE:
                    continue
                kind = node.get_element_type()
                if kind.get_type_name() not in _FLOATS:
                    continue
                tensor = self._same(kind, node.data)
                constant = self._ov.op.Constant(tensor, shared_memory=True)
                constant.set_friendly_name(node.get_friendly_name())
                names = node.output(0).get_names()
                node.output(0).replace(constant.output(0))
                constant.output(0).set_names(names)
                kept.append(tensor)
        return kept

    def _same(self, kind: Any, data: Any) -> Any:
        """A tensor with these bytes: one that there is, or a new one."""
        flat = data.reshape(-1).view(np.uint8)  # bytes, so that NaN equals NaN and 0 is not -0
        sample = data.reshape(-1)[:: max(1, data.size // _SAMPLE)].tobytes()
        key = kind.get_type_name(), data.shape, sample
        tensor = self._tensors.get(key)
        if tensor is not None and np.array_equal(tensor.data.reshape(-1).view(np.uint8), flat):
            return tensor
        made = self._ov.Tensor(kind, self._ov.Shape(data.shape))
        made.data[...] = data
        if tensor is None:
            self._tensors[key] = made
        return made

"""What a rule sees of a node of OpenVINO's graph, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.foundation.registry import Registry

from ...errors import GraphError
from ...graph.emit import Ops
from .constants import Codes, Constants, called, kind_of, readable

Rule: TypeAlias = "Callable[[Ops, Layer], ir.Value | Sequence[ir.Value]]"

RULES = "exporters/xai_exporters/sources/openvino_ir/rules"
rules: Registry[Rule] = Registry("xai_exporters.sources.openvino_ir.rules")
rule = rules.register


class Layer:
    """A node of OpenVINO's graph.

    Args:
        node: The node, an `openvino.Node`.
        constants: The values that depend on no input.
        value: Gives the ONNX value of an output of an earlier node, or registers its constant.
    """

    def __init__(self, node: Any, constants: Constants, value: Callable[[Any], ir.Value]) -> None:
        self.node = node
        self.type: str = node.get_type_name()
        self.name = readable(node.get_friendly_name())
        self.opset: str = node.get_type_info().version_id
        self._constants = constants
        self._value = value
        self._attributes: dict[str, Any] = node.get_attributes()

    def __len__(self) -> int:
        """The number of inputs."""
        return int(self.node.get_input_size())

    def x(self, i: int = 0) -> ir.Value:
        """Input i."""
        return self._value(self.node.input_value(i))

    def value(self, output: Any) -> ir.Value:
        """The ONNX value of an output of any earlier node."""
        return self._value(output)

    def content(self, output: Any) -> NDArray[Any] | None:
        """The content of an output of any earlier node, or None if it depends on the image."""
        return self._constants.array(output)

    def constant(self, i: int) -> NDArray[Any] | None:
        """The content of input i, or None if it depends on the image."""
        return self._constants.array(self.node.input_value(i)) if i < len(self) else None

    def require(self, i: int, what: str) -> NDArray[Any]:
        """The content of input i.

        Raises:
            GraphError: It depends on the image.
        """
        array = self.constant(i)
        if array is None:
            raise self.refuse(f"its {what} depend on the image; give fixed ones")
        return array

    def ints(self, i: int, what: str) -> list[int]:
        """As `require`, as a flat list of integers."""
        return [int(v) for v in self.require(i, what).ravel()]

    def int64(self, op: Ops, i: int) -> ir.Value:
        """Input i as ONNX wants shapes and axes: int64, one-dimensional."""
        array = self.constant(i)
        if array is not None:
            return op.emit.shared(array.astype(np.int64).ravel())
        value = self.x(i)
        if self.kind(i) != np.int64:
            value = op.Cast(value, to=ir.DataType.INT64)
        return op.Reshape(value, [-1]) if self.dims(i) == [] else value

    def weights(self, op: Ops, i: int, shape: Sequence[int] | None = None) -> ir.Value:
        """Input i, which may be a constant in int8 with its scale, in another shape."""
        codes = self.codes(i)
        if codes is not None:
            kept = codes if shape is None else codes.reshaped(shape)
            if kept is not None:
                return kept.emit(op)
        if shape is None:
            return self.x(i)
        array = self.constant(i)
        if array is not None:
            return op.emit.constant(np.ascontiguousarray(array.reshape(shape)), f"{self.name}/weight")
        return op.Reshape(self.x(i), list(shape))

    def codes(self, i: int) -> Codes | None:
        """Input i as int8 with its scale, or None if it is anything else."""
        return self._constants.codes(self.node.input_value(i))

    def dims(self, i: int = 0) -> list[int | None]:
        """The sizes of input i; None for one that is not known.

        Raises:
            GraphError: Not even their number is known.
        """
        return self._dims(self.node.get_input_partial_shape(i))

    def result(self, i: int = 0) -> list[int | None]:
        """The sizes of output i."""
        return self._dims(self.node.get_output_partial_shape(i))

    def sizes(self, i: int, first: int = 0) -> list[int]:
        """The sizes of input i from the dimension `first` on, all of which have to be known.

        Raises:
            GraphError: One is not.
        """
        return self._known(self.dims(i)[first:])

    def out_sizes(self, first: int = 0, i: int = 0) -> list[int]:
        """As `sizes`, of output i."""
        return self._known(self.result(i)[first:])

    def kind(self, i: int = 0) -> np.dtype[Any]:
        """The element type of input i in ONNX."""
        return kind_of(self.node.get_input_element_type(i), self.node)

    def out_kind(self, i: int = 0) -> np.dtype[Any]:
        """The element type of output i in ONNX."""
        return kind_of(self.node.get_output_element_type(i), self.node)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self._attributes.get(name, default)

    def has(self, name: str) -> bool:
        """Whether there is such an attribute in this version of the operator."""
        return name in self._attributes

    def axis(self, axis: int, i: int = 0) -> int:
        """An axis of input i counted from the front."""
        return axis % max(len(self.dims(i)), 1)

    def is_float(self, i: int = 0) -> bool:
        """Whether input i holds floats."""
        return self.kind(i).kind == "f"

    def refuse(self, why: str) -> GraphError:
        """An error that names the node."""
        return GraphError(f"{called(self.node)}: {why}")

    def _dims(self, shape: Any) -> list[int | None]:
        if shape.rank.is_dynamic:
            raise self.refuse("the number of its dimensions is not known; reshape the model to fixed sizes")
        return [dim.get_length() if dim.is_static else None for dim in shape]

    def _known(self, dims: Sequence[int | None]) -> list[int]:
        known = [d for d in dims if d is not None]
        if len(known) != len(dims):
            raise self.refuse("its sizes are not known; give the image's size with --input-shape C,H,W")
        return known

"""What the user says of a file's inputs: the size of the image, if the file leaves it open, and numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import GraphError
from .constants import kind_of, port_name

_MODES = {
    "nearest": ("nearest", False), "linear": ("bilinear", False), "linear_onnx": ("bilinear", False), "cubic": ("bicubic", False),
    "bilinear_pillow": ("bilinear", True), "bicubic_pillow": ("bicubic", True),
}  # fmt: skip
"""OpenVINO's modes -> interpolation and antialias in a manifest."""
_STEPS = ("Convert", "Add", "Subtract", "Multiply", "Divide", "Gather", "Transpose")


def bind(
    model: Any, shape: list[int] | None, reason: Callable[[Exception], str], last: bool = False
) -> tuple[str, bool] | None:
    """Give the image its size: OpenVINO then knows the sizes of everything. What does not fit is reported later, as for ONNX.

    A graph whose first steps resize images of any size gets the size after the resize, which then changes nothing.

    Args:
        model: An `openvino.Model`; it is changed.
        shape: (C,H,W) of an image, or (C,D,H,W) of a volume, if the user gives it.
        reason: What an error says, in one line.
        last: The channels are last in an image whose number of dimensions the file leaves open, too.

    Returns:
        Interpolation and antialias of a resize that the size replaces; None if there is none.

    Raises:
        GraphError: The graph does not take images of that size.
    """
    unknown = [port for port in model.inputs if _rank(port) < 0]
    if len(unknown) == 1 and shape is not None and all(_rank(port) < 2 for port in model.inputs):
        _reshape(model, {unknown[0]: [-1, *shape[1:], shape[0]] if last else [-1, *shape]}, shape, reason)
        return None
    ports = [port for port in model.inputs if _rank(port) in (4, 5)]
    if len(model.inputs) > 1 and shape is not None:
        _bind_all([port for port in ports if not port.get_partial_shape()[1:].is_static], model, shape, reason)
    if len(model.inputs) != 1 or not ports or ports[0].get_partial_shape()[1:].is_static:
        return None
    dims = ports[0].get_partial_shape()
    known = [d.get_length() if d.is_static else -1 for d in dims]
    if shape is None and len(known) == 5:
        return None
    if shape is None:
        node, sizes = _first_resize(ports[0])
        if node is None or any(have not in (-1, want) for have, want in zip(known[1:], sizes[1:], strict=True)):
            return None
        model.reshape([known[0], *sizes[1:]])
        return _MODES.get(str(node.get_attributes()["mode"]).lower())
    wanted = _sizes(ports[0], shape)
    if wanted is not None:
        _reshape(model, [known[0], *wanted], shape, reason)
    return None


def numbers(model: Any, given: Sequence[str], reason: Callable[[Exception], str]) -> dict[str, NDArray[Any]]:
    """The inputs without dimensions that the user gives as numbers, by the names of their nodes: they may decide between branches.

    Args:
        model: An `openvino.Model`; an input whose number of dimensions is not known gets none.
        given: NAME=VALUE of inputs.
        reason: What an error says, in one line.

    Raises:
        GraphError: An input has to have dimensions.
    """
    found = {}
    for port in model.inputs:
        name = port_name(port)
        text = next((text[len(name) + 1 :] for text in given if text.startswith(f"{name}=")), "")
        with contextlib.suppress(ValueError):  # a file, or none
            number = float(text)
            if _rank(port) < 0:
                try:
                    model.reshape({port: []})
                except Exception as error:
                    raise GraphError(f"its input {name!r} is no single number ({reason(error)})") from None
            if _rank(port) == 0:
                kind = kind_of(port.get_element_type(), port.get_node())
                found[port.get_node().get_name()] = np.array(number).astype(kind)
    return found


def _bind_all(ports: Sequence[Any], model: Any, shape: list[int], reason: Callable[[Exception], str]) -> None:
    """Give several images their size; each keeps its own number of channels if the file states it."""
    bound = {}
    for port in ports:
        dims = port.get_partial_shape()
        ends = [dims[i].get_length() for i in (1, len(dims) - 1) if dims[i].is_static]
        sizes = _sizes(port, shape) or next(filter(None, (_sizes(port, [c, *shape[1:]]) for c in ends)), None)
        if sizes is not None:
            bound[port] = [dims[0].get_length() if dims[0].is_static else -1, *sizes]
    if bound:
        _reshape(model, bound, shape, reason)


def _sizes(port: Any, shape: list[int]) -> list[int] | None:
    """The sizes of one image in the port's own order; None if they don't fit."""
    channels, *sides = shape
    known = [d.get_length() if d.is_static else -1 for d in port.get_partial_shape()]
    stated = _layout(port)
    last = stated == "NHWC" if stated in ("NCHW", "NHWC") else known[-1] == channels and known[1] != channels
    wanted = [*sides, channels] if last else [channels, *sides]
    fits = len(wanted) == len(known) - 1 and all(
        have in (-1, want) for have, want in zip(known[1:], wanted, strict=True)
    )
    return wanted if fits else None


def _reshape(model: Any, dims: Any, shape: list[int], reason: Callable[[Exception], str]) -> None:
    """Give the inputs their sizes.

    Raises:
        GraphError: The graph does not take images of that size.
    """
    try:
        model.reshape(dims)
    except Exception as error:
        raise GraphError(
            f"does not take images of --input-shape {','.join(map(str, shape))} ({reason(error)})"
        ) from None


def layout(model: Any) -> str:
    """The layout that the file states for its image, such as NCHW; "" if it states none, or not of every dimension."""
    ports = [port for port in model.inputs if _rank(port) == 4]
    stated = _layout(ports[0]) if len(ports) == 1 else ""
    return stated if sorted(stated) == sorted("NCHW") else ""


def _layout(port: Any) -> str:
    return "".join(c for c in str(port.get_node().layout) if c not in "[], ")


def _rank(port: Any) -> int:
    shape = port.get_partial_shape()
    return len(shape) if shape.rank.is_static else -1


def _first_resize(port: Any) -> tuple[Any, list[int]]:
    """The resize among the graph's first steps, and the sizes after it in the input's order; None if there is none."""
    order, value = [0, 1, 2, 3], port
    while len(value.get_target_inputs()) == 1:
        [target] = value.get_target_inputs()
        node = target.get_node()
        kind = node.get_type_name()
        others = [node.input_value(i).get_node().get_type_name() for i in range(1, node.get_input_size())]
        shape = node.get_output_partial_shape(0)
        if set(others) - {"Constant"} or not shape.rank.is_static or len(shape) != 4 or target.get_index() != 0:
            return None, []
        if kind == "Transpose":
            order = [order[int(a)] for a in node.input_value(1).get_node().get_data()]
        if kind == "Interpolate":
            sizes = [0] * 4
            for axis, dim in zip(order[1:], shape[1:], strict=False):
                if not dim.is_static:
                    return None, []
                sizes[axis] = dim.get_length()
            return node, sizes
        if kind not in _STEPS:
            return None, []
        value = node.output(0)
    return None, []

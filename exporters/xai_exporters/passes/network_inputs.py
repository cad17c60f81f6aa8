"""A network's inputs: the image that is explained, what is given beside it at run time, and constants that are built in."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from xai_deploy.foundation.arrays import read_npy

from ..errors import GraphError, RequestError
from ..graph.layouts import input_layout
from ..graph.reading import ancestors, opset_of
from ..request import Request, layer_names

log = logging.getLogger(__name__)

ARRAY = "array"
_EXPAND = 8  # the opset that brought the operator
FILE_LIMIT = 1 << 30
"""Bytes of a constant's file."""
_IMAGE = re.compile(r"(.*?)((?::\w+=[^:]*)*)")  # NAME:KEY=VALUE:KEY=VALUE; a name may hold colons
_ARRAY = re.compile(rf"(.*)={ARRAY}(?::([x\d]+)(?::\w+)?)?")  # torch's sources need the shape
_IMAGE_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.UINT8)
_TYPES = frozenset("buif")
ADVICE = "--input NAME=FILE.npy or --input NAME=NUMBER builds it in, --input NAME=array leaves it to be given with each image"


@dataclass(frozen=True)
class Asked:
    """What the request says of a network's inputs, by their names in the source.

    Attributes:
        explain: The image input that is explained; None: the first.
        images: Further image inputs, and what is stated of their preprocessing as text.
        arrays: Inputs that are no images, and what is stated of their shape as text, "" for nothing.
        order: The names of all inputs in the source's order, if an earlier pass has changed it.
        memory: As `memory` of `bounded.require_bounded`.
    """

    explain: str | None = None
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    memory: int = Request.memory


def explained_images(request: Request) -> tuple[str, ...]:
    """The image inputs that `explain_input` names: the one that is explained first; none if it names none."""
    return () if request.explain_input is None else layer_names(request.explain_input)


def asked_of(request: Request) -> Asked:
    """What the request says of the inputs that stay.

    Raises:
        RequestError: An option is not written as it should be.
    """
    images: dict[str, Mapping[str, str]] = {}
    for text in request.input_image:
        found = _IMAGE.fullmatch(text)
        assert found is not None  # the name may be any text
        pairs = [pair.partition("=") for pair in found[2].split(":")[1:]]
        if not found[1] or found[1] in images:
            raise RequestError(f"--input-image takes NAME or NAME:KEY=VALUE, each name once; got {text!r}")
        images[found[1]] = {key: value for key, _, value in pairs}
    found_arrays = [found for text in request.input if (found := _ARRAY.fullmatch(text)) is not None]
    arrays = {found[1]: found[2] or "" for found in found_arrays}
    return Asked(next(iter(explained_images(request)), None), images, arrays, memory=request.memory)


def free_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights; before IR version 4 every initializer is an input, too."""
    weights = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in weights]


@dataclass(frozen=True)
class Constant:
    """What is built in for an input.

    Attributes:
        array: Its value, in the input's type.
        each: It is one row, [1, ...], which is repeated for each image.
    """

    array: NDArray[Any]
    each: bool


def constants_of(proto: onnx.ModelProto, request: Request) -> dict[str, Constant]:
    """The inputs that the request gives as constants, by name.

    Raises:
        RequestError: A name is no input's, or a value does not fit its input.
    """
    inputs = {value.name: value for value in free_inputs(proto.graph)}
    constants: dict[str, NDArray[Any]] = {}
    for text in request.input:
        # a name may hold =, as a file's may
        name = next((name for name in sorted(inputs, key=len, reverse=True) if text.startswith(f"{name}=")), None)
        if name is None:
            raise RequestError(f"--input {text}: is not NAME=VALUE for one of the inputs {', '.join(inputs)}")
        if name in constants:
            raise RequestError(f"--input {text}: {name!r} is given twice")
        value = text[len(name) + 1 :]
        if _ARRAY.fullmatch(text) is None:
            constants[name] = _constant(value, inputs[name])
    images = [value for name, value in inputs.items() if name not in constants and _dims(value) > 3]
    repeats = bool(images) and _is_open(images[0]) and opset_of(proto) >= _EXPAND
    return {
        name: Constant(array, repeats and array.shape[:1] == (1,) and _is_open(inputs[name]))
        for name, array in constants.items()
    }


def build_in(proto: onnx.ModelProto, constants: Mapping[str, Constant]) -> onnx.ModelProto:
    """The network with constants in place of some inputs; itself if there are none."""
    if not constants:
        return proto
    built: onnx.ModelProto = onnx.ModelProto.FromString(proto.SerializeToString())
    kept = [value for value in built.graph.input if value.name not in constants]
    del built.graph.input[:]
    built.graph.input.extend(kept)
    image = next((value.name for value in free_inputs(built.graph) if _dims(value) > 3), "")
    for name, constant in constants.items():
        if constant.each:
            _for_each(built.graph, image, name, constant.array)
        else:
            built.graph.initializer.append(numpy_helper.from_array(constant.array, name))
    return built


def _dims(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)


def _is_open(value: onnx.ValueInfoProto) -> bool:
    """Whether an input's first dimension is any number of images."""
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and not dims[0].dim_value


def _for_each(graph: onnx.GraphProto, image: str, name: str, array: NDArray[Any]) -> None:
    """Put one row in place of an input: as many copies of it as there are images."""
    inner = {what: f"{name}/{what}" for what in ("row", "first", "rest", "sizes", "count", "shape")}
    for what, value in (("row", array), ("first", np.array([0])), ("rest", np.array(array.shape[1:], np.int64))):
        graph.initializer.append(numpy_helper.from_array(value, inner[what]))
    nodes = [
        helper.make_node("Shape", [image], [inner["sizes"]], name=inner["sizes"]),
        helper.make_node("Gather", [inner["sizes"], inner["first"]], [inner["count"]], name=inner["count"]),
        helper.make_node("Concat", [inner["count"], inner["rest"]], [inner["shape"]], name=inner["shape"], axis=0),
        helper.make_node("Expand", [inner["row"], inner["shape"]], [name], name=name),
    ]
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own])


def _constant(text: str, value: onnx.ValueInfoProto) -> NDArray[Any]:
    """The array of a file or a number, in the input's type and shape.

    Raises:
        RequestError: It does not fit.
    """
    said = f"--input {value.name}={text}"
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    shown = f"[{', '.join('?' if d is None else str(d) for d in dims)}]"
    if not kind.elem_type or kind.elem_type == onnx.TensorProto.STRING:
        raise RequestError(f"{said}: the input is no tensor of numbers")
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if text.endswith(".npy"):
        array = read_npy(Path(text), FILE_LIMIT, said, RequestError)
        if array.dtype.kind not in _TYPES:
            raise RequestError(f"{said}: holds {array.dtype}, no numbers")
        if array.ndim != len(dims) or any(d not in (None, n) for d, n in zip(dims, array.shape, strict=True)):
            raise RequestError(f"{said}: holds {list(array.shape)}, but the input is {shown}")
    else:
        try:
            array = np.array(float(text))
        except ValueError:
            raise RequestError(f"{said}: is neither a .npy file, nor a number, nor {ARRAY!r}") from None
        # a number fills an input of known sizes; a batch that is open counts as 1
        sizes = [1 if d is None and i == 0 else d or 0 for i, d in enumerate(dims)]
        if 0 in sizes:
            raise RequestError(f"{said}: the input is {shown}, whose sizes are open; give a .npy file")
        array = np.full(sizes, array)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    exact = cast.dtype.kind not in "biu" or np.array_equal(cast, array)
    if not exact or not np.isfinite(cast.astype(np.float64)).all():
        raise RequestError(f"{said}: the input holds {cast.dtype}, which can't be these numbers")
    return cast


def order_inputs(graph: ir.Graph, asked: Asked) -> tuple[str, ...]:
    """Put the image that is explained before the other inputs.

    Returns:
        Their names in the order that they had.

    Raises:
        RequestError: A name is no input's.
        GraphError: There is no input.
    """
    names = {str(value.name): value for value in graph.inputs}
    if not names:
        raise GraphError("the network has 0 inputs (none); xai-export explains networks of images")
    for option, given in (("--input-image", asked.images), ("--input", asked.arrays)):
        if unknown := next((name for name in given if name not in names), None):
            raise RequestError(f"{option} {unknown}: the network has no such input; it has {', '.join(names)}")
    images = [name for name, value in names.items() if name not in asked.arrays and _rank(value) in (4, 5)]
    explain = asked.explain or next(iter([*images, *names]))
    if explain not in names or explain in asked.arrays:
        raise RequestError(f"--explain-input {explain}: is no image input; there are {', '.join(images) or 'none'}")
    first = names[explain]
    others = [value for value in graph.inputs if value is not first]
    graph.inputs.clear()
    graph.inputs.extend([first, *others])
    return asked.order or tuple(names)


def bind_further(
    graph: ir.Graph, image_shape: tuple[int, ...], asked: Asked, order: tuple[str, ...]
) -> tuple[str, ...]:
    """Bind the sizes of the inputs after the first.

    Args:
        graph: The graph, its first input bound.
        image_shape: The shape of one image.
        asked: What the request says. Of images of which it says nothing, all have the preprocessing that is asked for the first.
        order: The names of all inputs in the source's order.

    Returns:
        The names of those that are images.

    Raises:
        GraphError: An input can't be given with each image, or may be an image and nobody says so.
        RequestError: A stated size does not fit.
    """
    image, *further = graph.inputs
    images, unsaid = [], {} if image.name in asked.images else {str(image.name): _channels(image, image_shape)}
    for value in further:
        name = str(value.name)
        if value.dtype is None or value.dtype == ir.DataType.STRING or value.dtype.numpy().kind not in _TYPES:
            raise GraphError(f"the input {name!r} holds {value.dtype}, no numbers; {ADVICE}")
        stated = asked.images.get(name)
        of_array = {"shape": asked.arrays[name]} if asked.arrays.get(name) else {}
        said = f"--input {name}={ARRAY}" if name in asked.arrays else f"--input-image {name}"
        sizes = _sizes(value, image, image_shape, stated or of_array, said)
        value.shape = ir.Shape([image.shape[0] if image.shape is not None else "N", *sizes])
        if name in asked.arrays:
            continue
        if stated is not None:
            if len(sizes) != len(image_shape) or value.dtype not in _IMAGE_TYPES:
                raise RequestError(
                    f"--input-image {name}: the input is {value.dtype} {list(sizes)}, no image like {image.name!r}"
                )
            images.append(name)
        elif len(sizes) == len(image_shape) and value.dtype in _IMAGE_TYPES:
            images.append(name)
            unsaid[name] = _channels(value, sizes)
    alike = [unsaid[name] for name in order if name in unsaid]
    if odd := next((name for name, channels in unsaid.items() if channels != alike[0]), None):
        count = f"{unsaid[odd]} channel{'s' * (unsaid[odd] != 1)}"
        raise GraphError(
            f"the input {odd!r} ({count}) may be an image: state how its pixels are prepared, as in "
            f"--input-image {odd}:preprocess=unit, or say --input {odd}={ARRAY} if it is none"
        )
    return tuple(images)


def _channels(value: ir.Value, shape: tuple[int, ...]) -> int:
    return shape[input_layout(value, shape).index("C") - 1]


def stated_shape(stated: Mapping[str, str], rank: int, said: str) -> tuple[int, ...] | None:
    """The shape that an option, `said`, states for one image's part of an input; None if it states none.

    Raises:
        RequestError: It is no shape of that many sizes.
    """
    if "shape" not in stated:
        return None
    try:
        wanted = tuple(int(size) for size in re.split("[x,]", stated["shape"]))
    except ValueError:
        wanted = ()
    if len(wanted) != rank or min(wanted) < 1:
        sizes = "C x H x W" if rank == 3 else f"{rank} size{'s' * (rank != 1)}"
        raise RequestError(f"{said}: the shape is {sizes}, as in {'x'.join('132'[:rank])}; got {stated['shape']!r}")
    return wanted


def _sizes(
    value: ir.Value, image: ir.Value, image_shape: tuple[int, ...], stated: Mapping[str, str], said: str
) -> tuple[int, ...]:
    """The shape of one image's part of an input.

    Raises:
        GraphError: It has none.
        RequestError: The stated shape does not fit.
    """
    assert image.shape is not None
    shown = "of unknown shape" if value.shape is None else f"[{', '.join(str(d) for d in value.shape.dims)}]"
    if value.shape is None or len(value.shape) == 0:
        raise GraphError(
            f"the input {value.name!r} {shown} has no row for each image; {ADVICE.partition(', --input')[0]}"
        )
    first, own = value.shape[0], image.shape[0]
    if isinstance(first, int) != isinstance(own, int) or (isinstance(first, int) and first != own):
        raise GraphError(
            f"the input {value.name!r} {shown} has no row for each image, as {image.name!r} has; "
            f"{ADVICE.partition(', --input')[0]}"
        )
    dims: list[int | None] = [d if isinstance(d, int) and d > 0 else None for d in value.shape.dims[1:]]
    wanted = stated_shape(stated, len(dims), said)
    if wanted is not None:
        last = len(wanted) > 2 and dims[-1] == wanted[0] and dims[0] != wanted[0]
        wanted = (*wanted[1:], wanted[0]) if last else wanted
        if any(have not in (None, want) for have, want in zip(dims, wanted, strict=True)):
            raise RequestError(f"{said}: the input is {shown}, not {stated['shape']}")
        dims = list(wanted)
    elif len(dims) == len(image_shape):
        dims = [have or like for have, like in zip(dims, image_shape, strict=True)]
    if None in dims:
        raise GraphError(
            f"the input {value.name!r} {shown} has open sizes; export it with fixed ones, or {ADVICE.partition(', --input')[0]}"
        )
    return tuple(d for d in dims if d is not None)


def drop_unused_inputs(graph: ir.Graph, ends: Iterable[ir.Value]) -> None:
    """Remove inputs after the first that nothing needs: a runtime may leave them out, too."""
    needed = ancestors(ends)
    for value in list(graph.inputs)[1:]:
        if value not in needed:
            log.info("the input %r is not used", value.name)
            graph.inputs.remove(value)


def probes(value: ir.Value, count: int, seed: int) -> NDArray[Any]:
    """Values for an input that is no image, [count, ...]: floats from 0 to 1, or 0 and 1."""
    assert value.shape is not None
    assert value.dtype is not None
    shape = (count, *(int(str(d)) for d in value.shape.dims[1:]))
    rng = np.random.default_rng(seed)
    kind = value.dtype.numpy()
    drawn = rng.random(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
    return np.asarray(drawn).astype(kind)


def _rank(value: ir.Value) -> int:
    return 0 if value.shape is None else len(value.shape)


def numbers_of(value: ir.Value) -> int:
    """How many numbers one image's part of a bound input has."""
    assert value.shape is not None
    return math.prod(int(str(d)) for d in value.shape.dims[1:])

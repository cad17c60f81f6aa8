"""A map that the network itself makes, beside its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import onnx_ir as ir

from xai_deploy.format.bundle import OWN_MAP

from ..cut.layer import find_layer
from ..cut.split import whole
from ..errors import GraphError, LayerError
from ..graph.emit import Emitter
from ..graph.measure import batch_of
from ..request import Request
from .material import Material
from .role import Kind, Role, kinds


def _roles(request: Request) -> Iterator[Role]:
    if request.map is not None:
        yield Role("own-map", partial(_build, name=request.map), "image", needs_layer=False, asked=True)


def _build(material: Material, name: str) -> ir.Graph:
    """Image -> the tail's outputs and `own_map` [N,h,w] float32.

    Raises:
        LayerError: There is no tensor of this name.
        GraphError: It is no map.
    """
    clean = material.clean
    try:
        value, _ = find_layer(clean.graph, name)
    except LayerError as error:
        raise LayerError(f"--map: {error}") from None
    shape = clean.shapes.per_image(value.name)
    sizes = [d for d in shape or () if d != 1]
    fits = shape is not None and 2 <= len(shape) <= 3 and len(sizes) == 2
    if not fits or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        said = ", ".join("?" if d is None else str(d) for d in clean.shapes.dims(value)[1:])
        raise GraphError(f"--map {name}: the tensor has shape [N, {said}]; a map is floats [N, 1, h, w] or [N, h, w]")
    graph = whole(clean, material.cut, material.logits, value, ()).tail
    [last] = [v for v in graph.outputs if v.name == value.name] or [graph.outputs[-1]]
    emit = Emitter(graph, OWN_MAP)
    flat = emit.node("Reshape", [last, emit.ints([-1, *sizes], "shape")], "reshaped")
    result = emit.node("Cast", [flat], "map", {"to": int(ir.DataType.FLOAT)})
    own = [str(v.name) for v in material.parts.tail.outputs]
    if last.name not in own:
        graph.outputs.remove(last)
    result.name = OWN_MAP
    result.shape = ir.Shape([batch_of(graph.inputs[0]), *sizes])
    result.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(result)
    graph.sort()
    return graph


kinds.register("own map")(Kind(place=45, roles=_roles))

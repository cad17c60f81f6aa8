"""What a bundle's manifest says about an export: input, layer, outputs, graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import (
    FORMAT,
    LEVELS,
    FurtherInputs,
    Graph,
    Input,
    Level,
    Manifest,
    Output,
    Port,
    TargetLayer,
)
from xai_deploy.format.rows import CHOICES, OBJECTNESS, ROWS
from xai_deploy.foundation.printable import printable
from xai_deploy.version import __version__

from ..cut.plan import Cut, side_tensors_of
from ..errors import GraphError, RequestError
from ..graph.layouts import input_layout
from ..graph.measure import IMAGE
from ..passes.clean import CleanGraph
from ..passes.network_inputs import asked_of
from ..request import Request
from ..roles.material import Material
from ..roles.plan import RolePlan
from ..roles.role import SHARE, Role
from ..sources import TrainedNetwork
from .preprocess import describe_input, image_request, unstated
from .recipes import Ask

_TYPES = (np.float32, np.float16, np.uint8)
_TAKE_FLOATS = "quantise the network with an input of floats (TensorFlow: converter.inference_input_type = tf.float32)"


def image_input(request: Request, network: TrainedNetwork, clean: CleanGraph) -> Input:
    """The network's input, and the preprocessing of its images.

    Raises:
        GraphError: Its element type is none that images have.
        RequestError: The preprocessing does not fit it.
    """
    image = clean.graph.inputs[0]
    if image.dtype is None or image.dtype.numpy() not in _TYPES:
        codes = image.dtype is not None and image.dtype.is_integer()
        raise GraphError(
            f"the input {image.name!r} holds {image.dtype}; images are float32, float16 or uint8: "
            f"{_TAKE_FLOATS if codes else 'export the network in float32'}"
        )
    name = str(image.name)
    stated = asked_of(request).images.get(name.removeprefix(IMAGE), {})
    ours, default = image_request(request, name, stated), network.preprocess if not stated else None
    layout = input_layout(image, clean.image_shape)
    described = describe_input(ours, name, image.dtype.numpy().name, clean.image_shape, layout, default)
    if described.preprocess.resize == "letterbox" and request.embed_preprocess:
        raise RequestError(
            "--embed-preprocess: a letterbox is not made there yet; give --resize stretch, or leave --embed-preprocess out"
        )
    if request.web is not None and described.preprocess.color == "CHANNELS":
        raise RequestError(
            f"--web: the page explains photos; the network takes images of {described.channels} channels"
        )
    return described


def further_inputs(request: Request, network: TrainedNetwork, clean: CleanGraph) -> FurtherInputs:
    """What the network takes beside the image that is explained.

    Raises:
        RequestError: What is stated of an image does not fit it, or leaves its preprocessing open.
    """
    images, arrays, asked = [], [], asked_of(request)
    if request.web is not None and len(clean.graph.inputs) > 1:
        raise RequestError("--web: the page gives the network one image, and this one takes more")
    if request.embed_preprocess and clean.images:
        raise RequestError("--embed-preprocess: the network takes several images; prepare them outside the graph")
    for value in clean.graph.inputs[1:]:
        name, shape = str(value.name), clean.shapes.two[str(value.name)][1:]
        assert value.dtype is not None
        kind = value.dtype.numpy().name
        if name not in clean.images:
            arrays.append(Port(name, shape, kind))
            continue
        stated = asked.images.get(name.removeprefix(IMAGE), {})
        ours, default = image_request(request, name, stated), network.preprocess if not stated else None
        layout = input_layout(value, shape)
        if unstated(ours, kind, shape, layout, default) is not None:
            raise RequestError(
                f"--input-image {name}: state how its pixels are prepared, as in --input-image {name}:preprocess=unit"
            )
        images.append(describe_input(ours, name, kind, shape, layout, default))
    left = {str(value.name) for value in clean.graph.inputs}
    order = tuple(name for name in clean.images if name in left) if images else ()
    return FurtherInputs(tuple(images), tuple(arrays), order)


def settle(request: Request, network: TrainedNetwork, clean: CleanGraph, ask: Ask) -> Request:
    """The request with a recipe for the preprocessing, if nobody states one.

    Args:
        request: The export.
        network: The source, which may state one.
        clean: Its clean graph.
        ask: Gets the recipe from the user.

    Raises:
        PreprocessingError: From `ask`.
    """
    image = clean.graph.inputs[0]
    if image.dtype is None or image.dtype.numpy() not in _TYPES:
        return request  # `image_input` refuses it
    if str(image.name).removeprefix(IMAGE) in asked_of(request).images:
        return request  # it has its own statement
    layout = input_layout(image, clean.image_shape)
    missing = unstated(request, image.dtype.numpy().name, clean.image_shape, layout, network.preprocess)
    if missing is None:
        return request
    return replace(request, preprocess=ask(replace(missing, why=network.unused)))


def describe(request: Request, plan: RolePlan, material: Material, graphs: Mapping[str, ir.Graph]) -> Manifest:
    """The manifest, without what is known only after the graphs have run: precision, what was left out, files; and without labels.

    Args:
        request: The export.
        plan: Its roles.
        material: The network, cut.
        graphs: Role -> graph.
    """
    clean, cut, logits, parts = material.clean, material.cut, material.logits, material.parts
    roles, rows = plan.roles, logits.scores.rows
    features = {
        LEVELS: material.further,
        ROWS: rows,
        CHOICES: parts.chosen,
        OBJECTNESS: rows is not None and rows.objectness,
    }
    outputs = tuple(
        Output(
            name=str(value.name),
            tensor=parts.tensors[str(value.name)],
            # measured with two images; the manifest leaves the batch out
            shape=clean.shapes.two[str(value.name)][1:],
            kind=logits.kind if value is logits.output else "other",
        )
        for value in clean.graph.outputs
    )
    return Manifest(
        format=FORMAT,
        digest="",
        producer=f"xai-deploy-exporters {__version__}",
        name=printable(request.name or os.fsencode(request.source.stem).decode("utf-8", "replace")),
        input=material.image,
        target=_image_whole(material.image) if cut is None else _layer(cut),
        classes=logits.classes,
        activation=logits.activation,
        batch="any" if clean.reason is None else "one",
        outputs=outputs,
        graphs={role: _graph(roles[role], graph) for role, graph in graphs.items()},
        composites={role: composite for role in graphs if (composite := roles[role].composite) is not None},
        side=() if cut is None else tuple(side_tensors_of(cut, clean)),
        labels=None,
        requires=tuple(feature for feature, there in features.items() if there),
        explained=(logits.scores,),
        levels=tuple(Level(_layer(other), tuple(side_tensors_of(other, clean))) for other in material.further),
        further=material.beside,
    )


def _layer(cut: Cut) -> TargetLayer:
    assert cut.target.dtype is not None
    return TargetLayer(
        asked=cut.asked,
        tensor=str(cut.target.name),
        shape=cut.shape,  # type: ignore[arg-type]
        dtype=cut.target.dtype.numpy().name,  # type: ignore[arg-type]
        layout=cut.grid.layout,
        prefix_tokens=cut.grid.prefix,
        suffix_tokens=cut.grid.suffix,
        input=cut.input,
    )


def _image_whole(image: Input) -> TargetLayer:
    """What stands for the layer of a network that is not cut: its image."""
    dtype: Literal["float32", "float16"] = "float16" if image.dtype == "float16" else "float32"
    channels, height, width = image.channels, image.height, image.width
    if image.depth is None:
        return TargetLayer("", image.name, (channels, height, width), dtype)
    return TargetLayer("", image.name, (channels, image.depth, height, width), dtype)


def _graph(role: Role, graph: ir.Graph) -> Graph:
    """The manifest's entry for a graph."""
    takes, gives = (tuple(_port(value) for value in values) for values in (graph.inputs, graph.outputs))
    other = None if role.input is None else takes[0].name  # the walk goes to the first input
    share = graph.meta.get(SHARE)
    return Graph(f"{role.name}.onnx", graph.opset_imports[""], role.start, takes, gives, input=other, share=share)


def _port(value: ir.Value) -> Port:
    assert value.shape is not None
    assert value.dtype is not None
    # the first dimension is the batch; a size that is not known is None
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape[1:])
    return Port(str(value.name), sizes, value.dtype.numpy().name)

"""A network that suppresses boxes itself, with its list of boxes as one output of a fixed size."""

from __future__ import annotations

from dataclasses import replace

import onnx

from xai_deploy.format.rows import NMS_INSIDE

from ..cut.scores.listed import NMS, find_listed, rows_before, suppressed
from ..cut.scores.rows import gives_list
from ..passes.boxes_head import MOST
from ..passes.clean import CleanGraph, clean
from ..passes.network_inputs import asked_of
from ..passes.opset import to_common_opset
from ..request import Request
from ..sources import TrainedNetwork
from .labels import named

_UNHELD = "this list is not compared with {}: its length differs from image to image"


def with_best_boxes(
    network: TrainedNetwork, request: Request, graph: CleanGraph
) -> tuple[TrainedNetwork, Request, CleanGraph]:
    """The same with the head that `passes.boxes_head` describes, if the network gives a list of boxes; else as given.

    Args:
        network: The source.
        request: The export; its `output`, `task` and `decoder` are read.
        graph: The source's clean graph.

    Raises:
        RequestError, GraphError: See `gives_list` and `find_listed`.
    """
    asked = request.decoder == NMS_INSIDE or (request.output is None and request.task is None)
    if not asked or not gives_list(graph, request.decoder, named(request, network)):
        return _without_lists(network, request, graph)
    listed = find_listed(graph)
    proto = onnx.ModelProto.FromString(to_common_opset(network.untapped).SerializeToString())
    name = listed.add_head(proto)
    order = "top, left, bottom, right" if listed.top_first else "left, top, right, bottom"
    given = f"{', '.join(listed.outputs)}; {order}"
    note = f"the boxes that the network's own {NMS} chose ({given}) are read as rows, the best {MOST} of them"
    rows = rows_before(graph) & {name for node in network.proto.graph.node for name in node.output}
    note += f"; gradients reach what it chooses from: --output {rows.pop()} --decoder NAME" if len(rows) == 1 else ""
    unheld = () if network.reference is None else (_UNHELD.format(network.framework),)
    network = replace(network, proto=proto, taps={}, reference=None, notes=(*network.notes, note, *unheld))
    request = replace(request, output=name, decoder=NMS_INSIDE)
    why = f"how many boxes {NMS} chooses depends on the image"
    return network, request, clean(proto, request.input_shape, why, asked_of(request))


def _without_lists(
    network: TrainedNetwork, request: Request, graph: CleanGraph
) -> tuple[TrainedNetwork, Request, CleanGraph]:
    """The same without outputs that a suppression chose, beside what is explained: with them it takes one image at a time."""
    after = suppressed(graph.graph)
    lists = {str(value.name) for value in graph.graph.outputs if value in after}
    if not lists or len(lists) == len(graph.graph.outputs) or request.output in lists:
        return network, request, graph
    proto = onnx.ModelProto.FromString(network.proto.SerializeToString())
    kept = [value for value in proto.graph.output if value.name not in lists]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    given = f"the list that the network's own {NMS} chose ({', '.join(sorted(lists))})"
    note = f"{given} is left out: the bundle gives what it chooses from, and chooses when it explains"
    network = replace(network, proto=proto, notes=(*network.notes, note))
    return network, request, clean(proto, request.input_shape, None, asked_of(request))

"""A method as one graph: image (and target) -> the network's own outputs and `saliency_map`."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir
import onnx_ir.passes.common as common

from xai_deploy.format.bundle import ROW, SALIENCY, TARGET, VERSUS, VERSUS_ROW, VERSUS_WHERE
from xai_deploy.foundation.options import options_of

from ...errors import GraphError
from ...graph.measure import batch_of
from ...graph.writing import IR_VERSION, rename
from ...passes.clean import free_name
from ...relevance.composite import composite_name
from ...request import Request
from ..material import Material
from .all_classes import Classes
from .boxes import confusing, model_api_boxes
from .detector import DetectorNet
from .embed import embed_preprocess
from .fused_method import Wanted
from .net import REGION, Net
from .together import Size, levels_of, map_of, stretched

log = logging.getLogger(__name__)

RAW = "saliency_raw"
"""The tensor of the map before min-max. No file gives it as an output; the page's copies do."""

SCORES = "saliency_scores"
"""The tensor of the region's score for each class, [N,1,classes], of dense scores, or a detector's rows, [N,entries,rows].

It is given as `RAW` is. Rows are kept in the files of a bundle with a page only."""


@dataclass(frozen=True)
class Form:
    """What a fused file looks like from outside.

    Attributes:
        fixed_target: No input `target`: always the predicted class.
        input_size: The map is resized to the network's input; otherwise it has the size that the method gives.
        uint8: The map in 0-255, rounded; otherwise float32 in [0,1].
        embed_preprocess: The image as uint8 [N,height,width,C] of any size, preprocessed in the graph.
        page: A page reads it: it keeps a detector's rows, whether or not its outputs need them.
        all_classes: A map of each class; no input `target`.
        boxes: A detector also gives its boxes as OpenVINO Model API reads them, see `boxes`.
        versus: A further input `versus`, the class that is subtracted; in a region or a row, which is one more.
    """

    fixed_target: bool = False
    input_size: bool = False
    uint8: bool = False
    embed_preprocess: bool = False
    page: bool = False
    all_classes: bool = False
    boxes: bool = False
    versus: bool = False


def form_of(request: Request) -> Form:
    """The form of the fused files that a request asks for."""
    fixed, page, every = request.fixed_target, request.web is not None, request.all_classes
    size, embed = request.map_size == "input", request.embed_preprocess
    return Form(fixed, size, request.uint8, embed, page, every, versus=request.versus)


def fused_graph(material: Material, wanted: Wanted, form: Form) -> ir.Graph:
    """The graph of one method.

    Inputs: the image under its own name, and, unless the target is fixed, `target` int64 [N] (-1: the predicted class; a number
    that is no class gives a map of zeros). With dense scores also `where` float32 [N,H,W], the region; -1 is then the class with
    the highest mean score in it. With a detector also `row` int64 [N]; -1 is then the best row of the class `target`, and
    of all rows if that is -1, too. An embedding has `reference` float32 [N,D] in place of `target`. Of other numbers, `target` k is
    the number k, and -2 - k the same in its other direction. If the form has it, `versus` int64 [N] is the class, or the number,
    whose score is subtracted; -1 is then the predicted one, and what is no class subtracts nothing. Its region is `versus_where`,
    its row `versus_row`, as `where` and `row` are the target's; an empty region and what is no row subtract nothing either.

    Outputs: the network's own under their own names, and `saliency_map` [N,h,w]; of all classes [N,K,h,w], without the inputs
    `target` and `row`.

    Raises:
        GraphError: The method is not defined for the network, the network is too large for one graph, or it has a name that the
            graph needs.
    """
    names = [str(v.name) for v in (*material.parts.head.inputs, *material.clean.graph.outputs)]
    kind = material.logits.scores.kind
    reserved = (
        SALIENCY,
        RAW,
        *(() if form.fixed_target or form.all_classes else (TARGET, ROW) if kind == "rows" else (TARGET,)),
        *(
            (VERSUS, *((VERSUS_WHERE,) if kind == "dense" else (VERSUS_ROW,) if kind == "rows" else ()))
            if form.versus
            else ()
        ),
    )
    for ours in (*reserved, SCORES) if kind == "dense" or (kind == "rows" and form.page) else reserved:
        if ours in names:
            raise GraphError(f"the network has an input or output called {ours!r}, as the fused graph has; rename it")
    if free_name(own := names[0].removeprefix("image/")) == names[0] != own:
        raise GraphError(f"the network's input is called {own!r}, a name that is reserved in bundles; rename it")
    if len(set(names)) < len(names):
        raise GraphError("an output of the network has the name of its input; rename it")
    levels = levels_of(material, wanted)
    classes = Classes.of(material, wanted) if form.all_classes else None
    net = _begin(material, replace(form, fixed_target=form.fixed_target or form.all_classes))
    if classes is not None:
        classes.begin(net)
    raw, size = map_of(net, wanted, levels)
    if classes is not None:
        classes.end(net)
    scores = (
        net.tensors[REGION] if kind == "dense" else net.dense if form.page and isinstance(net, DetectorNet) else None
    )
    further, hidden = {_finish(net, raw, size, form, classes): SALIENCY}, {}
    if form.boxes and isinstance(net, DetectorNet):
        further, hidden = further | model_api_boxes(net), confusing(net)
    for name, why in hidden.items():
        log.warning("the IR has no output %r: OpenVINO Model API would take it for a box or a class %s", name, why)
    graph = _end(net, further, [] if scores is None else [scores], hidden)
    rename(graph, {raw: RAW} | ({} if scores is None else {scores: SCORES}))
    return graph


def plain_graph(material: Material, form: Form) -> ir.Graph:
    """The network alone: image -> its own outputs, under their own names."""
    net = _begin(material, form, bare=True)
    net.plain()
    return _end(net, {})


def _begin(material: Material, form: Form, bare: bool = False) -> Net:
    scores = material.logits.scores
    if form.versus and scores.normalised:
        raise GraphError(
            "--versus subtracts a class's score, and the network is explained by references: one may be the difference of two; "
            "leave it out"
        )
    if scores.kind == "rows" and not bare:
        net: Net = DetectorNet(material, form.fixed_target, form.versus)
    else:
        net = Net(material, form.fixed_target, bare, versus=form.versus and not bare)
    if form.embed_preprocess:
        embed_preprocess(net)
    return net


def notes(wanted: Wanted, form: Form, layer: str) -> dict[str, str]:
    """The metadata that the file holds about itself, for people who have it without its bundle."""
    options = options_of(wanted.method) | wanted.across
    if "composite" in options:
        options["composite"] = composite_name(options["composite"])  # a file's name, without its path
    return {
        "xai_method": wanted.name,
        "xai_options": json.dumps(options),
        "xai_layer": layer,
        "xai_target": "all" if form.all_classes else "predicted" if form.fixed_target else "input",
        "xai_signed": "yes" if wanted.method.signed else "no",
        "xai_at_pixels": "yes" if wanted.method.at_pixels else "no",
        "xai_preprocess": "embedded" if form.embed_preprocess else "outside",
    }


def _finish(net: Net, raw: ir.Value, own: Size, form: Form, classes: Classes | None) -> ir.Value:
    """Resize if the form asks for it, then min-max per image; see `stretched`."""
    size = net.size if form.input_size else own
    saliency = stretched(net, raw, own, size)
    dtype = ir.DataType.FLOAT
    if form.uint8:
        dtype = ir.DataType.UINT8
        saliency = net.op.Cast(net.op.Round(net.op.Mul(saliency, 255.0)), to=int(dtype))
    shape: list[int | str] = [batch_of(net.image), *size]
    if classes is not None:
        saliency, shape = classes.apart(net, saliency, size), [shape[0], classes.count, *size]
    saliency.shape, saliency.type = ir.Shape(shape), ir.TensorType(dtype)
    return saliency


def _end(
    net: Net, further: Mapping[ir.Value, str], kept: Sequence[ir.Value] = (), hidden: Collection[str] = ()
) -> ir.Graph:
    """The finished graph: the network's own outputs under their own names, but hidden ones, and further ones.

    `kept` stay inside it.
    """
    own = {name: tensor for name, tensor in net.material.parts.tensors.items() if name not in hidden}
    # tensor -> its name as an output
    names = {net.tensors[tensor]: name for name, tensor in own.items()} | dict(further)
    net.graph.outputs.extend(names)
    rename(net.graph, names)
    taken = {node.name for node in net.graph}
    for value, name in names.items():
        if (producer := value.producer()) is not None and name not in taken:
            producer.name = name  # tract names outputs after their nodes
    net.graph.outputs.extend(kept)
    common.RemoveUnusedNodesPass()(ir.Model(net.graph, ir_version=IR_VERSION))
    del net.graph.outputs[len(net.graph.outputs) - len(kept) :]
    net.graph.sort()
    return net.graph

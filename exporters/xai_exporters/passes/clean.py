"""Turn a source's graph into one that can be cut: standard operators, constants folded, one symbolic batch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from xai_deploy.errors import XaiError
from xai_deploy.format.bundle import RESERVED

from ..errors import BatchError, GraphError, RequestError
from ..graph.layouts import sides
from ..graph.measure import IMAGE, Measured, measure
from ..graph.positions.trace import Traced, trace
from ..graph.reading import content_of
from ..graph.writing import name_outputs
from .antialiased import write_antialiased
from .bounded import require_bounded
from .bounded_choices import bound_choices
from .clipped_pooling import clip_channel_windows, clip_poolings
from .coded_softmax import separate_softmaxes
from .control_flow import resolve_control_flow
from .counted_gather import reduce_counted_gathers
from .decompose import decompose
from .dynamic_batch import make_batch_dynamic
from .empty_parts import leave_out_empty_parts
from .fixed_values import fold_fixed_values
from .foldable import may_fold
from .listed_parts import write_parts
from .local_functions import inline_functions
from .network_inputs import Asked, bind_further, numbers_of, order_inputs
from .opset import OPSET
from .sequences import write_sequences
from .shape_arithmetic import reduce_shape_arithmetic
from .single_cell_weights import write_single_cell_weights
from .stated_padding import state_padding
from .stored_codes import store_codes
from .supported import require_standard_ops
from .weights_aside import read_at_common_opset
from .written_quantisers import mark_quantisers
from .written_softmax import write_softmaxes
from .zero_padded_pooling import separate_zero_padding

log = logging.getLogger(__name__)

_BY_RANGE = (
    "it is quantised by the range of its input at hand (DynamicQuantizeLinear), so in a batch an image's result would depend on "
    "the others"
)


@dataclass(frozen=True)
class CleanGraph:
    """A graph ready to be cut.

    Attributes:
        model: The model; its inputs have the batch "N", or 1 if it takes one image at a time.
        image_shape: The shape of one image in the network's own layout.
        shapes: The measured shapes of every tensor.
        batch: The value that holds the batch size, of shape [1], if shape arithmetic needs it; else None.
        was_fixed: Whether the source had a fixed batch.
        reason: Why it takes one image at a time; None if it takes several.
        images: The names of all image inputs in the source's order, if there are several. The graph's first input is the one that
            is explained.
    """

    model: ir.Model
    image_shape: tuple[int, ...]
    shapes: Measured
    batch: ir.Value | None
    was_fixed: bool
    reason: str | None = None
    images: tuple[str, ...] = ()

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    @cached_property
    def positions(self) -> dict[ir.Value, Traced]:
        """The position in the image of each tensor's elements."""
        return trace(self.graph, self.shapes, sides(self.graph.inputs[0], self.image_shape))

    def image_of(self, value: ir.Value) -> ir.Value:
        """The image input whose places a tensor shows: the first that reaches it, beginning with the one that is explained."""
        first, *further = self.graph.inputs
        images = [first, *(one for one in further if str(one.name) in self.images)]
        return next((one for one in images if value is one or value in content_of(one)), first)

    def traced(self, value: ir.Value) -> Traced | None:
        """As `positions`, in the image of the tensor's own (see `image_of`)."""
        image = self.image_of(value)
        if image is self.graph.inputs[0]:
            return self.positions.get(value)
        shape = self.shapes.two[str(image.name)][1:]
        return trace(self.graph, self.shapes, sides(image, shape), image).get(value)

    def copy(self) -> CleanGraph:
        """Another graph with the same weights, to be changed and cut apart from this one."""
        model = self.model.clone()
        shapes = replace(self.shapes, two=dict(self.shapes.two), three=dict(self.shapes.three))
        tensors = {v.name: v for node in model.graph for v in node.outputs}
        return replace(self, model=model, shapes=shapes, batch=None if self.batch is None else tensors[self.batch.name])


def clean(
    proto: onnx.ModelProto,
    input_shape: tuple[int, ...] | None,
    one_because: str | None = None,
    asked: Asked | None = None,
) -> CleanGraph:
    """Run all passes.

    Args:
        proto: The source as ONNX; not changed.
        input_shape: (C,H,W) asked for, (C,D,H,W) for volumes, or None.
        one_because: Why the network takes one image at a time; None if it is to take several. If it then does not run on
            several images, `clean` starts again for one image and gives the reason in the result.
        asked: What is said of the network's inputs; None: nothing.

    Raises:
        GraphError: The graph is damaged, or holds an operator or a shape that can't be handled.
        RequestError: The input's shape is not known, or not the one asked for.
        BatchError: The network takes exactly n images at once, and n is not 1.
    """
    try:
        return _clean(proto, input_shape, one_because, asked or Asked())
    except (XaiError, MemoryError):
        raise
    except Exception as error:  # onnx, onnx-ir and onnxscript raise errors of every kind on a damaged graph
        log.info("where it happened", exc_info=True)
        reason = " ".join(str(error).split())[:200]
        raise GraphError(
            f"the graph can't be brought into a common form ({type(error).__name__}: {reason}); check it with onnx.checker, and "
            "please report a graph that passes"
        ) from error


def _clean(
    proto: onnx.ModelProto, input_shape: tuple[int, ...] | None, one_because: str | None, asked: Asked
) -> CleanGraph:
    if proto.functions:  # before the opset's conversion, which drops them
        proto = inline_functions(proto)
    try:
        model = read_at_common_opset(proto)
    except (ir.serde.SerdeError, ValueError, TypeError) as error:
        raise GraphError(f"the ONNX graph is damaged: {' '.join(str(error).split())[:200]}") from error
    if one_because is None and any(node.op_type == "DynamicQuantizeLinear" for node in model.graph):
        one_because = _BY_RANGE
    _use_one_domain_name(model.graph)
    common.RemoveInitializersFromInputsPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    graph = model.graph
    order = order_inputs(graph, asked)
    image_shape = _bind_input(graph, input_shape)
    also = {*bind_further(graph, image_shape, asked, order), str(graph.inputs[0].name)}
    images = tuple(free_name(name) for name in order if name in also) if len(also) > 1 else ()
    write_parts(model)  # first, because onnxscript squeezes parts of given sizes if keepdims is 0
    write_sequences(model)
    if resolve_control_flow(model):
        _fold(model)
    if decompose(model) and graph.opset_imports[""] != OPSET:
        # without the operators that were fused ONNX's converter may bring the graph to the common opset
        return _clean(ir.to_proto(model), input_shape, one_because, replace(asked, order=order))
    image = graph.inputs[0]
    for value in graph.inputs:
        value.name = free_name(str(value.name))
    batch = image.shape[0] if image.shape is not None else None
    was_fixed = make_batch_dynamic(model, assume=one_because is None)
    if one_because is not None:
        _take_one(graph, batch, one_because)
    _forget_shapes(graph)
    _fold(model)
    if any([write_parts(model), write_sequences(model), store_codes(graph), write_softmaxes(graph)]):
        _fold(model)
    bound_choices(model)
    mark_quantisers(graph)
    require_standard_ops(model)
    common.NameFixPass()(model)
    for index, node in enumerate(graph):
        node.name = node.name or f"{node.op_type}_{index}"
    try:
        require_bounded(model, sum(map(numbers_of, graph.inputs)), asked.memory)
        shapes = measure(model)
        if one_because is None and was_fixed:
            _require_results_per_image(graph, shapes)
    except GraphError as error:
        if one_because is not None:
            raise
        # it does not run at batch 2 and 3: start again, for one image
        return _clean(proto, input_shape, " ".join(str(error).split())[:300], asked)
    shapes = _reduced(model, shapes)
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)  # for the element types; shapes are measured
    if any([separate_zero_padding(model), separate_softmaxes(model)]):
        shapes = measure(model)
    # shape arithmetic leaves this one Shape node at most
    batch_size = next((n.outputs[0] for n in graph if n.op_type == "Shape" and n.inputs[0] is image), None)
    return CleanGraph(model, image_shape, shapes, batch_size, was_fixed, one_because, images)


def _require_results_per_image(graph: ir.Graph, shapes: Measured) -> None:
    """Refuse a batch made symbolic that no output follows: regions of image 0 (RoiAlign) stay those of image 0.

    Raises:
        GraphError: No output has as many entries along its first axis as there are images.
    """
    if not any((shapes.two[str(v.name)][:1], shapes.three[str(v.name)][:1]) == ((2,), (3,)) for v in graph.outputs):
        raise GraphError("with several images no output gives a result for each of them")


def _take_one(graph: ir.Graph, batch: int | ir.SymbolicDim | None, because: str) -> None:
    """Let the inputs take one image at a time.

    Raises:
        BatchError: The source takes exactly n images at once, and n is not 1.
    """
    if isinstance(batch, int) and batch != 1:
        raise BatchError(
            f"the source takes exactly {batch} images at once, and neither one nor more of them; export it again with a "
            f"symbolic batch, or with a batch of 1. ({because})"
        )
    for value in graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape([1, *value.shape[1:]])


def _reduced(model: ir.Model, shapes: Measured) -> Measured:
    """The passes that need measured shapes; returns the shapes after them."""
    if reduce_shape_arithmetic(model, shapes):
        _fold(model)
        shapes = measure(model)
    if leave_out_empty_parts(model, shapes):
        _fold(model)
        shapes = measure(model)
    gathered = reduce_counted_gathers(model, shapes)
    if gathered:
        _fold(model)
    fixed = fold_fixed_values(model)
    if fixed:
        _fold(model)
    if gathered or fixed:
        shapes = measure(model)
    if write_antialiased(model, shapes):
        shapes = measure(model)
    if any(node.op_type in ("AveragePool", "LpPool") and node.outputs[0].dtype is None for node in model.graph):
        # a factor has the element type of its tensor; ONNX's shapes of poolings in ceil mode are wrong
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
        _forget_shapes(model.graph)
    clip_poolings(model, shapes)
    clip_channel_windows(model, shapes)
    state_padding(model, shapes)
    write_single_cell_weights(model, shapes)
    return shapes


def free_name(name: str) -> str:
    """The input's name in a bundle: a name that bundles reserve gets the prefix "image/"."""
    return f"{IMAGE}{name}" if name in RESERVED or name.startswith("side_") else name


def _fold(model: ir.Model) -> None:
    """Fold constants and drop unused nodes. QuantizeLinear and DequantizeLinear stay: they are part of the network's meaning."""
    from onnxscript import optimizer  # late: the processes that read files do not need it

    outputs = [str(v.name) for v in model.graph.outputs]
    optimizer.fold_constants(model, onnx_shape_inference=False, should_fold=may_fold)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.IdentityEliminationPass()(model)
    name_outputs(model.graph, outputs)
    common.RemoveUnusedNodesPass()(model)
    model.graph.sort()


def _use_one_domain_name(graph: ir.Graph) -> None:
    """The standard operators' domain has two names: "" and "ai.onnx"."""
    if "ai.onnx" in graph.opset_imports:
        graph.opset_imports[""] = graph.opset_imports.pop("ai.onnx")
    for node in graph:
        if node.domain == "ai.onnx":
            node.domain = ""


def _forget_shapes(graph: ir.Graph) -> None:
    """Drop recorded shapes of intermediate tensors and outputs: they may hold the old, fixed batch."""
    for node in graph:
        for value in node.outputs:
            value.shape = None


def _bind_input(graph: ir.Graph, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """Bind the image's size; returns one image's shape in the network's own layout."""
    image = graph.inputs[0]
    if image.shape is None or len(image.shape) not in (4, 5):
        raise GraphError(
            f"the input {image.name!r} has shape {image.shape}; an image input has four dimensions, a volume or a film five"
        )
    order = "C,H,W" if len(image.shape) == 4 else "C,D,H,W"
    dims = [d if isinstance(d, int) and d > 0 else None for d in image.shape.dims[1:]]
    if asked is not None:
        if len(asked) != len(dims):
            raise RequestError(
                f"--input-shape {','.join(map(str, asked))} does not fit the input {image.name!r} {image.shape}: give {order}"
            )
        # C is asked first: [N,H,W,C] if only the file's last dimension is C
        channels_last = dims[-1] == asked[0] and dims[0] != asked[0]
        frames_first = len(dims) == 4 and dims[1] == asked[0] and asked[0] not in (dims[0], dims[-1])
        wanted = (*asked[1:], asked[0]) if channels_last else asked
        wanted = (asked[1], asked[0], *asked[2:]) if frames_first else wanted
        for position, (have, want) in enumerate(zip(dims, wanted, strict=True), 1):
            if have is not None and have != want:
                raise RequestError(
                    f"--input-shape {','.join(map(str, asked))} does not fit the input {image.name!r} {image.shape}: "
                    f"dimension {position} is fixed to {have}"
                )
        bound = wanted
    elif None in dims:
        shape = f"[{','.join('?' if getattr(d, 'value', d) is None else str(d) for d in image.shape)}]"
        raise RequestError(
            f"the input {image.name!r} has shape {shape}; give the image's size with --input-shape {order}"
        )
    else:
        bound = tuple(d for d in dims if d is not None)
    image.shape = ir.Shape([image.shape[0], *bound])
    return bound

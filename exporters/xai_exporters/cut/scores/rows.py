"""Find the rows of a detector, and write them in one common form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import NMS_INSIDE, Grid

from ...errors import GraphError, RequestError
from ...graph.emit import Emitter, Ops
from ...graph.measure import measure
from ...passes.clean import CleanGraph
from .detectors.detector import UNNAMED, Detector, Names, Outputs, decoders, is_flat
from .grids import find_grids
from .listed import NMS, suppressed

AUTO = "auto"
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def find_detector(
    clean: CleanGraph, decoder: str, names: Names = UNNAMED, output: str | None = None
) -> Detector | None:
    """The detector that a network is; None if `auto` recognises none.

    Args:
        clean: The network.
        decoder: The name of one; "auto": the one that recognises it.
        names: How many classes are named.
        output: The output that the user names: of several scores of the same boxes the one to read.

    Raises:
        RequestError: There is no such decoder, or several recognise the network.
        GraphError: The decoder that was asked for does not recognise it.
    """
    after = suppressed(clean.graph) if decoder == AUTO else ()
    sizes = {value: clean.shapes.per_image(value.name) or () for value in clean.graph.outputs if value not in after}
    candidates, lists = (tuple(value for value, own in sizes.items() if len(own) == rank) for rank in (2, 1))
    flat = tuple(value for value, own in sizes.items() if is_flat(own))
    given = Outputs(clean, candidates, names, None if decoder == AUTO else decoder, output, flat, lists)
    if decoder != AUTO:
        recognise = decoders.get(decoder)
        if recognise is None:
            raise RequestError(f"--decoder: no {decoder!r}; there are {AUTO}, {', '.join(decoders)}")
        found = recognise(given) if candidates else None
        if found is None:
            if (damaged := next((value for value in candidates if not len(given.seen(value))), None)) is not None:
                raise not_finite(damaged)
            shapes = ", ".join(f"{v.name} {['N', *clean.shapes.two[str(v.name)][1:]]}" for v in clean.graph.outputs)
            raise GraphError(f"--decoder {decoder}: the outputs are not of this form: {shapes}")
        return found
    if not candidates:
        return None
    fitting = {name: found for name in decoders if (own := decoders.get(name)) and (found := own(given)) is not None}
    if len(fitting) > 1:
        raise RequestError(
            f"the outputs may be read in {len(fitting)} ways: {', '.join(fitting)}; choose one with --decoder"
        )
    return next(iter(fitting.values()), None)


def not_finite(output: ir.Value) -> GraphError:
    """Why nothing can be read from an output."""
    return GraphError(
        f"the output {output.name!r} holds NaN or infinity for nearly every image that was tried (noise, one colour, patterns): "
        "what it means can't be seen. Are the file's weights whole? Copy it again, or export it anew"
    )


def gives_list(clean: CleanGraph, decoder: str, names: Names = UNNAMED) -> bool:
    """Whether a network is to be read by the list of boxes that its own suppression chose; the arguments as for `find_detector`.

    Boxes and scores that it gives beside the list are read instead: gradients reach these.

    Raises:
        RequestError: It is asked for, and there is no such list.
    """
    after = suppressed(clean.graph)
    inside = any(value in after and value.dtype in _FLOATS for value in clean.graph.outputs)
    if decoder == NMS_INSIDE and not inside:
        raise RequestError(f"--decoder {NMS_INSIDE}: no output is computed from what a {NMS} of the graph chose")
    return inside and (decoder == NMS_INSIDE or (decoder == AUTO and find_detector(clean, AUTO, names) is None))


def write_rows(clean: CleanGraph, detector: Detector) -> tuple[ir.Value, tuple[Grid, ...]]:
    """Add the rows to the graph in their common form, [N,entries,rows] float32; their shape is measured. And where they lie."""
    op = Ops(Emitter(clean.graph, "rows"), "rows", np.dtype(np.float32))
    pieces = [
        piece if piece.dtype in (None, ir.DataType.FLOAT) else op.Cast(piece, to=int(ir.DataType.FLOAT))
        for piece in detector.pieces(op)
    ]
    value: ir.Value = op.Concat(*pieces, axis=1)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    clean.graph.sort()
    measured = measure(clean.model)
    clean.shapes.two.update(measured.two)
    clean.shapes.three.update(measured.three)
    return value, () if detector.rows.labelled else find_grids(clean, pieces[0])


def row_pieces(dense: ir.Value) -> list[ir.Value]:
    """What `write_rows` put together: the scores, the coordinates and, if rows state it, the class or objectness."""
    node = dense.producer()
    while node is not None and node.op_type != "Concat":
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    assert node is not None  # `write_rows` wrote it
    return [value for value in node.inputs if value is not None]

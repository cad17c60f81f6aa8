"""The page's networks: a bundle's fused graphs, which also give their maps before min-max, and scores of regions or rows."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from xai_deploy.format.bundle import REFERENCE, ROW, SALIENCY, TARGET, WHERE, Bundle, fused_method

from ...cut.scores.logits import explained
from ...errors import RequestError
from ...roles.fuse.graph import RAW, SCORES

FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
_NUMBERED = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)  # the class at each position, as ArgMax gives it


@dataclass(frozen=True)
class PageNetwork:
    """A method's network.

    Attributes:
        method: The method's name.
        data: The ONNX file.
        target: It takes what to explain; without it always explains the predicted class.
        signed: 0 is neutral in its map before min-max; see `Fused`.
        at_pixels: It goes back to the pixels.
        embedded: It takes images of any size, and preprocesses them.
        scores: The element type of the scores that it gives.
        quantised: It has codes, whose numbers ONNX Runtime's optimiser changes.
    """

    method: str
    data: bytes
    target: bool
    signed: bool
    at_pixels: bool
    embedded: bool
    scores: int
    quantised: bool

    @property
    def file(self) -> str:
        """Where it lies in the page's folder."""
        return f"networks/fused-{self.method}.onnx"


def networks(bundle: Bundle) -> list[PageNetwork]:
    """The networks of a bundle's fused graphs.

    Raises:
        RequestError: There is none, or one that the page can't run.
    """
    methods = {method: role for role in bundle.manifest.graphs if (method := fused_method(role)) is not None}
    if not methods:
        raise RequestError("--web needs fused graphs; name methods with --fuse, for example --fuse grad-cam")
    return [_network(bundle, method, bundle.graph(role)) for method, role in methods.items()]


def _network(bundle: Bundle, method: str, data: bytes) -> PageNetwork:
    spec, scores, kind = bundle.manifest.input, explained(bundle.manifest.outputs), bundle.manifest.scores.kind
    model = onnx.load_from_string(data)
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    readable = {"dense": (FLOAT, UINT8, *_NUMBERED), "vector": (FLOAT,)}.get(kind, (FLOAT, UINT8))
    for what, of, takes in (
        ("input", inputs[spec.name].elem_type, (FLOAT, UINT8)),
        ("scores", outputs[scores.name].elem_type, readable),
    ):
        if of not in takes and not (what == "scores" and kind == "rows"):  # the page reads the rows, not the output
            raise RequestError(
                f"--web: the network has {onnx.TensorProto.DataType.Name(of).lower()} {what}, and the page takes "
                f"{'float32' if takes == (FLOAT,) else 'float32 and uint8'} only; export the network in float32"
            )
    further = next((name for name in inputs if name not in (spec.name, TARGET, WHERE, ROW, REFERENCE)), None)
    if further is not None:
        raise RequestError(
            f"--web: the network takes {further!r} beside the picture, and the page gives the picture alone; build it in with "
            f"--input {further}=FILE"
        )
    notes = {note.key: note.value for note in model.metadata_props}
    raw = onnx.helper.make_tensor_value_info(RAW, FLOAT, [None, None, None])
    raw.type.tensor_type.shape.dim[0].CopyFrom(outputs[SALIENCY].shape.dim[0])
    model.graph.output.append(raw)
    of_regions: dict[str, tuple[int, ...]] = {
        "dense": (1, bundle.manifest.classes),
        "rows": bundle.manifest.scores.shape,
    }
    if kind in of_regions:
        shape = [outputs[SALIENCY].shape.dim[0].dim_param or 1, *of_regions[kind]]
        model.graph.output.append(onnx.helper.make_tensor_value_info(SCORES, FLOAT, shape))
    return PageNetwork(
        method,
        model.SerializeToString(deterministic=True),
        target=TARGET in inputs or REFERENCE in inputs,
        signed=notes.get("xai_signed") == "yes",
        at_pixels=notes.get("xai_at_pixels") == "yes",
        # only embedded preprocessing takes images of open height
        embedded=len(inputs[spec.name].shape.dim) == 4 and not inputs[spec.name].shape.dim[1].HasField("dim_value"),
        scores=outputs[scores.name].elem_type,
        quantised=any(node.op_type == "DequantizeLinear" for node in model.graph.node),
    )

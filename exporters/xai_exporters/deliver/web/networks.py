"""The page's networks: a bundle's fused graphs, which also give their maps before min-max."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from xai_deploy.format.bundle import SALIENCY, TARGET, Bundle, fused_method

from ...cut.scores.logits import explained
from ...errors import RequestError
from ...roles.fuse.graph import RAW

FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8


@dataclass(frozen=True)
class PageNetwork:
    """A method's network.

    Attributes:
        method: The method's name.
        data: The ONNX file.
        target: It takes the class to explain.
        signed: 0 is neutral in its map before min-max; see `Fused`.
        at_pixels: It goes back to the pixels.
        embedded: It takes images of any size, and preprocesses them.
        scores: The element type of the scores that it gives.
    """

    method: str
    data: bytes
    target: bool
    signed: bool
    at_pixels: bool
    embedded: bool
    scores: int

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
    spec, scores = bundle.manifest.input, explained(bundle.manifest.outputs)
    model = onnx.load_from_string(data)
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    for what, kind in (("input", inputs[spec.name].elem_type), ("scores", outputs[scores.name].elem_type)):
        if kind not in (FLOAT, UINT8):
            raise RequestError(
                f"--web: the network has {onnx.TensorProto.DataType.Name(kind).lower()} {what}, and the page takes "
                "float32 and uint8 only; export the network in float32"
            )
    notes = {note.key: note.value for note in model.metadata_props}
    raw = onnx.helper.make_tensor_value_info(RAW, FLOAT, [None, None, None])
    raw.type.tensor_type.shape.dim[0].CopyFrom(outputs[SALIENCY].shape.dim[0])
    model.graph.output.append(raw)
    return PageNetwork(
        method,
        model.SerializeToString(deterministic=True),
        target=TARGET in inputs,
        signed=notes.get("xai_signed") == "yes",
        at_pixels=notes.get("xai_at_pixels") == "yes",
        # only embedded preprocessing takes images of open height
        embedded=len(inputs[spec.name].shape.dim) == 4 and not inputs[spec.name].shape.dim[1].HasField("dim_value"),
        scores=outputs[scores.name].elem_type,
    )

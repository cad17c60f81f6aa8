"""Fused graphs as OpenVINO IR, annotated so that OpenVINO Model API reads their map.

Model API takes models with one input: those exported with a fixed target, or with the maps of all classes. Its wrapper
`ClassificationModel` returns the output `saliency_map` as `result.saliency_map`; of its detectors `SSD` alone does so (those of
YOLO take one output). The graph gives that one boxes as it reads them, see `roles.fuse.boxes`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from xai_deploy.detections import DetectionLimits
from xai_deploy.format.bundle import Input, Manifest
from xai_deploy.format.image_input import BORDER
from xai_deploy.foundation import runtimes

from ..errors import GraphError, RequestError

Kind = Literal["Classification", "SSD"]
"""Model API's wrapper for a network."""


def kind_of(manifest: Manifest, boxes: bool) -> Kind | None:
    """The wrapper of Model API that reads a network's fused file; None if none does.

    It would take the sigmoid of sigmoid outputs again; such a model is not marked as a classification.

    Args:
        manifest: The bundle's.
        boxes: The file has a detector's boxes as outputs.
    """
    if manifest.scores.rows is not None:
        return "SSD" if boxes else None
    return None if manifest.class_activation in ("sigmoid", "independent", "scores") else "Classification"


def require_openvino() -> None:
    """Refuse early if OpenVINO is not installed.

    Raises:
        RequestError: It is not installed.
    """
    try:
        runtimes.openvino()
    except ImportError:
        raise RequestError("--format openvino needs OpenVINO: pip install openvino") from None


def to_ir(model: bytes, image: Input, kind: Kind | None, labels: Sequence[str], embedded: bool) -> tuple[bytes, bytes]:
    """A fused graph as IR.

    Args:
        model: The ONNX file.
        image: The network's input.
        kind: Model API's wrapper for it.
        labels: One per class, or none.
        embedded: The graph holds the preprocessing.

    Returns:
        The .xml and the .bin file; the weights are not compressed to half precision.

    Raises:
        GraphError: OpenVINO can't read the graph.
    """
    openvino = runtimes.openvino()
    try:
        network = openvino.Core().read_model(model)
    except Exception as error:  # the runtime's exception types are not documented
        reason = " ".join(str(error).split())[:300]
        raise GraphError(f"OpenVINO can't read the fused graph: {reason}") from None
    [source] = [i for i in network.inputs if image.name in i.names]
    source.get_node().set_layout(openvino.Layout("NHWC" if embedded else image.layout))
    for number, node in enumerate(network.get_ordered_ops()):
        if re.fullmatch(rf"{node.get_type_name()}_[0-9]+", node.get_friendly_name()):
            # OpenVINO counts since the process began; numbered here, the same graph gives the same bytes
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
    if any(constant_of_codes(node) for node in network.get_ordered_ops()):
        network.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    for key, value in model_info(image, kind, labels, embedded).items():
        network.set_rt_info(value, ["model_info", key])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(network, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


_MODES = {"bicubic": "CUBIC", "nearest": "NEAREST"}
"""Model API's interpolation_mode; LINEAR is its own."""
_RESIZES = {"stretch": "standard", "letterbox": "fit_to_window_letterbox"}


def constant_of_codes(node: Any) -> bool:
    """Whether a node is a weight in 8 bits or fewer. OpenVINO then quantises the layer's input too, unless the file forbids it."""
    return bool(
        node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i8", "u8", "i4", "u4")
    )


def model_info(image: Input, kind: Kind | None, labels: Sequence[str], embedded: bool) -> dict[str, str]:
    """What Model API reads: how to preprocess an image as OpenCV reads it (BGR, 0-255), and what the scores are.

    Model API can't express a resize to more than the crop (256 to 224). It then crops the image to the shape of the input and
    resizes that, which shows the network more of the image. An input of any size (embedded preprocessing) gets images as they
    are: they have to be RGB, and nothing is written about channels (Model API 0.4.7 would not reverse them).
    """
    how = image.preprocess
    info: dict[str, str] = {}
    if kind is not None:
        info["model_type"] = kind
    if kind == "SSD":
        limits = DetectionLimits()
        info["confidence_threshold"], info["iou_threshold"] = str(limits.score), str(limits.overlap)
        info["nms_execute"], info["nms_max_predictions"] = "True", str(limits.most)
    if labels:
        info["labels"] = " ".join(re.sub(r"\s+", "_", label) for label in labels)
    if not embedded and image.depth is None:  # Model API prepares pictures alone
        # Model API has no stretch before a crop. "standard" stretches images alike; the part that a crop cuts off stays.
        info["resize_type"] = "crop" if isinstance(how.resize, int) else _RESIZES.get(str(how.resize), "standard")
        if (mode := _MODES.get(how.interpolation)) is not None:
            info["interpolation_mode"] = mode
        if how.resize == "letterbox":
            info["pad_value"] = str(BORDER)
        info["reverse_input_channels"] = str(how.color == "RGB")
        # (scale x - mean) / std = (x - mean / scale) / (std / scale)
        info["mean_values"] = " ".join(repr(m / how.scale) for m in how.mean)
        info["scale_values"] = " ".join(repr(s / how.scale) for s in how.std)
    return info

"""What the files beside an exported graph say of it: labels in config.json, the image processor in preprocessor_config.json.

Optimum and Optimum Intel write model.onnx and openvino_model.xml beside these files; on the hub, graphs often lie one folder below
(`onnx/`). A graph belongs to them if its image is called `pixel_values`, transformers' own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import ArchitectureError
from ..request import Request
from .configured import stated_by_module
from .image_processor import NAME as PROCESSOR
from .image_processor import stated_by_processor
from .source_file import TrainedNetwork
from .stated import Stated
from .torch_export import quiet
from .transformers_nets import class_names, offline, read_json

CONFIG = "config.json"
_IMAGE = "pixel_values"
_BELOW = ("onnx", "openvino")
"""Folders for graphs alone; what describes them lies above."""


def with_folder(network: TrainedNetwork, request: Request) -> TrainedNetwork:
    """The network with the labels and the preprocessing that stand beside its file, unless the file states its own.

    Args:
        network: The source's network.
        request: The export. With its own preprocessing and size nothing is asked of the image processor.

    Returns:
        The network; a file beside it that can't be used makes a note.
    """
    folder = request.source.absolute().parent
    if folder.name in _BELOW and not (folder / CONFIG).is_file():
        folder = folder.parent
    if _IMAGE not in [value.name for value in network.proto.graph.input] or not (folder / CONFIG).is_file():
        return network
    try:
        config = read_json(folder / CONFIG)
    except ArchitectureError as error:
        return replace(network, notes=(*network.notes, f"{error}; nothing of it is used."))
    if not network.labels:
        network = replace(network, labels=class_names(config), labels_from=f"{folder / CONFIG}, 'id2label'")
    own = request.preprocess not in (None, "assume") and request.input_shape is not None
    if own or isinstance(network.preprocess, Stated):
        return network
    stated = _stated(folder, config)
    if isinstance(stated, str):
        return replace(network, unused=stated.removesuffix("."))
    return network if stated is None else replace(network, preprocess=stated)


def _stated(folder: Path, config: Mapping[str, Any]) -> Stated | str | None:
    """The preprocessing that the folder states; None if it states none; or a line for people why it can't be used."""
    if isinstance(cfg := config.get("pretrained_cfg"), Mapping):
        by_timm = stated_by_module(SimpleNamespace(pretrained_cfg=cfg))
        return None if by_timm is None else replace(by_timm, where=str(folder / CONFIG), sure=True)
    if not (folder / PROCESSOR).is_file():
        return None
    try:
        import transformers
    except ImportError:
        return f"{folder / PROCESSOR} states it, and is read by transformers: pip install transformers"
    with offline(), quiet():
        return stated_by_processor(folder, transformers)

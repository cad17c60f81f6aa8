"""A file of TFLite or TensorFlow with all its tensors as outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..tensorflow import exposed
from ..tflite.model import TFLite

READERS = ("tflite", "tf")
"""OpenVINO's readers that lose the names of nodes."""


def all_as_outputs(reader: Any, frontend: str, file: Path, folder: Path) -> tuple[Any, dict[str, str]]:
    """The model, and the name of the node that gives a tensor, by the tensor's name.

    Args:
        reader: OpenVINO's for the format.
        frontend: The reader's name, one of `READERS`.
        file: The file; for a SavedModel its folder.
        folder: A folder of ours, for a SavedModel that gives more.

    Raises:
        ValueError: The file is damaged.
    """
    if file.is_dir():
        data, names = exposed.expose((file / exposed.FILE).read_bytes())
        (folder / exposed.FILE).write_bytes(data)
        if (file / exposed.VARIABLES).exists():
            (folder / exposed.VARIABLES).symlink_to(file / exposed.VARIABLES, target_is_directory=True)
        return reader.convert(reader.load(str(folder))), names
    if frontend == "tflite":
        names = {name: name for name in TFLite(file.read_bytes()).given() if name}
    else:
        names = {f"{name}:0": name for name in exposed.nodes(file.read_bytes())}
    model = reader.load(str(file))
    places = [place for name in names if (place := model.get_place_by_tensor_name(name)) is not None]
    if places:
        model.override_all_outputs(places)
    return reader.convert(model), names

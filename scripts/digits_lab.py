"""What the pages on trained digits networks share: bundles, folders of pictures with boxes, figures, sheets of maps."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn
from xai_exporters import Request, export
from xai_exporters.config import load_config

from xai_deploy import Explainer, write_image
from xai_deploy.evaluation import evaluate

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "models" / "lfi_digits"), str(ROOT / "models" / "clutter_digits")]

from data import LABELS, Box  # noqa: E402
from lfi_training import write  # noqa: E402

Images = NDArray[np.uint8]
TILE = 96


def bundle(model: nn.Module, folder: Path, name: str, **fields: Any) -> Path:
    """Writes a network's files and exports its ONNX file.

    Args:
        model: Trained network in evaluation mode.
        folder: Where the files and the bundle go.
        name: Their name.
        fields: Further fields of the request, `split` among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write(model, folder, name)
    config = load_config(folder / f"{name}.toml")
    source, path = folder / f"{name}.onnx", folder / f"{name}.xai"
    return export(Request(**{**config, "source": source, "output_path": path, **fields})).path


def write_pictures(folder: Path, images: Images, boxes: Iterable[Sequence[int]]) -> tuple[Path, Path]:
    """Writes pictures and the csv of their boxes; returns the folder of pictures and the csv."""
    pictures, table = folder / "pictures", folder / "boxes.csv"
    pictures.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "left", "top", "right", "bottom"])
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            write_image(pictures / f"{index:04}.png", image)
            rows.writerow([f"{index:04}.png", *map(int, box)])
    return pictures, table


def figures(
    path: Path, pictures: Path, boxes: Path, out: Path, methods: Sequence[str], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Method -> figure -> mean over the pictures, as `xai-evaluate` gives them for the predicted class."""
    results = evaluate(path, pictures, out=out, methods=methods, metrics=metrics, boxes=boxes)
    return {
        row["method"]: {name: figure["mean"] for name, figure in row["figures"].items()}
        for row in results.document["results"]
    }


def overlays(path: Path, images: Images, method: str, target: Sequence[int] | None = None) -> list[Images]:
    """The pictures with the map of each one's class laid over, enlarged."""
    shown = []
    explainer = Explainer(path, "onnxruntime")
    for index, image in enumerate(images):
        answer = explainer.explain([image], method, None if target is None else int(target[index]))
        shown.append(enlarged(answer.overlay([image])[0]))
    return shown


def enlarged(image: Images, box: Box | None = None) -> Images:
    """A picture as a tile, with a box in white if one is given."""
    tile = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    if box is not None:
        x0, y0, x1, y1 = (round(v * TILE / image.shape[0]) for v in box)
        cv2.rectangle(tile, (x0, y0), (x1 - 1, y1 - 1), (255, 255, 255), 1)
    return np.asarray(tile, np.uint8)


def write_sheet(path: Path, rows: Mapping[str, Sequence[Images]]) -> None:
    """Writes rows of tiles with their names on the left as a JPEG."""
    lines = []
    for name, tiles in rows.items():
        label = np.full((TILE, 130, 3), 255, np.uint8)
        cv2.putText(label, name, (6, TILE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
        lines.append(np.concatenate([label, *tiles], axis=1))
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(lines), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])


def replace_figures(page: Path, lines: Sequence[str]) -> None:
    """Puts lines below the page's mark `<!-- figures -->`; what is above it stays."""
    above = page.read_text(encoding="utf-8").split("<!-- figures -->")[0].rstrip()
    page.write_text("\n".join([above, "", "<!-- figures -->", "", *lines]) + "\n", encoding="utf-8")


__all__ = [
    "LABELS",
    "ROOT",
    "bundle",
    "enlarged",
    "figures",
    "overlays",
    "replace_figures",
    "write_pictures",
    "write_sheet",
]

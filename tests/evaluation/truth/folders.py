"""Folders of images and annotations, written by the tests themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Pixels = tuple[float, float, float, float]  # left, top, right, bottom
Objects = Mapping[str, Sequence[tuple[Pixels, str]]]  # image -> its boxes and labels

HEIGHT, WIDTH = 40, 64


def images(root: Path, *names: str, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Black images of these paths under the root, which is returned."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(root / name)
    return root


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def coco_document(objects: Objects) -> dict[str, Any]:
    labels = sorted({label for boxes in objects.values() for _, label in boxes})
    entries = [(i, box, label) for i, boxes in enumerate(objects.values()) for box, label in boxes]
    return {
        "images": [{"id": i, "file_name": n, "height": HEIGHT, "width": WIDTH} for i, n in enumerate(objects)],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 7 + labels.index(c), "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
            for k, (i, b, c) in enumerate(entries)
        ],
        "categories": [{"id": 7 + k, "name": label} for k, label in enumerate(labels)],
    }


def coco(path: Path, objects: Objects) -> Path:
    return write(path, json.dumps(coco_document(objects)))


def yolo(folder: Path, objects: Objects) -> Path:
    labels = sorted({label for boxes in objects.values() for _, label in boxes})
    write(folder / "classes.txt", "\n".join(labels) + "\n")
    for name, boxes in objects.items():
        lines = []
        for (left, top, right, bottom), label in boxes:
            centre = ((left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT)
            size = ((right - left) / WIDTH, (bottom - top) / HEIGHT)
            lines.append(" ".join(map(str, (labels.index(label), *centre, *size))))
        write((folder / name).with_suffix(".txt"), "\n".join(lines))
    return folder


def voc_text(name: str, boxes: Sequence[tuple[Pixels, str]]) -> str:
    objects = "".join(
        f"<object><name>{c}</name><bndbox><xmin>{b[0] + 1}</xmin><ymin>{b[1] + 1}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for b, c in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>{Path(name).name}</filename>{size}{objects}</annotation>"


def voc(folder: Path, objects: Objects) -> Path:
    for name, boxes in objects.items():
        write((folder / name).with_suffix(".xml"), voc_text(name, boxes))
    return folder


def table(path: Path, objects: Objects) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "left", "top", "right", "bottom", "label"])
        for name, boxes in objects.items():
            writer.writerows([name, *box, label] for box, label in boxes)
            if not boxes:
                writer.writerow([name, "", "", "", "", ""])
    return path

"""What the page of results is made of: bundles, folders of images, and figures of single images, measured once and kept."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from real_networks import DATA, ROOT, Net
from xai_exporters import Request, export
from xai_exporters.config import load_config

from xai_deploy import write_image
from xai_deploy.evaluation import evaluate, summary
from xai_deploy.evaluation.metrics import create
from xai_deploy.foundation.options import read_spec

DIGITS = ROOT / "models" / "clutter_digits"
FAITH = ("average-drop", "average-increase", "deletion", "insertion", "complexity", "adcc")
PLACES = ("energy-pointing", "argmax-pointing", "iou")
GRAPHS: Mapping[str, Any] = {"input_gradient": True, "guided": True, "full_gradient": True, "pixel_relevance": True}
PERCENT = ("average-drop", "average-increase")
Records = Mapping[str, Mapping[str, float]]
"""Image -> column -> figure; NaN if it is not defined."""


@dataclass(frozen=True)
class Run:
    """One method on one bundle and one folder of images.

    Attributes:
        bundle: The bundle's name in the lab.
        images: The folder's name in the lab.
        method: The method with its options.
        metrics: The metrics' names.
        limit: How many of the images, drawn at random, the same for every method; None: all.
    """

    bundle: str
    images: str
    method: str
    metrics: tuple[str, ...]
    limit: int | None = None

    @property
    def folder(self) -> str:
        """The run's folder in the lab."""
        return f"{self.bundle}-{self.images}/{self.method.replace(':', '_')}"


class Lab:
    """The folder of the measurements: what is in it is not measured again, and a run that was interrupted goes on."""

    def __init__(self, work: Path, requests: Mapping[str, Request]) -> None:
        self.work, self.requests = work, requests
        work.mkdir(parents=True, exist_ok=True)

    def bundle(self, name: str) -> Path:
        """A bundle, exported once."""
        path = self.work / f"{name}.xai"
        return path if path.exists() else export(replace(self.requests[name], output_path=path)).path

    def images(self, name: str) -> tuple[Path, Path | None]:
        """A folder of images, and the table of their boxes."""
        if name == "photographs":
            return DATA / "images" / "imagenet_samples", None
        return (DATA / "images" / "coco", self.coco) if name == "coco" else (self.digits, self.work / "digits.csv")

    @cached_property
    def coco(self) -> Path:
        """The boxes of the photographs with objects."""
        path = self.work / "coco.csv"
        rows = [[e["image"], *box, e["coco"]] for e in entries() for box in e["boxes_cxcywh"]]
        write_table(path, ["image", "cx", "cy", "w", "h", "label"], rows)
        return path

    @cached_property
    def digits(self) -> Path:
        """Fifty pictures of the test split of models/clutter_digits, and their boxes beside them."""
        folder, rows = self.work / "digits", []
        sys.path.insert(0, str(DIGITS))
        from data import LABELS, samples

        folder.mkdir(exist_ok=True)
        for index, sample in enumerate(samples("test", 50)):
            if not (place := folder / f"{index:04}.png").exists():
                write_image(place, np.asarray(sample.image, np.uint8))
            rows.append([f"{index:04}.png", *map(str, sample.box), LABELS[sample.label]])
        write_table(self.work / "digits.csv", ["image", "left", "top", "right", "bottom", "label"], rows)
        return folder

    def measure(self, run: Run) -> None:
        """Measure a run, unless its figures are there."""
        out = self.work / run.folder
        if (out / "images.csv").exists():
            return
        print(run.folder, run.limit or "all", file=sys.stderr, flush=True)
        images, boxes = self.images(run.images)
        out.parent.mkdir(exist_ok=True)
        evaluate(
            self.bundle(run.bundle),
            images,
            out=out,
            methods=[read_spec(run.method)],
            metrics=run.metrics,
            boxes=boxes,
            limit=run.limit,
            threads=1,
        )

    def records(self, run: Run) -> Records:
        """The run's figures of each image; empty if they are not there."""
        file = self.work / run.folder / "images.csv"
        if not file.exists():
            return {}
        with file.open(newline="", encoding="utf-8") as rows:
            return {row.pop("image"): {key: number(text) for key, text in row.items()} for row in csv.DictReader(rows)}


def entries() -> list[dict[str, Any]]:
    """The photographs with boxes."""
    read: list[dict[str, Any]] = json.loads((DATA / "images" / "coco" / "boxes.json").read_text())
    return read


def write_table(path: Path, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([titles, *rows])


def number(text: str) -> float:
    """The figure in a cell; NaN for an empty cell or a word."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def figures(records: Records, metrics: Sequence[str], randomised: int = 0) -> dict[str, summary.Figure]:
    """Column -> figure of these images, as `xai-evaluate` computes it."""
    columns = [column for name in metrics for column in create(name, {}).columns(randomised)]
    rows = list(records.values())
    present = [column for column in columns if column.of_means or column.name in rows[0]]
    table = {c.name: np.array([row[c.name] for row in rows]) for c in present if c.of_means is None}
    return summary.figures(table, present)


def table(
    columns: Mapping[str, str], measured: Mapping[str, Records], metrics: Sequence[str], steps: int = 0
) -> list[str]:
    """A row for each method, in hundredths as the papers print them, each with half the width of its interval."""
    rows = {method: figures(records, metrics, steps) for method, records in measured.items()}
    shown = {key: title for key, title in columns.items() if any(key in row for row in rows.values())}
    lines = ["| method | " + " | ".join(shown.values()) + " |", "|-|" + "-|" * len(shown)]
    for method, row in rows.items():
        lines.append(f"| {title(method)} | " + " | ".join(cell(key, row.get(key)) for key in shown) + " |")
    return lines


def among(measured: Mapping[str, Records], images: Collection[str]) -> dict[str, Records]:
    """The figures of some of the images."""
    return {
        method: {image: records[image] for image in records if image in images} for method, records in measured.items()
    }


def title(method: str) -> str:
    """A method with its options as the page writes it."""
    name, _, options = method.partition(":")
    return f"{name} ({options})" if options else name


def cell(key: str, figure: summary.Figure | None, spread: bool = True) -> str:
    """A figure in hundredths, or in percent where the metric gives percent."""
    if figure is None or figure.mean is None:
        return "-"
    scale = 1 if key in PERCENT else 100
    text = f"{scale * figure.mean:.1f}"
    if spread and figure.low is not None and figure.high is not None:
        text += f" ± {scale * (figure.high - figure.low) / 2:.1f}"
    return text


def of_network(net: Net, **fields: Any) -> Request:
    """The export of a network, with what more the request holds."""
    return Request(net.path, preprocess=net.preprocess, **fields)


def of_digits(layer: str, randomise: int | None) -> Request:
    """The export of models/clutter_digits, as its export.toml has it."""
    fields = {**load_config(DIGITS / "export.toml"), **GRAPHS}
    return Request(DIGITS / "clutter_digits.onnx", layer, randomise=randomise, **fields)

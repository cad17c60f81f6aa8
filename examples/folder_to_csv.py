"""Explain a folder of images, and write one CSV row per image: its predicted class, and its map, row by row.

python examples/folder_to_csv.py resnet50.xai photos/ maps.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from xai_deploy import Explainer
from xai_deploy.answer import answer
from xai_deploy.images import image_files


def main(bundle: str, folder: str, out: str) -> None:
    """Explain image by image, so that memory does not grow with the folder."""
    explainer = Explainer(bundle)
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, path in enumerate(image_files(Path(folder))):
            explanation = explainer.explain(path, "reciprocam")
            best, raw = answer(explainer, explanation), explanation.raw[0]
            if number == 0:
                positions = [f"row {y} column {x}" for y in range(raw.shape[0]) for x in range(raw.shape[1])]
                writer.writerow(["file", "class", "label", "probability", *positions])
            writer.writerow([path.name, best.target, best.label, best.probability, *raw.ravel()])


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`xai-evaluate` lists it, takes its option and writes its figures."""

import csv
from pathlib import Path

import numpy as np

from xai_deploy import Explainer, read_image
from xai_deploy.cli import evaluate

command = "net.xai photos --method grad-cam --metrics coverage:above=0.25 -b onnxruntime -o scores"
assert evaluate.main(command.split()) == 0
explainer = Explainer("net.xai", "onnxruntime")
photos = [read_image(path) for path in sorted(Path("photos").iterdir())]
with open("scores/images.csv", encoding="utf-8", newline="") as file:
    got = [float(row["coverage"]) for row in csv.DictReader(file)]
want = (explainer.explain(photos, "grad-cam").heatmap >= 0.25).mean(axis=(1, 2))
np.testing.assert_allclose(got, want, rtol=1e-6)

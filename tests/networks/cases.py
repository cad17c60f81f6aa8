"""Files of networks of integers and of half precision, explained: maps on both runtimes, by definition, and by autograd.

    PYTHONPATH=scripts python -m tests.networks.cases FOLDER_OR_FILE...

For each `.onnx` file: the largest difference of every fast method's maps on noise between ONNX Runtime and OpenVINO, and from the
same graphs on onnx's reference evaluator (floats in double precision, integers and float16 as ONNX defines them); and of the
gradient at the image and CAMs from autograd through fake quantisation (`scripts/int8/straight_through.py`, which shares no code
with the exporters). All are shares of the largest value. Of a network of integers also how far maps move if its scales change by
one rounding: twice that is allowed, since a value on the border of two codes falls to either. The exit status is 1 if a figure is
above the bounds. A file that is refused is shown with its reason.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from int8 import maps, straight_through
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.bundle.beside import noise_images
from xai_exporters.errors import ExportError

from xai_deploy import Explainer
from xai_deploy.errors import XaiError

from .in_float64 import DEFINED, MOVED, NAME

ROUNDING = {"float": 1e-4, "float16": 1e-2, "integers": 2e-2}
"""Bounds, by what a network computes in."""

Maps = dict[str, NDArray[Any]]


def explained(path: Path, backend: str, images: NDArray[Any], targets: list[int]) -> Maps:
    """The raw maps of every fast method, and the logits."""
    with Explainer(path, backend, threads=1) as explainer:
        found = {m: explainer.explain(images, m, targets).raw for m in explainer.methods("fast")}
        return {**found, "logits": explainer.predict(images)}


def apart(got: Maps, want: Maps) -> tuple[float, str]:
    """The largest difference, as a share of the map's largest value, and whose; maps of zeros are equal if both are."""
    shares = {name: _share(got[name], want[name]) for name in want if name in got}
    worst = max(shares, key=lambda name: shares[name])
    return shares[worst], worst


def _share(got: NDArray[Any], want: NDArray[Any]) -> float:
    size = float(np.abs(want).max()) or 1.0
    return float(np.abs(got.astype(np.float64) - want).max()) / size


def row(file: Path, folder: Path) -> tuple[str, bool]:
    """A file's line, and whether its figures are within the bounds."""
    options: dict[str, Any] = {"preprocess": "none", "roles": ("gradient", "relevance", "pixel-relevance")}
    try:
        done = export(Request(file, output_path=folder / f"{file.stem}.xai", input_gradient=True, **options))
    except ExportError as error:
        return f"refused: {error}", True
    manifest = done.manifest
    kind = "integers" if manifest.logits_step else "float16" if "half-precision" in manifest.extensions else "float"
    images = noise_images(manifest.input, 2)
    with Explainer(done.path, "onnxruntime", threads=1) as explainer:
        targets = [int(t) for t in explainer.predict(images).argmax(axis=1)]
    reference = NAME if kind == "float" else DEFINED
    here, there, exact = (explained(done.path, b, images, targets) for b in ("onnxruntime", "openvino", reference))
    own = apart(explained(done.path, MOVED, images, targets), exact) if kind == "integers" else (0.0, "logits")
    figures = {"runtimes": apart(there, here), reference: apart(here, exact), "OpenVINO": apart(there, exact)}
    try:
        of = maps._autograd(file, done.path, images, np.array(targets), here)
        figures["autograd"] = max((value, name) for name, value in of.items())
    except (straight_through.Unknown, KeyError, RuntimeError, AssertionError, TypeError) as error:
        said = f"; autograd: not computed ({type(error).__name__}: {error})"
    else:
        said = ""
    if own[0]:
        said = f", own rounding {own[0]:.1e} ({own[1]}){said}"
    bound = max(ROUNDING[kind], 2 * own[0])
    cells = ", ".join(f"{name} {value:.1e} ({which})" for name, (value, which) in figures.items())
    return f"{len(here) - 1} methods, {kind}: {cells}{said}", all(v <= bound for v, _ in figures.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FOLDER_OR_FILE")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    right = True
    for given in parser.parse_args().files:
        for file in sorted(given.glob("*.onnx")) if given.is_dir() else [given]:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    line, fine = row(file, Path(folder))
                except XaiError as error:
                    line, fine = f"FAILED: {error}", False
            sys.stdout.write(f"{'  ' if fine else '! '}{file.name}: {line}\n")
            sys.stdout.flush()
            right = right and fine
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""What the page needs to know about the network, as data; app.js and the modules beside it read the names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from xai_deploy.detections import DetectionLimits
from xai_deploy.format.bundle import REFERENCE, ROW, SALIENCY, TARGET, WHERE, Bundle, Manifest
from xai_deploy.format.image_input import BORDER
from xai_deploy.pictures import find_colormap

from ...cut.scores.logits import explained
from ...roles.fuse.graph import RAW, SCORES
from .networks import FLOAT, PageNetwork
from .ortweb import VERSION

_FORMAT = 2


def configuration(bundle: Bundle, networks: Sequence[PageNetwork], title: str) -> dict[str, Any]:
    """The page's configuration.

    Args:
        bundle: The bundle.
        networks: Its networks for the page, at least one.
        title: The page's title.
    """
    manifest = bundle.manifest
    spec, how, scores = manifest.input, manifest.input.preprocess, explained(manifest.outputs)
    embedded, kind = networks[-1].embedded, networks[-1].scores
    return {
        "page": "xai-deploy",
        "format": _FORMAT,
        "producer": manifest.producer,
        "runtime": f"ONNX Runtime Web {VERSION}",
        "title": title,
        "name": manifest.name,
        "layer": ", ".join(layer.name for layer in manifest.layers),
        "input": {
            "layout": spec.layout,
            "channels": spec.channels,
            "height": spec.height,
            "width": spec.width,
            "dtype": "uint8" if embedded else spec.dtype,
            "embedded": embedded,
            "preprocess": {
                "resize": how.resize,
                "border": BORDER,
                "interpolation": how.interpolation,
                "antialias": how.antialias,
                "color": how.color,
                "scale": how.scale,
                "mean": how.mean,
                "std": how.std,
            },
        },
        "names": _names(manifest),
        "explained": _explained(manifest),
        "apply": _apply(scores.kind, manifest, kind == FLOAT),
        "classes": manifest.classes,
        "labels": bundle.labels or [f"{_one(manifest)} {i}" for i in range(manifest.classes)],
        "methods": [
            {
                "name": network.method,
                "file": network.file,
                "exactly": network.quantised,
                "target": network.target,
                "signed": network.signed,
                "at_pixels": network.at_pixels,
            }
            for network in networks
        ],
        # the engine's colours, as "rrggbb" after "rrggbb"
        "colors": {
            "positive": find_colormap(None, signed=False).table.tobytes().hex(),
            "signed": find_colormap(None, signed=True).table.tobytes().hex(),
        },
    }


def _names(manifest: Manifest) -> dict[str, str]:
    """The inputs and outputs of the page's networks; `own` is the network's own output, from which regions are predicted."""
    own = SCORES if manifest.scores.kind == "rows" else explained(manifest.outputs).name
    return {
        "input": manifest.input.name,
        "target": TARGET,
        "where": WHERE,
        "row": ROW,
        "reference": REFERENCE,
        "own": own,
        "scores": SCORES if manifest.scores.kind == "dense" else own,
        "map": SALIENCY,
        "raw": RAW,
    }


def _explained(manifest: Manifest) -> dict[str, Any]:
    """What can be explained: "classes"; "regions" of scores [height,width]; "numbers"; the "similarity" of embeddings; "boxes"."""
    scores = manifest.scores
    if scores.rows is not None:
        rows = {**asdict(scores.rows), "scores": scores.rows.classes, "activation": manifest.activation}
        return {"kind": "boxes", **rows, "limits": asdict(DetectionLimits())}
    if scores.kind == "dense":
        height, width = scores.shape[1:]
        half = 0.5 if manifest.activation in ("sigmoid", "independent") else 0
        return {"kind": "regions", "height": height, "width": width, "half": half}
    if scores.kind == "vector":
        return {"kind": "similarity", "length": manifest.classes} if scores.normalised else {"kind": "numbers"}
    return {"kind": "classes"}


def _one(manifest: Manifest) -> str:
    """What one of the scores is called that has no label."""
    return "output" if manifest.scores.kind == "vector" else "class"


def _apply(kind: str, manifest: Manifest, floats: bool) -> str:
    """What makes probabilities of the scores: "softmax", "none", "share" (of the sum), or "raw" if nothing does."""
    if manifest.scores.kind != "classes":
        return "none" if manifest.scores.kind == "rows" else "raw"
    if kind == "probabilities" and floats:
        return "none"
    if kind in ("probabilities", "derived"):
        return "share" if manifest.activation in ("softmax", "normalised") else "raw"
    return "softmax" if floats and manifest.classes > 1 else "raw"

"""Write the page: assets, runtime, fused graphs and one configuration, as static files for any host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import onnx

from xai_deploy.format.bundle import SALIENCY, TARGET, Activation, Bundle, fused_method

from ...bundle.stage import Put, write_folder
from ...cut.scores.logits import explained
from ...errors import OutputError, RequestError
from ..overwrite import check_ours
from .ortweb import VERSION

_FORMAT = 1
_CONFIG = "config.json"
_PAGE = ("index.html", "style.css", "app.js", "camera.js", "classes.js", "heatmap.js", "picture.js", "preprocess.js",
         "resample.js", "worker.js")  # fmt: skip
_FLOAT, _UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8

_LICENCE = """onnxruntime-web, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def check_site(destination: Path, overwrite: bool) -> None:
    """Refuse early what would be refused at the end.

    Raises:
        OutputError: The destination exists and is not to be replaced, or its folder does not exist.
    """
    if destination.exists() or destination.is_symlink():
        if not overwrite:
            raise OutputError(
                f"{destination}: exists already; give --overwrite to replace it, or another folder with --web"
            )
        check_ours(destination, _CONFIG, "page", {"page": "xai-deploy"})
    if not destination.absolute().parent.is_dir():
        raise OutputError(f"{destination.parent}: no such folder; create it first")


def write_site(
    destination: Path, bundle: Bundle, runtime: Mapping[str, bytes], overwrite: bool = False, put: Put = write_folder
) -> None:
    """Write the page of a bundle's fused graphs, whole or not at all.

    Args:
        destination: The folder to make.
        bundle: Holds the graphs `fused-METHOD`.
        runtime: What `runtime_files` gives.
        overwrite: Replace an existing page.
        put: What writes the folder.

    Raises:
        RequestError: The bundle has no fused graph, or one that a browser can't run.
        OutputError: The folder can't be written.
    """
    check_site(destination, overwrite)
    files = {name: resources.files(__package__).joinpath("page", name).read_bytes() for name in _PAGE}
    # A module's name ends in .js here: many servers do not know .mjs, and browsers refuse modules of unknown type
    files |= {
        f"onnxruntime/{name.removesuffix('.mjs')}{'.js' * name.endswith('.mjs')}": data
        for name, data in runtime.items()
    }
    files["onnxruntime/LICENSE.txt"] = _LICENCE.encode()
    graphs = {role: bundle.graph(role) for role in bundle.manifest.graphs if fused_method(role) is not None}
    files |= {f"networks/{role}.onnx": data for role, data in graphs.items()}
    config = _config(bundle, graphs) | {"files": sorted(files)}
    files[_CONFIG] = (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode()
    put(destination, files)


def _config(bundle: Bundle, graphs: Mapping[str, bytes]) -> dict[str, Any]:
    """What the page needs to know about the network; app.js and worker.js read the names."""
    manifest = bundle.manifest
    if not graphs:
        raise RequestError("--web needs fused graphs; name methods with --fuse, for example --fuse grad-cam")
    scores = explained(manifest.outputs)
    spec, how = manifest.input, manifest.input.preprocess
    methods, embedded, kind = [], False, _FLOAT
    for role, data in graphs.items():
        model = onnx.load_from_string(data)
        inputs = {value.name: value.type.tensor_type for value in model.graph.input}
        outputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
        # only embedded preprocessing takes images of open height
        embedded = len(inputs[spec.name].shape.dim) == 4 and not inputs[spec.name].shape.dim[1].HasField("dim_value")
        for what, found in (("input", inputs[spec.name].elem_type), ("scores", outputs[scores.name])):
            if found not in (_FLOAT, _UINT8):
                raise RequestError(
                    f"--web: the network has {onnx.TensorProto.DataType.Name(found).lower()} {what}, and the page takes "
                    "float32 and uint8 only; export the network in float32"
                )
        kind = outputs[scores.name]
        methods.append({"name": fused_method(role), "file": f"networks/{role}.onnx", "target": TARGET in inputs})
    return {
        "page": "xai-deploy",
        "format": _FORMAT,
        "producer": manifest.producer,
        "runtime": f"ONNX Runtime Web {VERSION}",
        "name": manifest.name,
        "layer": manifest.target.name,
        "input": {
            "layout": spec.layout,
            "channels": spec.channels,
            "height": spec.height,
            "width": spec.width,
            "dtype": "uint8" if embedded else spec.dtype,
            "embedded": embedded,
            "preprocess": {
                "resize": how.resize,
                "interpolation": how.interpolation,
                "antialias": how.antialias,
                "color": how.color,
                "scale": how.scale,
                "mean": how.mean,
                "std": how.std,
            },
        },
        "names": {"input": spec.name, "target": TARGET, "scores": scores.name, "map": SALIENCY},
        "apply": _apply(scores.kind, manifest.activation, manifest.classes, kind == _FLOAT),
        "classes": manifest.classes,
        "labels": bundle.labels or [f"class {i}" for i in range(manifest.classes)],
        "methods": methods,
    }


def _apply(kind: str, activation: Activation, classes: int, floats: bool) -> str:
    """What makes probabilities of the scores: "softmax", "none", "share" (of the sum), or "raw" if nothing does."""
    if kind == "probabilities" and floats:
        return "none"
    if kind in ("probabilities", "derived"):
        return "share" if activation in ("softmax", "normalised") else "raw"
    return "softmax" if floats and classes > 1 else "raw"

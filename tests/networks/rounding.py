"""Gradients and relevance in float32 against float64, on networks in which rounding decides much: the table of docs/rounding.md.

    PYTHONPATH=scripts python -m tests.networks.rounding [NAME...]

NAME is one of timm's networks in `NETWORKS`; default: all. Every network has random weights and statistics (`zoo.networks`), and
sees one noise image. The first figure is what an export measures: the largest difference between ONNX Runtime without and with
optimisations, OpenVINO, and for relevance runs whose inputs are moved by a rounding. The second is the largest difference of
these runtimes from the same graph on onnx's reference evaluator in float64. Both are shares of the largest value. A network takes a
few minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from xai_exporters.bundle.installed import exactly, installed
from xai_exporters.bundle.rounding import Rounding
from xai_exporters.cut.auto import auto_layer
from xai_exporters.cut.plan import plan_cut
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.cut.split import split
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.passes.clean import clean
from xai_exporters.relevance.composite import load_composite
from xai_exporters.relevance.graph import relevance_graph
from xai_exporters.vjp.graph import gradient_graph
from zoo import networks

from ..exporters.vjp.harness import to_float64
from ..exporters.vjp.references import REFERENCES

NETWORKS = {
    "mixer_s32_224": "mlp_mixer", "gmlp_ti16_224": "mlp_mixer", "resmlp_12_224": "mlp_mixer", "fastvit_t8": "fastvit",
    "twins_pcpvt_small": "twins", "convnext_atto": "convnext", "vit_tiny_patch16_224": "vision_transformer",
}  # fmt: skip
GRAPHS = ("gradient", "relevance-cam", "split-residuals", "epsilon-plus")
BOUNDS = ((0.0,) * 3, (1.0,) * 3)


def rows(name: str) -> Iterator[str]:
    """The rows of a network's table."""
    network, _, side = networks.build(f"timm:{NETWORKS[name]}", name)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        torch.onnx.export(network, (image,), Path(folder) / "net.onnx", verbose=False)
        graph = clean(onnx.load(Path(folder) / "net.onnx"), None)
    logits = find_scores(graph, None)
    target, _ = auto_layer(graph, logits)
    whole = ir.convenience.extract(graph.graph, graph.graph.inputs, [logits.value])
    whole.outputs[0].name = "logits"
    cut = plan_cut(graph, target, logits, graph.graph.outputs, str(target.name))
    parts = split(graph, cut, logits)
    images = {str(graph.graph.inputs[0].name): image.numpy()}
    head = exactly(to_bytes(make_model(parts.head)), "the head")
    starts = (("image", whole, images), ("layer", parts.tail, head(images)))
    fixed = {"target": np.array([-1]), "seed": np.zeros((1, logits.classes), np.float32)}
    for start, forward, given in starts:
        for kind in GRAPHS:
            if kind == "gradient":
                made, out = gradient_graph(forward, logits.classes), "gradient"
            else:
                composite, out = load_composite(kind), "relevance"
                made = relevance_graph(forward, logits.classes, composite, start == "image", bounds=BOUNDS)
            measured, truly = compared(to_bytes(make_model(made)), {**given, **fixed}, out)
            yield f"| {name} | {start} | {kind} | {measured:.1e} | {truly:.1e} |"


def compared(model: bytes, feeds: dict[str, Any], out: str) -> tuple[float, float]:
    """What the export measures, and the largest difference from float64."""
    manifest: Any = SimpleNamespace(logits_step=0.0, extensions={}, graphs={"it": SimpleNamespace(propagated=out)})
    measures, results = Rounding(manifest), []
    for opened in (runtime.opened for runtime in installed()):
        results.append(opened(model, "the graph")(feeds))
        measures.add("it", results[-1], feeds, lambda: exactly(model, "the graph"))
    double = to_float64(onnx.load_from_string(model))
    names = {value.name for value in double.graph.input}
    wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items() if k in names}
    [exact] = ReferenceEvaluator(double, new_ops=REFERENCES).run([out], wide)
    apart = max(float(np.abs(result[out] - exact).max()) for result in results)
    return measures.all_shares()["it"], apart / float(np.abs(exact).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(NETWORKS))
    warnings.simplefilter("ignore")
    for name in parser.parse_args().names:
        for row in rows(name):
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

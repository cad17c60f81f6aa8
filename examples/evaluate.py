"""Measure explanations of a deployed network from Python: what xai-evaluate does, in one call.

python examples/evaluate.py resnet50.xai val/ scores
"""

from __future__ import annotations

import sys

from xai_deploy.evaluation import evaluate


def main(bundle: str, images: str, out: str) -> None:
    """Evaluate two methods and print each figure with its 95 % interval; the report is in the folder `out`."""
    results = evaluate(
        bundle,
        images,
        out=out,
        methods=["reciprocam", ("reciprocam", {"score": "softmax"})],
        metrics=["average-drop", "complexity", ("deletion", {"steps": 10})],
    )
    for result in results.document["results"]:
        for name, figure in result["figures"].items():
            print(result["method"], name, figure["mean"], figure["low"], figure["high"])


if __name__ == "__main__":
    main(*sys.argv[1:])

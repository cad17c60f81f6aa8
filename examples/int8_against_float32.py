"""Does the int8 network look where the float32 network looks? What xai-check does, from Python, with the worst image first.

python examples/int8_against_float32.py float32.xai int8.xai photos/
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from xai_deploy import Explainer, read_image
from xai_deploy.agreement.compare import Limits, compare, explain, judge
from xai_deploy.images import image_files

METHODS: Mapping[str, tuple[str, Mapping[str, object]]] = {"reciprocam": ("reciprocam", {})}


def main(float32: str, int8: str, folder: str) -> int:
    """Print each figure and the three images whose maps differ most. Returns 1 if a figure is beyond its limit, else 0."""
    paths = image_files(Path(folder))
    images = [read_image(path) for path in paths]
    reference = explain(Explainer(float32), images, METHODS)
    deployed = explain(Explainer(int8), images, METHODS, target=reference.logits.argmax(1))  # the same classes
    pairs = compare([path.name for path in paths], reference, deployed)
    figures = judge(pairs, Limits(rank_correlation=0.95))
    for figure in figures:
        print(f"{figure.name:30} {figure.value:.3f}  limit {figure.limit:.3f}  {'ok' if figure.passed else 'FAILED'}")
    for pair in sorted(pairs, key=lambda pair: pair.rank_correlation["reciprocam"])[:3]:
        print(f"{pair.image:30} {pair.rank_correlation['reciprocam']:.3f}")
    return int(not all(figure.passed for figure in figures))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

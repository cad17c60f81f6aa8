#!/usr/bin/env python
"""Peak memory of a method against plain inference at the same batch, each in its own process.

python scripts/bench_memory.py MODEL.onnx BUNDLE.xai [--backend onnxruntime] [--method score-cam] [--batch 16]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from xai_deploy import Explainer
from xai_deploy.backends import Config, create


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--method", default="score-cam")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", choices=("plain", "method"), help="run one of the two in this process")
    options = parser.parse_args()
    if options.only is None:
        peaks = {}
        for only in ("plain", "method"):
            output = subprocess.run(
                [sys.executable, *sys.argv, "--only", only], check=True, capture_output=True, text=True
            )
            peaks[only] = float(output.stdout)
        difference = peaks["method"] - peaks["plain"]
        print(
            f"plain, batch {options.batch}: {peaks['plain']:.0f} MB; {options.method}: {peaks['method']:.0f} MB (+{difference:.0f})"
        )
        return
    explainer = Explainer(options.bundle, options.backend, batch_size=options.batch)
    manifest = explainer.bundle.manifest
    count = options.batch if options.only == "plain" else 1
    x = np.random.default_rng(0).standard_normal((count, *manifest.input.image_shape)).astype(np.float32)
    if options.only == "plain":
        session = create(options.backend, Config())[1].open(options.model.read_bytes())
        for _ in range(5):
            session.run({manifest.input.name: x}, [output.name for output in manifest.outputs])
    else:
        explainer.explain(x, options.method, target=1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Cost of each method relative to plain inference, in one interleaved run with equal session settings.

    python scripts/bench_cost.py MODEL.onnx BUNDLE.xai [--backend onnxruntime,openvino] [--methods reciprocam,cam] [--runs 60]

Plain inference opens MODEL.onnx through the same backend with the same settings as the bundle's graphs. A target is given.
Run it with a Python that has xai-deploy and the runtimes installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from xai_deploy import Explainer
from xai_deploy.backends import Config, create


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="onnxruntime,openvino")
    parser.add_argument("--methods", default="reciprocam,cam")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument(
        "--warmup", type=int, default=5, help="runs that are not counted; 1 for methods that take minutes"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for backend in options.backend.split(","):
        explainer = Explainer(options.bundle, backend, threads=options.threads)
        spec = explainer.bundle.manifest.input
        rng = np.random.default_rng(0)
        x = rng.standard_normal((1, *spec.image_shape)).astype(np.float32)
        plain = create(backend, Config(threads=options.threads))[1].open(options.model.read_bytes())
        outputs = [output.name for output in explainer.bundle.manifest.outputs]
        jobs: dict[str, Callable[[], object]] = {"plain": partial(plain.run, {spec.name: x}, outputs)}
        for method in options.methods.split(","):
            name, *pairs = method.split(":")
            chosen = dict(pair.split("=") for pair in pairs)
            jobs[method] = partial(explainer.explain, x, name, 1, **chosen)
        times: dict[str, list[float]] = {job: [] for job in jobs}
        for run in range(options.runs + options.warmup):
            for job, call in jobs.items():
                started = time.perf_counter()
                call()
                if run >= options.warmup:
                    times[job].append(time.perf_counter() - started)
        base = statistics.median(times["plain"])
        for job, seconds in times.items():
            median = statistics.median(seconds)
            ratio = statistics.median(t / p for t, p in zip(seconds, times["plain"], strict=True))
            results.append(
                {"backend": backend, "method": job, "ms": 1e3 * median, "ratio": ratio, "of_medians": median / base}
            )
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for row in results:
        print(
            f"{row['backend']:12} {row['method']:40} {row['ms']:8.2f} ms  {row['ratio']:.3f} x  ({row['of_medians']:.3f})"
        )


if __name__ == "__main__":
    main()

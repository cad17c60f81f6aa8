"""xai-deploy itself, on either runtime: no adapter itself, but the code of two, `ours_onnxruntime` and `ours_openvino`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .counterpart import PLAIN, Array, Case, Counterpart, Job, Jobs

METHODS = (
    "grad-cam",
    "grad-cam++",
    "grad-cam++:eps=1e-6",
    "layer-cam",
    "reciprocam",
    "lrp:composite=epsilon-plus",
    "integrated-gradients",
    "rise:score=logit",
    "score-cam",
    "score-cam:score=logit:channel_softmax=true",
)
COUNTERPARTS = {method: Counterpart(method, None if method.startswith("rise") else "raw") for method in METHODS}
SEEDS = {"onnxruntime": 0, "openvino": 1}  # of RISE: two seeds, so that the table shows how far two of them agree


def jobs(backend: str, case: Case) -> Jobs:
    """Name -> what prepares the job."""
    return {PLAIN: partial(_plain, backend, case)} | {
        method: partial(_explain, backend, case, method) for method in METHODS
    }


def _plain(backend: str, case: Case) -> Job:
    from xai_deploy.backends import Config, create
    from xai_deploy.backends.backend import to_host

    session = create(backend, Config(threads=case.threads)).open(Path(case.path("net.onnx")).read_bytes())
    image = case.image

    def run() -> Array:
        return to_host(session.run({"image": image}, ["output"])["output"])

    return run


def _explain(backend: str, case: Case, method: str) -> Job:
    from xai_deploy import Explainer
    from xai_deploy.foundation.options import read_spec

    explainer = Explainer(case.path("net.xai"), backend, threads=case.threads)
    name, given = read_spec(method)
    options: dict[str, object] = dict(given)
    if name == "rise":
        options |= {"masks": case.masks, "seed": SEEDS[backend]}
    elif name == "integrated-gradients":
        options |= {"steps": case.steps}
    image = case.image

    def run() -> Array:
        raw: Array = explainer.explain(image, name, case.target, **options).raw[0]
        return raw

    return run

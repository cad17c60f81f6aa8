"""DIANNA: https://github.com/dianna-ai/dianna."""

from __future__ import annotations

from functools import partial

from .counterpart import PLAIN, Array, Case, Counterpart, Job, Jobs

TITLE = "DIANNA"
REQUIREMENTS = ("torch==2.13.0", "dianna==1.8.1", "onnxruntime")
COUNTERPARTS = {
    "RISE": Counterpart("rise:score=logit", None, "it opens the network again for each batch"),
}


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return {PLAIN: partial(_plain, case), "RISE": partial(_rise, case)}


def _plain(case: Case) -> Job:
    import onnxruntime

    session = onnxruntime.InferenceSession(case.path("net.onnx"))
    image = case.image

    def run() -> Array:
        logits: Array = session.run(["output"], {"image": image})[0]
        return logits

    return run


def _rise(case: Case) -> Job:
    import dianna

    image = case.image[0]

    def run() -> Array:
        [raw] = dianna.explain_image(
            case.path("net.onnx"),
            image,
            "RISE",
            [case.target],
            n_masks=case.masks,
            feature_res=8,
            p_keep=0.5,
            axis_labels={0: "channels"},
        )
        result: Array = raw
        return result

    return run

"""OpenVINO XAI: https://github.com/openvinotoolkit/openvino_xai."""

from __future__ import annotations

from functools import partial
from typing import Any

from .counterpart import PLAIN, Array, Case, Counterpart, Job, Jobs

TITLE = "OpenVINO XAI"
REQUIREMENTS = ("openvino_xai==1.1.0", "openvino==2024.4.0")
COUNTERPARTS = {
    "ReciproCAM": Counterpart("reciprocam", "scaled", "8 bits, each class's map stretched to 0-255; f32 set"),
    "ReciproCAM with its own settings": Counterpart(
        "reciprocam", "scaled", "OpenVINO uses bf16 if the processor has it"
    ),
    "ActivationMap": Counterpart(
        "activation-map", None, "mean of the channels, not of a class; we have no such method"
    ),
    "RISE": Counterpart(
        "rise:score=logit",
        None,
        "draws the masks that we draw for seed 0; enlarges them cubically, we linearly; runs one at a time",
    ),
}


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return {
        PLAIN: partial(_plain, case),
        "ReciproCAM": partial(_white_box, case, "ReciproCAM", True),
        "ReciproCAM with its own settings": partial(_white_box, case, "ReciproCAM", False),
        "ActivationMap": partial(_white_box, case, "ActivationMap", True),
        "RISE": partial(_rise, case),
    }


def _core(case: Case, configured: bool) -> Any:
    """OpenVINO's Core with float32 and our number of threads, which its caller cannot set; plain if not `configured`."""
    import openvino

    class Core(openvino.Core):  # type: ignore[misc]
        def compile_model(self, model: Any, device_name: str = "CPU") -> Any:
            config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(case.threads)}
            return super().compile_model(model, device_name, config if configured else {})

    return Core


def _plain(case: Case) -> Job:
    core = _core(case, True)()
    compiled = core.compile_model(core.read_model(case.path("net.onnx")))
    image = case.image

    def run() -> Array:
        logits: Array = compiled(image)[0]
        return logits

    return run


def _white_box(case: Case, name: str, configured: bool) -> Job:
    from openvino_xai import methods

    method = _made(case, configured, getattr(methods, name))
    image = case.image

    def run() -> Array:
        maps: Array = method.generate_saliency_map(image)[0]
        return maps[case.target] if maps.ndim == 3 else maps

    return run


def _rise(case: Case) -> Job:
    from openvino_xai.methods import RISE

    method = _made(case, True, lambda model: RISE(model, postprocess_fn=lambda outputs: outputs[0]))
    image = case.image

    def run() -> Array:
        maps: Array = method.generate_saliency_map(image, [case.target], num_masks=case.masks, num_cells=8)[case.target]
        return maps

    return run


def _made(case: Case, configured: bool, make: Any) -> Any:
    """A method, compiled with our settings: it opens its own Core and takes none."""
    from openvino import runtime

    model = runtime.Core().read_model(case.path("net.onnx"))
    model.reshape(case.image.shape)
    plain = runtime.Core
    runtime.Core = _core(case, configured)
    try:
        return make(model)
    finally:
        runtime.Core = plain

"""What one package makes of one ONNX file: `python -m peers.opening PACKAGE FILE FOLDER`, in the package's environment.

The folder holds `input.npy` and what ONNX Runtime gives for it, `output.npy` (the file's first output of floats). The line that
begins with RESULT is JSON: "opened", "explained", and in "said" why not; of gradient graphs "nodes", too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MARKER = "RESULT "
SAME = 1e-3
"""How far a converted network's output may be from the file's, as a share of its largest value."""
Facts = dict[str, Any]


def onnx2torch(file: Path, folder: Path) -> Facts:
    """Converted by onnx2torch, then Grad-CAM of pytorch-grad-cam at the last convolution whose map is larger than 1 x 1."""
    import torch
    from onnx2torch import convert
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x = torch.from_numpy(np.load(folder / "input.npy"))
    network = convert(str(file)).eval()
    with torch.no_grad():
        output = network(x)
    first = output[0] if isinstance(output, (tuple, list)) else output
    wanted = np.load(folder / "output.npy")
    if tuple(first.shape) != wanted.shape:
        return {"opened": False, "said": f"its output has the shape {tuple(first.shape)} instead of {wanted.shape}"}
    far = float(np.abs(first.numpy() - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
    if not far <= SAME:
        return {"opened": False, "said": f"its output is {far:.0e} off the file's"}
    image = x.clone().requires_grad_(x.is_floating_point())
    again = network(image)
    once = again[0] if isinstance(again, (tuple, list)) else again
    if image.requires_grad and once.requires_grad:
        [gradient] = torch.autograd.grad(once.reshape(-1)[int(once.argmax())], image)
        np.save(folder / "torch.npy", gradient.numpy())
    layers: list[Any] = []

    def seen(module: Any, _: Any, result: Any) -> None:
        if result.shape[2:].numel() > 1:
            layers.append(module)

    hooks = [m.register_forward_hook(seen) for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    if not layers:
        return {"opened": True, "explained": False, "said": "no module is a convolution over positions"}
    if first.ndim != 2:
        return {
            "opened": True,
            "explained": False,
            "said": f"its output of {first.ndim} axes holds no scores of classes",
        }
    cam = GradCAM(model=network, target_layers=[layers[-1]])
    heatmap = cam(input_tensor=x, targets=[ClassifierOutputTarget(int(first.argmax()))])
    if not np.isfinite(heatmap).all():
        return {"opened": True, "explained": False, "said": "its map is not finite"}
    flat = float(np.ptp(heatmap)) == 0
    return {"opened": True, "explained": not flat, "said": "its map is the same everywhere" if flat else ""}


def onnx_ad(file: Path, folder: Path) -> Facts:
    """The gradient graph of onnx-ad for the file's first output of floats, run on ONNX Runtime."""
    import onnx
    import onnx_ad as package
    import onnxruntime

    model, x = onnx.load(str(file)), np.load(folder / "input.npy")
    for value in model.graph.input:  # it takes no open sizes
        if value.name == model.graph.input[0].name:
            for dim, size in zip(value.type.tensor_type.shape.dim, x.shape, strict=True):
                dim.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model)
    floats = [v.name for v in model.graph.output if v.type.tensor_type.elem_type in (1, 10, 11)]
    held = {initializer.name for initializer in model.graph.initializer}
    image = next(v.name for v in model.graph.input if v.name not in held)
    reversed_ = package.reverse(model, inputs=[image], outputs=floats[:1], layout="onnx")
    onnx.save(reversed_, folder / "onnx_ad.onnx")
    session = onnxruntime.InferenceSession(str(folder / "onnx_ad.onnx"), providers=["CPUExecutionProvider"])
    wanted = np.load(folder / "output.npy")
    seed = np.zeros((*wanted.shape, 1), wanted.dtype)
    seed.reshape(-1)[int(wanted.argmax())] = 1
    feeds = {image: x, f"adj_{floats[0]}": seed}
    missing = [port.name for port in session.get_inputs() if port.name not in feeds]
    if missing:
        return {"opened": True, "explained": False, "said": f"its graph asks for {', '.join(missing)}"}
    gradient = session.run([f"adj_{image}"], feeds)[0]
    np.save(folder / "onnx_ad.npy", gradient[..., 0])
    fine = bool(np.isfinite(gradient).all() and gradient.any())
    said = "" if fine else "its gradient is zero or not finite"
    return {"opened": True, "explained": fine, "nodes": len(reversed_.graph.node), "said": said}


def ours(file: Path, folder: Path) -> Facts:
    """xai-export with a gradient graph to the image, then Grad-CAM, or what stands for it where it is not defined."""
    from xai_exporters import Request, export
    from xai_exporters.errors import PreprocessingError

    from xai_deploy import DetectionLimits, Explainer
    from xai_deploy.format.bundle import Bundle

    bundle = folder / "ours.xai"
    try:
        export(Request(file, output_path=bundle, input_gradient=True))
    except PreprocessingError:  # it asks how pixels become this input; any answer will do, since floats are given
        export(Request(file, output_path=bundle, input_gradient=True, preprocess="imagenet"))
    facts: Facts = {"opened": True, "explained": False, "said": ""}
    written = Bundle.open(bundle)
    if written.has("input-gradient"):
        import onnx

        (folder / "ours.onnx").write_bytes(written.graph("input-gradient"))
        facts["nodes"] = len(onnx.load(folder / "ours.onnx").graph.node)
    x = np.load(folder / "input.npy")
    with Explainer(bundle, "onnxruntime", threads=1, detections=DetectionLimits(1e-4, 0.7)) as explainer:
        kind, spec = explainer.bundle.manifest.scores.kind, explainer.bundle.manifest.input
        image = x[0] if x.dtype.kind == "f" else _pixels(x[0])
        target = {"dense": "0@all", "vector": "#0"}.get(kind)
        methods = explainer.methods("fast")
        method = "grad-cam" if "grad-cam" in methods else methods[0]
        explanation = explainer.explain(image.astype(spec.dtype) if image.dtype.kind == "f" else image, method, target)
        facts |= {
            "method": method,
            "explained": bool(np.isfinite(explanation.raw).all() and np.ptp(explanation.raw) > 0),
        }
        facts["said"] = "" if facts["explained"] else "its map is the same everywhere"
    return facts


def _pixels(codes: Any) -> Any:
    """Codes of integers as the pixels that they stand for, [h,w,C]."""
    pixels = (codes.astype(int) + (128 if codes.dtype == np.int8 else 0)).astype(np.uint8)
    return pixels if pixels.shape[-1] in (1, 3) else pixels.transpose(1, 2, 0)


def main() -> None:
    package, file, folder = sys.argv[1:]
    try:
        facts = {"ours": ours, "onnx2torch": onnx2torch, "onnx_ad": onnx_ad}[package](Path(file), Path(folder))
    except Exception as error:  # whatever a package raises is its answer
        facts = {"opened": (Path(folder) / "ours.xai").exists() if package == "ours" else False}
        message = " ".join(str(error).replace(f"{folder}/", "").split())
        facts |= {"explained": False, "said": f"{type(error).__name__}: {message}"[:160]}
    print(MARKER + json.dumps(facts))


if __name__ == "__main__":
    main()

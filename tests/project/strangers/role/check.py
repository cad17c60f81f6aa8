"""An export that asks for the role writes its graph, says so in the manifest, and leaves it out unless asked."""

from pathlib import Path

import numpy as np
import onnxruntime
from xai_exporters import Request, export

from xai_deploy.format.bundle import Bundle


def run(file: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(file)
    return dict(zip([v.name for v in session.get_outputs()], session.run(None, feeds), strict=True))


export(Request(Path("net.onnx"), preprocess="none", output_path=Path("uncut.xai"), roles=("uncut",)))
manifest = Bundle.open(Path("uncut.xai")).manifest
assert set(manifest.graphs) == {"head", "tail", "uncut"}
assert manifest.graphs["uncut"].start == "image"
x = np.random.default_rng(0).standard_normal((2, 3, manifest.input.height, manifest.input.width)).astype(np.float32)
between = run("uncut.xai/head.onnx", **{manifest.input.name: x})
np.testing.assert_allclose(
    run("uncut.xai/uncut.onnx", **{manifest.input.name: x})["logits"],
    run("uncut.xai/tail.onnx", **between)["logits"],
    rtol=1e-5,
)
assert "uncut" not in Bundle.open(Path("net.xai")).manifest.graphs

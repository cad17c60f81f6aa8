"""The explanations are ONNX Runtime's."""

import numpy as np

from xai_deploy import Explainer, read_image

photo = read_image("photos/0.png")
for method in ("reciprocam", "grad-cam", "score-cam"):
    mine, theirs = (Explainer("net.xai", backend).explain([photo], method) for backend in ("evaluator", "onnxruntime"))
    assert mine.raw.any(), method
    np.testing.assert_allclose(mine.raw, theirs.raw, rtol=1e-4, atol=1e-5 * np.abs(theirs.raw).max())

"""The method is listed, takes its option as text, and gives the mean of the activation."""

import numpy as np
import onnxruntime

from xai_deploy import Explainer, method_names, read_image

assert "mean-cam" in method_names()
explainer = Explainer("net.xai", "onnxruntime")
photo = read_image("photos/0.png")
head = onnxruntime.InferenceSession("net.xai/head.onnx")
[x] = explainer.prepare([photo]).x[None]
[activation] = head.run(["activation"], {head.get_inputs()[0].name: x})
explanation = explainer.explain([photo], "mean-cam", power="2")
np.testing.assert_allclose(explanation.raw, (activation**2).mean(axis=1), rtol=1e-5)

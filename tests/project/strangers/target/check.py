"""The target gives what the same weights by hand give, for all images and for one beside other targets."""

import numpy as np

from xai_deploy import Explainer, read_image

explainer = Explainer("net.xai", "onnxruntime", batch_size=2)
photos = [read_image(f"photos/{number}.png") for number in range(3)]
classes = explainer.bundle.manifest.classes
for method in ("reciprocam", "grad-cam", "relevance-cam"):
    by_hand = explainer.explain(photos, method, np.full(classes, 1 / classes))
    mine = explainer.explain(photos, method, "all")
    assert mine.raw.any(), method
    np.testing.assert_allclose(mine.raw, by_hand.raw, rtol=1e-5, atol=1e-6)
    beside = explainer.explain(photos, method, [1, "all", 0])
    np.testing.assert_allclose(beside.raw[1], by_hand.raw[1], rtol=1e-5, atol=1e-6)

"""Runs in the environment of OpenVINO Model API: one image through a model that xai-export wrote; keeps what its wrapper returns.

python openvino_model_api.py MODEL.xml IMAGE.png RESULT.npz
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model

core = create_core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # else bfloat16 on processors that have it
model = Model.create_model(OpenvinoAdapter(core, sys.argv[1], device="CPU"))
result = model(cv2.imread(sys.argv[2]))
found = {"saliency_map": result.saliency_map, "wrapper": np.array(type(model).__name__)}
if hasattr(result, "bboxes"):
    found |= {"boxes": result.bboxes, "classes": result.labels, "scores": result.scores}
else:
    best = [(label.id, label.confidence) for label in result.top_labels]
    found |= {"classes": np.array([i for i, _ in best]), "scores": np.array([p for _, p in best])}
np.savez(sys.argv[3], **found)

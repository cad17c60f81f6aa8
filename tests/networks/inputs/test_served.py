"""Networks of several inputs over HTTP: what belongs to an image goes with it, in V1 as `inputs`, in V2 as further tensors."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import torch
from xai_exporters import Request, export

from xai_deploy import Explainer, write_image
from xai_deploy.serve import Limits

from ...runtime.serve.conftest import Running
from ...runtime.serve.test_v2 import arrays, infer, tensor
from .nets import SIZE, Fusion, WithFacts, saved

IMAGES = np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3)).astype(np.uint8)


def served(path: Path) -> Running:
    running = Running(path, "onnxruntime", Limits(), {"grad-cam": {}})
    running.service.models.load("net")
    return running


def test_numbers_beside_an_image(tmp_path: Path) -> None:
    torch.manual_seed(7)
    parts = torch.rand(2, 3, *SIZE), torch.rand(2, 4), torch.tensor(2.0)
    saved(WithFacts().eval(), tmp_path / "facts.onnx", parts, ("image", "facts", "temperature"), ("temperature",))
    export(
        Request(
            tmp_path / "facts.onnx", output_path=tmp_path / "net.xai", preprocess="unit", input=("temperature=0.5",)
        )
    )
    running, facts = served(tmp_path / "net.xai"), np.random.default_rng(4).random((2, 4)).astype(np.float32)
    own = Explainer(tmp_path / "net.xai", "onnxruntime").explain(list(IMAGES), "grad-cam", 1, inputs={"facts": facts})
    files = []
    for i, image in enumerate(IMAGES):
        write_image(tmp_path / f"{i}.png", image)
        files.append({"b64": base64.b64encode((tmp_path / f"{i}.png").read_bytes()).decode()})
    body = [{"image": one, "inputs": {"facts": row.tolist()}} for one, row in zip(files, facts, strict=True)]
    for i, one in enumerate(running.explain(body, target=1)["explanations"]):
        np.testing.assert_allclose(one["explanations"][0]["map"]["values"], own.raw[i], atol=1e-5)
    asked = {
        "inputs": [tensor(IMAGES, datatype="UINT8"), tensor(facts, "facts")],
        "parameters": {"explain": True, "target": 1},
    }
    np.testing.assert_allclose(arrays(infer(running, asked))["saliency_map"], own.heatmap, atol=1e-5)
    assert "the network also takes 'facts'" in running.refused(400, {"instances": [files[0]]})
    uneven: Any = [body[0], files[1]]
    assert "every instance has the same inputs" in running.refused(400, {"instances": uneven})
    wrong = {"instances": [{"image": files[0], "inputs": {"facts": [1, 2]}}]}
    assert "'facts': takes [4]" in running.refused(400, wrong)
    running.service.close()


def test_a_further_image(tmp_path: Path) -> None:
    torch.manual_seed(7)
    saved(
        Fusion().eval(), tmp_path / "fusion.onnx", (torch.rand(2, 3, *SIZE), torch.rand(2, 1, *SIZE)), ("rgb", "depth")
    )
    depth = ("depth:preprocess=unit:color=GRAY",)
    export(Request(tmp_path / "fusion.onnx", output_path=tmp_path / "net.xai", preprocess="unit", input_image=depth))
    running = served(tmp_path / "net.xai")
    grey = np.random.default_rng(2).integers(0, 256, (*SIZE, 1)).astype(np.uint8)
    own = Explainer(tmp_path / "net.xai", "onnxruntime").explain(IMAGES[0], "grad-cam", 2, inputs={"depth": grey})
    write_image(tmp_path / "rgb.png", IMAGES[0])
    write_image(tmp_path / "depth.png", grey.repeat(3, axis=2))
    rgb, deep = ({"b64": base64.b64encode((tmp_path / f"{n}.png").read_bytes()).decode()} for n in ("rgb", "depth"))
    told = running.explain([{"rgb": rgb, "inputs": {"depth": deep}}], target=2)
    np.testing.assert_allclose(told["explanations"][0]["explanations"][0]["map"]["values"], own.raw[0], atol=1e-4)
    running.service.close()

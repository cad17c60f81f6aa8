"""The page of a network with codes: numbers are ONNX's, which the runtime's optimiser changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from xai_exporters import Request, export
from xai_exporters.config import load_config
from xai_exporters.deliver.web import write_site

from tests.support.saturation import saturates
from xai_deploy import Explainer, read_image
from xai_deploy.format.bundle import Bundle

from .conftest import served
from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser


def rounded(source: Path, result: Path) -> None:
    """Round what the first convolution takes and gives, and leave its weights as they are: the optimiser would round them, too."""
    model = onnx.load(source)
    nodes = model.graph.node
    conv = next(node for node in nodes if node.op_type == "Conv")
    place, given = list(nodes).index(conv), conv.output[0]
    conv.output[0] = "convolved"
    weights = {"scale": np.float32(0.05), "zero": np.int8(0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    for offset, source_name, to in ((1, "convolved", given), (0, conv.input[0], "rounded")):
        nodes.insert(place + offset, helper.make_node("DequantizeLinear", [f"{to}/codes", "scale", "zero"], [to]))
        nodes.insert(
            place + offset, helper.make_node("QuantizeLinear", [source_name, "scale", "zero"], [f"{to}/codes"])
        )
    conv.input[0] = "rounded"
    onnx.save(model, result)


@pytest.mark.skipif(
    saturates(), reason="programs get other numbers on this processor (no VNNI): the fused graph is refused"
)
def test_the_page_keeps_float_weights(
    browser: Browser, runtime: dict[str, bytes], root: Path, sample: Path, tmp_path: Path
) -> None:
    folder = root / "models" / "clutter_digits"
    rounded(folder / "clutter_digits.onnx", tmp_path / "net.onnx")
    given: dict[str, Any] = load_config(folder / "export.toml")
    done = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", fuse=("grad-cam",), **given))
    write_site(tmp_path / "site", Bundle.open(done.path), runtime)
    wanted = Explainer(done.path, "onnxruntime").explain(read_image(sample), method="grad-cam")
    with served(tmp_path / "site") as (address, _):
        opened = Opened(browser, address)
        opened.ready().get_by_label("Choose a picture").set_input_files(sample)
        found = opened.last()
        opened.context.close()
    exponentials = np.exp(wanted.logits[0] - wanted.logits[0].max())
    np.testing.assert_allclose(found["likelihoods"], exponentials / exponentials.sum(), rtol=0, atol=1e-5)
    got = np.array(found["heatmap"]["data"]).reshape(wanted.heatmap[0].shape)
    np.testing.assert_allclose(got, wanted.heatmap[0], rtol=0, atol=1e-3)

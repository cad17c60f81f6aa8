"""Names that are not UTF-8: OpenVINO reads them, Python can't hold them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from xai_exporters import Request
from xai_exporters.sources import load_source

from xai_deploy import Explainer

from ..written import NET, agree, images, refusal, tflite
from .running import SHAPE, saved
from .test_bodies import counted
from .test_openvino_file import classifier, exported


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb'<layer id="(\d+)" name="[^"]*" type="(Relu|ReLU|Convolution|MatMul)"', rb'<layer id="\1" name="caf\xe9" type="\2"'),
        (rb'name="[^"]*" type="Parameter"', b'name="\xe9" type="Parameter"'),
        (rb'names="[^"]*"', b'names="\xe9,\xfc"'),
        (rb'<net name="[^"]*"', b'<net name="\xe9"'),
    ],
    ids=["nodes", "input", "tensors", "network"],
)  # fmt: skip
def test_names(old: bytes, new: bytes, tmp_path: Path) -> None:
    """The network is as readable, and as right, as with other names."""
    path = classifier(tmp_path)
    want = Explainer(exported(path, roles=("gradient",)).path)
    text, count = re.subn(old, new.replace(b"\\xe9", b"\xe9"), path.read_bytes())
    assert count
    path.write_bytes(text)
    done = exported(path, output_path=tmp_path / "other.xai", roles=("gradient",))
    x = np.random.default_rng(0).random((3, *want.bundle.manifest.input.image_shape)).astype(np.float32)
    got = Explainer(done.path)
    np.testing.assert_allclose(got.explain(x, "grad-cam").raw, want.explain(x, "grad-cam").raw, rtol=1e-6)
    assert done.manifest.target.tensor.isascii()


def test_names_inside_a_loop(tmp_path: Path) -> None:
    """A node's own graph has names too."""
    path = saved(tmp_path, counted, 1)
    text, count = re.subn(rb'name="[^"]*" type="Tanh"', b'name="\xe9" type="Tanh"', path.read_bytes())
    assert count == 1
    path.write_bytes(text)
    network = load_source(Request(path))
    x = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    assert network.reference is not None
    [want] = network.reference(x).values()
    np.testing.assert_allclose(want, np.tanh(x * np.float32(0.5 * 1.5 * 2.5)), rtol=1e-5)


def test_tensors_of_tflite(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    data = tflite.network(NET)
    assert data.count(b"maps") == 1
    path.write_bytes(data.replace(b"maps", b"m\xe9ps"))
    network = load_source(Request(path))
    agree(network, images(1), NET.scores(images(1)))
    assert {"mean", "linear"} <= {node.name for node in network.proto.graph.node}


def test_labels(tmp_path: Path) -> None:
    path = classifier(tmp_path, {"labels": "dog hare ant bee wolf"})
    path.write_bytes(path.read_bytes().replace(b"hare", b"h\xe4re"))
    assert refusal(path) == f"{path}: model_info/labels in its rt_info is not UTF-8; save the .xml as UTF-8"

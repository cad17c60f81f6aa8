"""Networks whose batch can't be made symbolic: the bundle takes one image at a time, and its numbers are those of its twin's.

The twin is the same network without what folds the batch away; its bundle takes any batch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters.cli import main
from xai_exporters.errors import BatchError, GraphError
from xai_exporters.pipeline import list_layers

from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..checks import RUNNERS, close, source_reference
from ..running import HEAD_AND_TAIL, export_onnx, left_behind, onnx_request

IMAGES = np.random.default_rng(4).standard_normal((2, *nets.SHAPE)).astype(np.float32)


def network(folded: bool, pooled_first: bool = True) -> onnx.ModelProto:
    """Convolutions, pooling, a linear layer; folded: a Squeeze takes the batch of one away for a while, in head and tail."""
    b = o.Build()

    def away(x: str) -> str:
        return b("Unsqueeze", b("Squeeze", x, b.weight([0])), b.weight([0])) if folded else x

    x = away(b("Relu", b.conv("image", 3, 4, strides=[2, 2])))
    x = b("Relu", b.conv(x, 4, o.CHANNELS), name="layer")
    if not pooled_first:
        x = b("Tanh", b.conv(x, o.CHANNELS, o.CHANNELS), name="tanh")
    x = b("GlobalAveragePool", x)
    x = b("Reshape", b("Squeeze", x), b.weight([1, o.CHANNELS])) if folded else b("Flatten", x)
    return b.model(b.linear(x, out="scores"), shape=(1 if folded else "N", *nets.SHAPE))


ROLES = ("pixelwise-tail", "gradient", "relevance", "input-gradient", "pixel-relevance", "guided-gradient")
FUSED = ("grad-cam", "reciprocam", "lrp")


def feeds_of(bundle: Bundle, role: str, image: Any, between: Any) -> dict[str, Any]:
    values = {"image": image, **between, "target": np.array([2]), "seed": np.zeros((1, nets.CLASSES), np.float32)}
    return {name: values[name] for name in (port.name for port in bundle.manifest.graphs[role].takes)}


def test_every_role_is_as_the_twins(tmp_path: Path) -> None:
    bundles = []
    for folded in (True, False):
        folder = tmp_path / str(folded)
        folder.mkdir()
        done = export_onnx(folder, network(folded), split="layer", roles=ROLES, fuse=FUSED)
        assert done.manifest.batch == ("one" if folded else "any")
        assert (done.one_because is not None) == folded
        bundles.append(Bundle.open(done.path))
    one, twin = bundles
    assert set(one.manifest.graphs) == {"head", "tail", *ROLES, *(f"fused-{m}" for m in FUSED)}
    for role in one.manifest.graphs:
        for value in (graph := onnx.load_from_string(one.graph(role)).graph).input:
            assert value.type.tensor_type.shape.dim[0].dim_value == 1, (role, value.name)
        assert all(value.type.tensor_type.shape.dim[0].dim_value == 1 for value in graph.output), role
        for run in RUNNERS:
            for image in (IMAGES[:1], IMAGES[1:]):
                between = run(twin.graph("head"), {"image": image})
                want = run(twin.graph(role), feeds_of(twin, role, image, between))
                got = run(one.graph(role), feeds_of(one, role, image, between))
                assert got.keys() == want.keys()
                for name in want:
                    close(got[name], want[name], 1e-4)


def test_images_that_mix_in_a_batch(tmp_path: Path) -> None:
    """A symbolic batch that runs, but an image's output depends on its neighbours."""
    b = o.Build()
    x = b.features()
    mean = b("ReduceMean", x, b.weight([0]), keepdims=1)
    model = b.model(b.linear(b.pooled(b("Tanh", b("Add", x, mean), name="tanh")), out="scores"))
    done = export_onnx(tmp_path, model, split="tanh", roles=HEAD_AND_TAIL)
    assert done.manifest.batch == "one"
    assert done.one_because is not None
    assert "three images at once give other outputs than one at a time" in done.one_because
    bundle = Bundle.open(done.path)
    want = source_reference(model)(IMAGES)["scores"]
    for run in RUNNERS:
        got = [run(bundle.graph("tail"), run(bundle.graph("head"), {"image": IMAGES[i : i + 1]})) for i in range(2)]
        close(np.concatenate([g["logits"] for g in got]), want)


def test_rows_as_the_batch_of_a_recurrent_layer(tmp_path: Path) -> None:
    """Sequencer's: an image's rows are an LSTM's batch, whose first state holds their number: no shape after it is known.

    What is no batch was then taken for one: the Reshape to [1,8,10,-1] became one to [0,8,10,-1], which no runtime runs.
    """
    b = o.Build()
    rows = b("Reshape", b("Transpose", b.features(), perm=[0, 2, 3, 1]), b.weight([-1, 10, 6]))
    steps = b("Transpose", rows, perm=[1, 0, 2])
    height = b("Gather", b("Shape", steps), b.weight([1]))
    state = b("Expand", b.draw(1, 8, 6), b("Concat", b.weight([1]), height, b.weight([6]), axis=0))
    y = b("LSTM", steps, b.draw(1, 24, 6), b.draw(1, 24, 6), b.draw(1, 48), "", state, state, hidden_size=6)
    rows = b("Transpose", b("Squeeze", y, b.weight([1])), perm=[1, 0, 2])
    x = b("Transpose", b("Reshape", rows, b.weight([1, 8, 10, -1])), perm=[0, 3, 1, 2])
    model = b.model(b.linear(b.pooled(b("Tanh", x)), out="scores"), shape=(1, *nets.SHAPE))
    bundle = Bundle.open(export_onnx(tmp_path, model, split="layer", roles=HEAD_AND_TAIL).path)
    assert bundle.manifest.batch == "one"
    for image in (IMAGES[:1], IMAGES[1:]):
        want = source_reference(model)(image)["scores"]
        for run in RUNNERS:
            close(run(bundle.graph("tail"), run(bundle.graph("head"), {"image": image}))["logits"], want)


def test_layers_and_random_weights(tmp_path: Path) -> None:
    cuts = list_layers(onnx_request(tmp_path, network(True)))
    assert "layer_out" in [cut.tensor for cut in cuts]
    done = export_onnx(tmp_path, network(True), split="layer", randomise=2, roles=HEAD_AND_TAIL)
    assert [one.manifest.batch for one in done.randomised] == ["one", "one"]


@pytest.mark.parametrize("method", ["score-cam", "reciprocam", "integrated-gradients"])
def test_a_method_that_needs_a_batch_in_one_graph(method: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=rf"--fuse {method}: the network takes one image at a time.*runtime engine"):
        export_onnx(tmp_path, network(True, pooled_first=False), split="layer", fuse=(method,))
    assert left_behind(tmp_path) == []


def test_a_fixed_batch_of_several_that_stays(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Add", b.features(), b.weight(np.ones((4, 1, 1, 1), np.float32)))
    model = b.model(b.linear(b.pooled(b("Relu", x)), out="scores"), shape=(4, *nets.SHAPE))
    with pytest.raises(
        BatchError, match=r"takes exactly 4 images at once.*with a symbolic batch, or with a batch of 1"
    ):
        export_onnx(tmp_path, model)
    assert left_behind(tmp_path) == []


def test_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = onnx_request(tmp_path, network(True))
    assert main([str(request.source), "-o", str(tmp_path / "out.xai"), "--preprocess", "none"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "The bundle takes one image at a time, which is slower:" in told
    assert "3 images, one at a time" in told


def test_triton_gets_whole_shapes(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    export_onnx(
        tmp_path,
        network(True),
        split="layer",
        fuse=("grad-cam",),
        serve_repo=("triton", repository),
        roles=HEAD_AND_TAIL,
    )
    config = (repository / "net-grad-cam" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert 'backend: "onnxruntime"' in config
    assert re.findall(r"dims: (.*)", config) == ["[ 1, 3, 16, 20 ]", "[ 1 ]", "[ 1, 5 ]", "[ 1, 8, 10 ]"]
    assert "dynamic_batching" not in config

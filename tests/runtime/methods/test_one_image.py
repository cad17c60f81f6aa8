"""A bundle whose graphs take one image at a time explains as its twin does that takes any number; made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from xai_deploy import Explainer, method_names
from xai_deploy.agreement import compare as agreement
from xai_deploy.benchmark import benchmark
from xai_deploy.cli import explain
from xai_deploy.errors import NotApplicableError, RuntimeFailure
from xai_deploy.evaluation.metrics import create
from xai_deploy.evaluation.metrics.metric import Case
from xai_deploy.images import encode_image
from xai_deploy.preprocess import Prepared

from ...few import few
from .. import tiny

COUNT = 3


def fixed(data: bytes) -> bytes:
    """An ONNX file with a batch of 1 in place of any."""
    model = onnx.load_from_string(data)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 1
    result: bytes = model.SerializeToString()
    return result


def pair(folder: Path, kind: tiny.Kind) -> tuple[Path, Path]:
    """The bundle for single images, and its twin."""
    twin = tiny.write(folder / "any.xai", kind, gradients=True)
    graphs = {path.name: fixed(path.read_bytes()) for path in twin.path.glob("*.onnx")}
    one = tiny.write(folder / "one.xai", kind, gradients=True, changes={"batch": "one"}, extra=graphs)
    return one.path, twin.path


@pytest.fixture(scope="module")
def bundles_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    kinds: tuple[tiny.Kind, ...] = ("pooled", "residual")
    return {kind: pair(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


@pytest.mark.parametrize("kind", ["pooled", "residual"])
def test_every_method(bundles_of: dict[str, tuple[Path, Path]], backend: str, kind: tiny.Kind) -> None:
    one, twin = (Explainer(path, backend) for path in bundles_of[kind])
    assert (one.batch_size, twin.batch_size) == (1, 16)
    x = tiny.inputs(kind, COUNT)
    np.testing.assert_allclose(one.predict(x), twin.predict(x), rtol=1e-5, atol=1e-6)
    ran = []
    for name in method_names():
        spec = (name, few(name))
        try:
            expected = twin.explain_many(x, [spec], [None, [0, 4, 2], "beagle vs tabby cat"])
        except NotApplicableError:
            continue
        for got, want in zip(
            one.explain_many(x, [spec], [None, [0, 4, 2], "beagle vs tabby cat"]), expected, strict=True
        ):
            np.testing.assert_array_equal(got.target, want.target)
            np.testing.assert_allclose(got.raw, want.raw, rtol=1e-4, atol=1e-5 * np.abs(want.raw).max(), err_msg=name)
        ran.append(name)
    assert {"reciprocam", "score-cam", "rise", "grad-cam", "integrated-gradients", "smoothgrad"} <= set(ran)


def test_variants_that_mask(bundles_of: dict[str, tuple[Path, Path]], backend: str) -> None:
    one, twin = (Explainer(path, backend) for path in bundles_of["residual"])
    x = tiny.inputs("residual", COUNT)
    specs: list[agreement.Spec] = [
        ("reciprocam", {"score": "softmax", "mask": "gaussian"}),
        ("score-cam", {"baseline": "zeros"}),
        ("score-cam", {"score": "logit", "channel_softmax": True}),
    ]
    for got, want in zip(one.explain_many(x, specs), twin.explain_many(x, specs), strict=True):
        np.testing.assert_allclose(got.raw, want.raw, rtol=1e-4, atol=1e-6)


def test_the_graph_takes_no_two(bundles_of: dict[str, tuple[Path, Path]], backend: str) -> None:
    """Otherwise the tests above would show nothing."""
    one, _ = bundles_of["pooled"]
    with pytest.raises(RuntimeFailure):
        Explainer(one, backend)._sessions("head").run({"image": tiny.inputs("pooled", 2)}, ["activation"])


def test_check_and_bench(bundles_of: dict[str, tuple[Path, Path]], backend: str) -> None:
    one, twin = bundles_of["pooled"]
    pictures = list(np.random.default_rng(2).integers(0, 256, (COUNT, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8))
    found = [agreement.explain(Explainer(path, backend), pictures, {"cam": ("cam", {})}) for path in (one, twin)]
    for image in agreement.compare(["a", "b", "c"], *found):
        assert image.rank_correlation["cam"] == pytest.approx(1)
        assert image.probability_difference is not None
        assert image.probability_difference < 1e-6
    report = benchmark(
        [one], methods=["reciprocam"], batches=[1, 3], backends=[backend], runs=1, warmup=1, memory=False
    )
    assert [(r.method, r.batch) for r in report.results] == [(m, b) for m in ("plain", "reciprocam") for b in (1, 3)]


def test_a_whole_model_of_one_image_beside_it(bundles_of: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    one, _ = bundles_of["pooled"]
    head, tail = (onnx.load(one / f"{role}.onnx") for role in ("head", "tail"))
    whole = onnx.compose.merge_models(head, tail, io_map=[("activation", "activation")])
    onnx.save(whole, tmp_path / "whole.onnx")
    report = benchmark(
        [one], methods=["cam"], batches=[2], backends=["onnxruntime"], runs=1, warmup=1, memory=False,
        model=str(tmp_path / "whole.onnx"),
    )  # fmt: skip
    assert len(report.results) == 2


def test_command(bundles_of: dict[str, tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, twin = bundles_of["pooled"]
    for i in range(COUNT):
        picture = np.random.default_rng(i).integers(0, 256, (30, 40, 3), np.uint8)
        Path(f"{i}.png").write_bytes(encode_image(picture, ".png"))
    told = []
    for path in (one, twin):
        assert explain.main([str(path), "0.png", "1.png", "2.png", "-o", path.name, "-m", "score-cam"]) == 0
        told.append(json.loads(Path(path.name, "results.json").read_bytes()))
    assert [report["bundle"]["batch"] for report in told] == ["one", "any"]
    for got, want in zip(*(report["images"] for report in told), strict=True):
        assert got["prediction"][0]["probability"] == pytest.approx(want["prediction"][0]["probability"], rel=1e-5)
        a, b = (np.load(Path(path.name, got["explanations"][0]["raw"])) for path in (one, twin))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_metrics(bundles_of: dict[str, tuple[Path, Path]], backend: str) -> None:
    """Evaluation masks and predicts through the same engine."""
    x, found = tiny.inputs("pooled", COUNT), []
    for path in bundles_of["pooled"]:
        explainer = Explainer(path, backend)
        e = explainer.explain(Prepared(x), "reciprocam")
        case = Case(explainer, ("reciprocam", {}), x, e.logits, e.target, e.heatmap)
        measured = [create(name, {}).measure(case) for name in ("insertion", "deletion", "average-drop")]
        found.append({name: values for figures in measured for name, values in figures.items()})
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-5, err_msg=name)

"""Outputs that are computed from probabilities: what is told is the share, or nothing; truth is the source's own output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters.errors import GraphError

from xai_deploy import Explainer
from xai_deploy.cli import check, evaluate, explain
from xai_deploy.errors import NotApplicableError
from xai_deploy.images import encode_image

from ... import nets
from ... import onnx_nets as o
from ...checks import source_reference
from ...probabilities import Ending, network, number, scores
from ...running import export_onnx
from .test_probabilities import BACKENDS, ROLES, halved, images, told

DOUBLE = onnx.TensorProto.DOUBLE


def softmaxes(b: o.Build, x: str, *factors: float) -> list[str]:
    return [b("Softmax", scores(b, x, factor)) for factor in factors]


def sigmoids(b: o.Build, x: str, *factors: float) -> list[str]:
    return [b("Sigmoid", scores(b, x, factor)) for factor in factors]


def _stacked(op: str, end: str, axis: int) -> Ending:
    """Three views as torch stacks them, summed."""

    def ending(b: o.Build, x: str) -> str:
        along: dict[str, Any] = {"axis": axis} if axis else {}
        views = [b("Unsqueeze", scores(b, x, f), b.weight([1])) for f in (1.0, 2.0, 3.0)]
        return b(op, b(end, b("Concat", *views, axis=1), **along), b.weight([1]), keepdims=0)

    return ending


def _percent(b: o.Build, x: str, parts: list[str]) -> str:
    return b("Mul", b("Add", *parts), number(b, 50))


def _written_out(b: o.Build, x: str, factor: float) -> str:
    e = b("Exp", scores(b, x, factor))
    return b("Div", e, b("ReduceSum", e, b.weight([1]), keepdims=1))


def _in_double(b: o.Build, x: str) -> str:
    parts = [b("Softmax", b("Cast", scores(b, x, f), to=DOUBLE), axis=1) for f in (1.0, 3.0)]
    return b("Cast", b("Add", *parts), to=1)


def _in_codes(b: o.Build, x: str) -> str:
    scale, zero = number(b, 2 / 255), b.weight(np.array(0, np.uint8))
    return b("DequantizeLinear", b("QuantizeLinear", b("Add", *softmaxes(b, x, 1, 3)), scale, zero), scale, zero)


SHARES: dict[str, tuple[Ending, str, float]] = {
    "(a + b) * 50": (lambda b, x: _percent(b, x, softmaxes(b, x, 1, 3)), "normalised", 100),
    "a + b": (lambda b, x: b("Add", *softmaxes(b, x, 1, 3)), "normalised", 2),
    "50 a + 50 b": (
        lambda b, x: b("Add", *(b("Mul", p, number(b, 50)) for p in softmaxes(b, x, 1, 3))),
        "normalised",
        100,
    ),
    "sum of three": (lambda b, x: b("Sum", *softmaxes(b, x, 1, 2, 3)), "normalised", 3),
    "stacked": (_stacked("ReduceSum", "Softmax", 2), "normalised", 3),
    "written out": (lambda b, x: b("Add", _written_out(b, x, 1), _written_out(b, x, 3)), "normalised", 2),
    "in double": (_in_double, "normalised", 2),
    "codes": (_in_codes, "normalised", 2),
    "smeared": (
        lambda b, x: b("MatMul", *softmaxes(b, x, 3), b.weight((np.eye(5) + 0.2).astype(np.float32))),
        "normalised",
        2,
    ),
    "evidence": (
        lambda b, x: b(
            "Mul",
            number(b, 7),
            b("Div", e := b("Softplus", scores(b, x)), b("ReduceSum", e, b.weight([1]), keepdims=1)),
        ),
        "normalised",
        7,
    ),
    "smoothed, in percent": (
        lambda b, x: b("Mul", b("Add", b("Mul", *softmaxes(b, x, 2), number(b, 0.9)), number(b, 0.02)), number(b, 100)),
        "normalised",
        100,
    ),
    "overlapping classes": (
        lambda b, x: b("Mul", b("MatMul", *softmaxes(b, x, 2), b.weight(np.tri(5, dtype=np.float32))), number(b, 100)),
        "independent",
        100,
    ),
    "sum of sigmoids": (lambda b, x: b("Sum", *sigmoids(b, x, 1, 2, 3)), "independent", 3),
    "percent of their mean": (
        lambda b, x: b("Mul", b("Mean", *sigmoids(b, x, 1, 3)), number(b, 100)),
        "independent",
        100,
    ),
    "stacked sigmoids": (_stacked("ReduceSum", "Sigmoid", 0), "independent", 3),
    "weighted sum": (
        lambda b, x: b(
            "Add", *(b("Mul", p, number(b, w)) for p, w in zip(sigmoids(b, x, 1, 3), (0.5, 2.5), strict=True))
        ),
        "independent",
        3,
    ),
    "sigmoids of one class": (
        lambda b, x: b("Add", *(b("Sigmoid", scores(b, x, f, 1)) for f in (1.0, 3.0))),
        "independent",
        2,
    ),
}
"""Name -> how it is written, what the bundle calls it, and the constant."""

SCORES: dict[str, Ending] = {
    "2 p - 1": lambda b, x: b("Sub", b("Mul", *sigmoids(b, x, 2), number(b, 2)), number(b, 1)),
    "weighted classes": lambda b, x: b("Mul", *softmaxes(b, x, 2), b.weight(np.linspace(1, 2, 5).astype(np.float32))),
    "difference": lambda b, x: b("Sub", *softmaxes(b, x, 1, 3)),
    "above a half": lambda b, x: b("Sub", *softmaxes(b, x, 2), number(b, 0.5)),
    "negative": lambda b, x: b("Neg", b("Mul", *sigmoids(b, x, 2), number(b, 3))),
}
LOGITS: dict[str, Ending] = {
    "hidden sigmoids": lambda b, x: b("Gemm", b("Sigmoid", scores(b, x)), b.draw(5, 5), b.draw(5)),
    "hidden softmax": lambda b, x: b("Gemm", b("Softmax", scores(b, x)), b.draw(5, 5), b.draw(5)),
    "hard swish": lambda b, x: b("Mul", y := scores(b, x), b("HardSigmoid", y)),
    "bounded": lambda b, x: b("Add", b("Tanh", scores(b, x)), b("Tanh", scores(b, x))),
    "gated sum": lambda b, x: b("Add", y := scores(b, x), b("Sigmoid", y)),
}


@pytest.mark.parametrize("name", SHARES)
def test_the_share_is_told(tmp_path: Path, name: str) -> None:
    ending, activation, constant = SHARES[name]
    model = network(ending)
    roles = ROLES if name == "in double" else ("tail", "gradient", "relevance")
    done = export_onnx(tmp_path, model, roles=roles, split="layer")
    assert (done.manifest.activation, done.manifest.outputs[0].kind) == (activation, "derived")
    want = source_reference(model, by_runtime=name == "codes")(images())["result"] / constant
    assert np.ptp(want, axis=0).max() > 0.03
    assert activation != "normalised" or np.abs(want.sum(1) - 1).max() < 0.03
    step = 1 / 255 if name == "codes" else 0
    for backend in BACKENDS:
        explainer = Explainer(done.path, backend)
        np.testing.assert_allclose(told(explainer, images()), want, rtol=1e-4, atol=1e-5 + step, err_msg=backend)
        if name != "in double":
            assert explainer.explain(images(1), "grad-cam").raw.shape == (1, 8, 10)


def test_half_precision(tmp_path: Path) -> None:
    model = halved(network(SHARES["(a + b) * 50"][0]))
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert done.manifest.activation == "normalised"
    x = images().astype(np.float16)
    want = source_reference(model, by_runtime=True)(x)["result"].astype(np.float32) / 100
    np.testing.assert_allclose(told(Explainer(done.path, "onnxruntime"), x), want, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("name", LOGITS)
def test_logits_stay_logits(tmp_path: Path, name: str) -> None:
    manifest = export_onnx(tmp_path, network(LOGITS[name]), roles=("tail",), split="layer").manifest
    assert (manifest.activation, manifest.outputs[0].kind) == ("none", "logits")


@pytest.mark.parametrize("name", SCORES)
def test_no_probability_is_told(tmp_path: Path, name: str) -> None:
    model = network(SCORES[name])
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert (done.manifest.activation, done.manifest.outputs[0].kind) == ("scores", "derived")
    explainer = Explainer(done.path, "onnxruntime")
    found = explainer.explain(images(), "reciprocam")
    assert found.probabilities is None
    np.testing.assert_allclose(found.logits, source_reference(model)(images())["result"], rtol=1e-4, atol=1e-5)
    for method in ("score-cam", "rise"):
        with pytest.raises(
            NotApplicableError,
            match=rf"{method}: .*computed from probabilities, but is not a probability itself; give score='logit'",
        ):
            explainer.explain(images(1), method)
    assert explainer.explain(images(1), "rise", masks=5, score="logit").raw.any()


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    picture = np.random.default_rng(1).integers(0, 256, (*nets.SIZE, 3), np.uint8)
    Path("pictures/a.png").write_bytes(encode_image(picture, ".png"))
    return export_onnx(tmp_path, network(SCORES["weighted classes"]), roles=ROLES, split="layer").path


def test_explain_tells_the_score(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main([str(bundle), "pictures/a.png"]) == 0
    [image] = json.loads(Path("xai-output/a/results.json").read_bytes())["images"]
    assert [entry["probability"] for entry in image["prediction"]] == [None] * 5
    assert image["prediction"][0]["logit"] > image["prediction"][1]["logit"]
    assert "%" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (check.main, ["{0}", "{0}", "pictures"], "there is no probability to compare"),
        (
            evaluate.main,
            ["{0}", "pictures", "--metrics", "average-drop"],
            "leave out the metrics that need one",
        ),
    ],
)
def test_commands_refuse_probabilities(
    bundle: Path, main: Callable[..., int], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(bundle) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert "the network's output is computed from probabilities, but is not a probability itself" in told
    assert words in told


@pytest.mark.parametrize("score", ["probability", "logit"])
def test_fused(tmp_path: Path, score: str) -> None:
    options: Any = {"fuse": (f"score-cam:score={score}",), "roles": ROLES, "split": "layer"}
    if score == "logit":
        export_onnx(tmp_path, network(SCORES["2 p - 1"]), **options)
        return
    with pytest.raises(
        GraphError,
        match=r"score-cam: .*computed from probabilities, but is not a probability itself; fuse with score=logit",
    ):
        export_onnx(tmp_path, network(SCORES["2 p - 1"]), **options)

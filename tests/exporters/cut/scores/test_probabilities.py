"""What is told as a probability is the network's own output, however that was computed; compared with the source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from xai_exporters.cut.scores.logits import Logits, find_scores
from xai_exporters.errors import GraphError, VerificationError

from xai_deploy import Explainer, heatmap, resample
from xai_deploy.errors import NotApplicableError
from xai_deploy.methods import create
from xai_deploy.preprocess import Prepared
from xai_deploy.probabilities import probabilities

from ... import nets
from ... import onnx_nets as o
from ...checks import onnxruntime, source_reference
from ...probabilities import PROBABILITIES, SCORES, Ending, network, number, scores
from ...running import export_onnx, left_behind

ROLES = ("tail", "pixelwise-tail")
BACKENDS = ("onnxruntime", "openvino")


def images(count: int = 6, seed: int = 3) -> NDArray[np.float32]:
    """Other images than the export's probes."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, *nets.SHAPE)) * np.linspace(0.2, 4, count)[:, None, None, None]).astype("f")


def told(explainer: Explainer, x: NDArray[Any]) -> NDArray[Any]:
    """The probabilities of some inputs."""
    return probabilities(explainer.predict(Prepared(x)), explainer.bundle.manifest.activation)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_own_output(tmp_path: Path, name: str) -> None:
    ending, activation = PROBABILITIES[name]
    model = network(ending)
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert (done.manifest.activation, done.manifest.outputs[0].kind) == (activation, "probabilities")
    x = images()
    want = source_reference(model, by_runtime="codes" in name)(x)["result"]
    assert np.ptp(want, axis=0).max() > 0.05  # the images differ, or the test would show nothing
    step = 1 / 256 if "codes" in name else 0
    for backend in BACKENDS:
        got = told(Explainer(done.path, backend), x)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 + step, err_msg=backend)


@pytest.mark.parametrize("name", SCORES)
def test_scores_that_are_no_probabilities(tmp_path: Path, name: str) -> None:
    """By convention their softmax: of logarithms of probabilities these."""
    model = network(SCORES[name])
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert (done.manifest.activation, done.manifest.outputs[0].kind) == ("none", "logits")
    x = images()
    e = np.exp(source_reference(model)(x)["result"].astype(np.float64))
    np.testing.assert_allclose(told(Explainer(done.path, "onnxruntime"), x), e / e.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(("end", "activation"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid")])
def test_percent(tmp_path: Path, end: str, activation: str) -> None:
    model = network(lambda b, x: b("Mul", b(end, scores(b, x)), number(b, 100)))
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert (done.manifest.activation, done.manifest.outputs[0].kind) == (activation, "derived")
    want = source_reference(model)(images())["result"] / 100
    np.testing.assert_allclose(told(Explainer(done.path, "onnxruntime"), images()), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("softplus", [False, True])
def test_logarithms_of_sigmoids(tmp_path: Path, softplus: bool) -> None:
    """As torch writes LogSigmoid: their softmax would be wrong, for the labels are independent."""

    def ending(b: o.Build, x: str) -> str:
        x = scores(b, x, 0.02)
        return b("Neg", b("Softplus", b("Neg", x))) if softplus else b("Log", b("Sigmoid", x))

    model = network(ending)
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert (done.manifest.activation, done.manifest.outputs[0].kind) == ("sigmoid", "derived")
    want = np.exp(source_reference(model)(images())["result"])
    np.testing.assert_allclose(told(Explainer(done.path, "onnxruntime"), images()), want, rtol=1e-4, atol=1e-6)


def test_a_single_score_has_no_probability(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, network(lambda b, x: scores(b, x, classes=1)), roles=ROLES, split="layer")
    explainer = Explainer(done.path, "onnxruntime")
    with pytest.raises(NotApplicableError, match="a single output that is not a probability"):
        told(explainer, images())
    with pytest.raises(NotApplicableError, match=r"score-cam: .*not a probability; give score='logit'"):
        explainer.explain(images(1), "score-cam")


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("axis", "words"), [(0, "axis 0, which is the batch"), (2, "axis 2, which has one element")])
def test_a_softmax_over_the_wrong_axis(tmp_path: Path, op: str, axis: int, words: str) -> None:
    def ending(b: o.Build, x: str) -> str:
        return b("Squeeze", b(op, b("Unsqueeze", scores(b, x), b.weight([2])), axis=axis), b.weight([2]))

    with pytest.raises(GraphError, match=f"the {op} after .* runs over {words}: it gives the same for every image"):
        export_onnx(tmp_path, network(ending))


@pytest.mark.parametrize("name", ["sigmoid", "hard sigmoid", "mean of two", "yes and no", "exp and sum"])
def test_default_score_follows_the_network(tmp_path: Path, name: str) -> None:
    """RISE by its formula on the source itself: its weights are the source's own output."""
    model = network(PROBABILITIES[name][0])
    bundle = export_onnx(tmp_path, model, roles=ROLES, split="layer").path
    x, masks = images(1), 40
    rng, rise = np.random.default_rng(0), create("rise", {"masks": masks})
    drawn = np.stack([rise._mask(rng, *nets.SIZE) for _ in range(masks)])  # type: ignore[attr-defined]
    own = source_reference(model)((x * drawn[:, None]).astype(np.float32))["result"][:, 1]
    want = np.tensordot(own.astype(np.float64), drawn.astype(np.float64), 1) / (masks * 0.5)
    for backend in BACKENDS:
        explanation = Explainer(bundle, backend).explain(x, "rise", 1, masks=masks)
        assert explanation.options["score"] == "probability"
        np.testing.assert_allclose(explanation.raw[0], want, rtol=1e-4, atol=1e-5, err_msg=backend)


@pytest.mark.parametrize("name", ["sigmoid", "hard sigmoid", "mean of two", "softmax"])
def test_score_cam_by_its_formula(tmp_path: Path, name: str) -> None:
    """weight_k = p(x * minmax(up(A_k)))_c of the source; the engine, and the fused graph of it, give that map."""
    model = network(PROBABILITIES[name][0])
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer", fuse=("score-cam",))
    explainer = Explainer(done.path, "onnxruntime")
    x = images(1, seed=8)
    activation = np.asarray(explainer._sessions("head").run({"image": x}, ["activation"])["activation"])[0]
    up = resample.resize(activation, *nets.SIZE)
    own = source_reference(model)((x * heatmap.normalise(up.copy())[:, None]).astype(np.float32))["result"][:, 1]
    own = np.where(np.ptp(activation, axis=(1, 2)) > 0, own, 0)
    want = np.maximum(np.tensordot(own, up, 1), 0)
    np.testing.assert_allclose(explainer.explain(x, "score-cam", 1).raw[0], want, rtol=1e-3, atol=1e-4)
    graph = done.path / "fused-score-cam.onnx"
    found = onnxruntime(graph.read_bytes(), {"image": x, "target": np.array([1])})["saliency_map"]
    np.testing.assert_allclose(found[0], heatmap.normalise(want[None])[0], atol=1e-3)


def decided(op: str) -> Ending:
    """A decision in place of scores."""

    def ending(b: o.Build, x: str) -> str:
        x = scores(b, x)
        if op == "ArgMax as float":
            return b("Cast", b("ArgMax", x, axis=1, keepdims=1), to=o.FLOAT)
        if op == "TopK":
            b("TopK", x, b.weight([2]), axis=1, out="best")
            b.nodes[-1].output.append("indices")
            return "best"
        if op == "OneHot":
            values = b.weight(np.array([0, 1], np.float32))
            return b("OneHot", b("ArgMax", x, axis=1, keepdims=0), b.weight(np.array(5)), values, axis=1)
        if op == "Greater":
            return b("Cast", b("Greater", b("Sigmoid", x), number(b, 0.5)), to=o.FLOAT)
        if op == "whole percent":
            return b("Div", b("Round", b("Mul", b("Softmax", x), number(b, 100))), number(b, 100))
        if op == "Where":
            return b("Where", b("Greater", x, number(b, 0)), number(b, 1), number(b, 0))
        return b(op, x)

    return ending


@pytest.mark.parametrize(
    ("op", "words"),
    [
        ("ArgMax as float", "the number of the class that ArgMax chose"),
        ("TopK", "a list made by TopK, not one score per class"),
        ("OneHot", "decisions or rounded values of OneHot"),
        ("Greater", "decisions or rounded values of Greater"),
        ("whole percent", "decisions or rounded values of Round"),
        ("Where", "decisions or rounded values of Greater"),
        ("Floor", "decisions or rounded values of Floor"),
        ("Sign", "decisions or rounded values of Sign"),
        ("Hardmax", "decisions or rounded values of Hardmax"),
    ],
)
def test_decisions_are_refused(tmp_path: Path, op: str, words: str) -> None:
    with pytest.raises(GraphError, match=f"the output 'result' holds {words}.*; export the network up to its scores"):
        export_onnx(tmp_path, network(decided(op)))


def test_integers_are_refused(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Cast", b("Mul", b("Sigmoid", scores(b, b.pooled(b.features()))), number(b, 100)), to=7, out="result")
    with pytest.raises(
        GraphError, match=r"'result' holds integers \(int64\); export .*, which seem to be 'mul_8_out',"
    ):
        export_onnx(tmp_path, b.model(x, ranks={"result": (7, ("n", 5))}))


def test_many_paths_to_the_output(tmp_path: Path) -> None:
    """Forty sums of two paths each: followed one by one they would take for ever."""

    def ending(b: o.Build, x: str) -> str:
        x = b("Sigmoid", scores(b, x))
        for _ in range(40):
            x = b("Add", b("Mul", x, number(b, 0.5)), b("Mul", b("Sub", x, number(b, 0)), number(b, 0.5)))
        return b("Neg", b("Neg", x))

    done = export_onnx(tmp_path, network(ending), roles=("tail",), split="layer")
    assert done.manifest.activation in ("sigmoid", "independent")


@pytest.mark.parametrize(
    "name", ["mean of two", "yes and no", "exp and sum, safely", "hard sigmoid", "softmax", "clip"]
)
def test_half_precision(tmp_path: Path, name: str) -> None:
    ending, activation = PROBABILITIES[name]
    model = halved(network(ending))
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert done.manifest.activation == activation
    x = images().astype(np.float16)
    want = source_reference(model, by_runtime=True)(x)["result"].astype(np.float32)
    np.testing.assert_allclose(told(Explainer(done.path, "onnxruntime"), x), want, rtol=1e-2, atol=2e-3)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in float16."""
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


def test_a_wrong_activation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> Logits:
        return replace(find_scores(*arguments), activation="sigmoid")

    monkeypatch.setattr("xai_exporters.cut.choose.find_scores", wrong)
    with pytest.raises(VerificationError, match="the sigmoid of the logits differs from the output 'result' by"):
        export_onnx(tmp_path, network(PROBABILITIES["softmax"][0]))
    assert left_behind(tmp_path) == []


def test_softmax_in_double(tmp_path: Path) -> None:
    """Of logits in float32 that are cast first; no second softmax is told."""

    def ending(b: o.Build, x: str) -> str:
        return b("Cast", b("Softmax", b("Cast", scores(b, x), to=onnx.TensorProto.DOUBLE), axis=1), to=1)

    model = network(ending)
    done = export_onnx(tmp_path, model, roles=ROLES, split="layer")
    assert done.manifest.activation == "softmax"
    x = images()
    np.testing.assert_allclose(
        told(Explainer(done.path), x), source_reference(model)(x)["result"], rtol=1e-4, atol=1e-5
    )


def test_floats_by_way_of_integers_are_refused(tmp_path: Path) -> None:
    def ending(b: o.Build, x: str) -> str:
        return b("Cast", b("Cast", scores(b, x), to=onnx.TensorProto.INT64), to=1)

    with pytest.raises(GraphError, match="holds decisions or rounded values of a Cast to integers"):
        export_onnx(tmp_path, network(ending), split="layer")

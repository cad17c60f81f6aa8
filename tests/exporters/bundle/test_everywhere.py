"""A graph that a runtime computes wrongly is refused at export, and raises when it is run: with a runtime that lies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xai_exporters.bundle import installed
from xai_exporters.errors import GraphError, VerificationError

from tests.support.compiled_once import compile_once
from xai_deploy import Explainer
from xai_deploy.errors import RuntimeFailure, WrongResultError
from xai_deploy.faithful import allowed

from .. import nets
from .. import onnx_nets as o
from ..running import export_onnx, left_behind

IMAGES = np.random.default_rng(0).standard_normal((2, *nets.SHAPE)).astype(np.float32)


def lying(monkeypatch: pytest.MonkeyPatch, what: str, output: str) -> None:
    """OpenVINO, which gives one output of one graph 1 % too large."""
    honest = installed._openvino

    def opened(model: bytes, about: str) -> Any:
        function = honest(model, about)

        def run(feeds: Any) -> Any:
            results = function(feeds)
            return {n: v * (1.01 if (about, n) == (what, output) else 1) for n, v in results.items()}

        return run

    monkeypatch.setattr(installed, "_openvino", opened)


@pytest.mark.parametrize(
    ("role", "output", "options"),
    [
        ("input-gradient", "logits", {"input_gradient": True}),
        ("gradient", "logits", {"roles": ("gradient",)}),
        ("fused-grad-cam", "scores", {"fuse": ("grad-cam",)}),
    ],
)
def test_asked_for_and_wrong_on_one_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, output: str, options: Any
) -> None:
    lying(monkeypatch, f"the {role} graph", output)
    told = rf"the {role} graph can't be used: OpenVINO 20\S+ computes it wrongly: .*its logits differ .* is allowed"
    with pytest.raises(VerificationError, match=told):
        export_onnx(tmp_path, o.classifier(), **options)
    assert left_behind(tmp_path) == []


def test_by_default_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, "the relevance graph", "logits")
    manifest = export_onnx(tmp_path, o.classifier()).manifest
    assert "relevance" not in manifest.graphs
    assert "OpenVINO" in manifest.left_out["relevance"]
    assert "gradient" in manifest.graphs


def test_head_and_tail_wrong_on_one_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, "the tail", "logits")
    with pytest.raises(VerificationError, match=r"OpenVINO 20.* computes head and tail differently from ONNX Runtime"):
        export_onnx(tmp_path, o.classifier())


@pytest.mark.parametrize(
    ("what", "told"), [("the tail", "Nothing is"), ("the gradient graph", "The gradient graph is not")]
)
def test_what_a_runtime_does_not_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, told: str
) -> None:
    honest = installed._openvino

    def opened(model: bytes, about: str) -> Any:
        if about == what:
            raise GraphError(f"OpenVINO can't open {what}: END")
        return honest(model, about)

    monkeypatch.setattr(installed, "_openvino", opened)
    [note] = [note for note in export_onnx(tmp_path, o.classifier()).notes if "verified" in note]
    assert re.fullmatch(
        rf"{told} verified on OpenVINO 20\S+, which may not run .*: OpenVINO can't open {what}: END", note
    )


def test_rounding_that_decides_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sin of millions: a change of the image by 1e-7 of itself turns it, so two runtimes can't agree."""
    lying(monkeypatch, "the tail", "logits")
    b = o.Build()
    turned = b("Sin", b("Mul", "image", b.weight(np.float32(1e6))))
    chaotic = b.model(b.linear(b.pooled(b.features(turned)), out="scores"))
    with pytest.raises(VerificationError, match=r"float32's rounding decides this network's logits .*--preprocess"):
        export_onnx(tmp_path, chaotic)


class Lying:
    """A session whose outputs are off by a factor."""

    def __init__(self, session: Any, name: str, factor: float) -> None:
        self.session, self.name, self.factor, self.runs = session, name, factor, 0

    def run(self, feeds: Mapping[str, Any], fetch: Sequence[str]) -> dict[str, Any]:
        self.runs += 1
        results = self.session.run(feeds, fetch)
        return {n: np.asarray(v) * (self.factor if n == self.name else 1) for n, v in results.items()}


@pytest.fixture(scope="module")
def every_role(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(tmp_path_factory.mktemp("every"), o.classifier(), input_gradient=True).path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("method", "role", "output"),
    [
        ("grad-cam", "gradient", "logits"),
        ("relevance-cam", "relevance", "logits"),
        ("gradient", "input-gradient", "logits"),
        ("reciprocam", "pixelwise-tail", "pixel_logits"),
    ],
)
def test_the_engine_compares_once(every_role: Path, backend: str, method: str, role: str, output: str) -> None:
    explainer = Explainer(every_role, backend=backend)
    honest = explainer._sessions(role)
    wrong = 2 if role == "pixelwise-tail" else 1.01  # the bias is most of the logits
    explainer._sessions.opened[role] = Lying(honest, output, wrong)
    told = rf"{backend} [0-9.]+ computes the graph '{role}' wrongly: its logits differ .*export again"
    with pytest.raises(WrongResultError, match=told) as error:
        explainer.explain(IMAGES, method)
    assert isinstance(error.value, RuntimeFailure)
    explainer = Explainer(every_role, backend=backend)
    tail = Lying(explainer._sessions("tail"), "", 1)
    explainer._sessions.opened |= {"tail": tail, role: Lying(honest, output, 1.0001)}
    first = explainer.explain(IMAGES, method)
    before = tail.runs
    second = explainer.explain(IMAGES, method)
    np.testing.assert_array_equal(first.raw, second.raw)
    again = 1 if role == "pixelwise-tail" else 0  # the logits that are reported: that graph gives none
    assert (before, tail.runs) == (1 + again, before + again)


def test_tolerances(tmp_path: Path) -> None:
    manifest = export_onnx(tmp_path, o.classifier()).manifest
    assert manifest.logits_step == 0
    assert allowed(manifest, 10) == 1e-2
    assert allowed(manifest, 10, "bf16") == 0.2
    quantised = export_onnx(tmp_path, o.quantised(), overwrite=True).manifest
    assert 0 < quantised.logits_step < 1
    assert allowed(quantised, 10 * quantised.logits_step) == quantised.logits_step


def test_tests_compile_the_same_bytes_once(tmp_path: Path) -> None:
    """`compile_once`: other bytes, another name in messages and another compiler are compiled anew; runs are never kept."""
    compiled: list[str] = []

    def openvino(model: bytes | Path, what: str) -> Any:
        compiled.append(what)
        return lambda feeds: {"runs": len(feeds)}

    fresh = SimpleNamespace(**{**vars(installed), "_openvino": openvino})
    compile_once(fresh)
    (tmp_path / "b.onnx").write_bytes(b"b")
    for model, what in ((b"a", "one"), (b"a", "one"), (b"b", "one"), (tmp_path / "b.onnx", "one"), (b"a", "two")):
        function = fresh._openvino(model, what)
        assert (function({}), function({"x": 1})) == ({"runs": 0}, {"runs": 1})
    assert compiled == ["one", "one", "two"]
    fresh.compiled = None
    fresh._openvino(b"a", "one")
    for _ in range(2):
        fresh._openvino(b"a file at some location", "beside")
    assert compiled[3:] == ["one", "beside", "beside"]

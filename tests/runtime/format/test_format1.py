"""Bundles of format 1, which the exporter of before format 2 wrote: they open, and say what they said then.

`format1/NAME` is such a bundle; `format1/NAME.npz` what the engine of that time gave for two inputs. `every` has all graphs that
the exporter of that time wrote; its file holds all methods of that time, for the classes 1 and 3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import compose
from xai_exporters import Request, export

from xai_deploy import Bundle, Explainer, method_names
from xai_deploy.errors import ManifestError, NotApplicableError
from xai_deploy.format import bundle
from xai_deploy.format.format1 import upgraded
from xai_deploy.preprocess import Prepared

from ...few import few
from .test_bundle import rewrite

BUNDLES = Path(__file__).parent / "format1"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_explains_as_before(name: str, backend: str) -> None:
    explainer = Explainer(BUNDLES / name, backend)
    assert (explainer.bundle.manifest.format, explainer.bundle.manifest.activation) == (1, name)
    with np.load(BUNDLES / f"{name}.npz") as before:
        methods = [key for key in before if key not in ("x", "logits") and ":" not in key]
        found = explainer.explain_many(Prepared(before["x"]), methods)
        np.testing.assert_allclose(found[0].logits, before["logits"], rtol=1e-4, atol=1e-4)
        for method, explanation in zip(methods, found, strict=True):
            np.testing.assert_allclose(explanation.raw, before[method], rtol=1e-3, atol=1e-4)


OPTIONS: dict[str, dict[str, Any]] = {
    "rise": {"masks": 9},
    "integrated-gradients": {"steps": 5},
    "smoothgrad": {"samples": 3},
    "smooth-grad-cam++": {"samples": 3},
}
"""As the maps of `every.npz` were made."""
WITHOUT_GRAPHS = ("own-map", "full-grad")
"""Methods whose graphs the exporter of that time did not write."""


def close(got: Any, want: Any, what: str) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * float(np.abs(want).max()), err_msg=what)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_method_of_that_time(backend: str) -> None:
    explainer = Explainer(BUNDLES / "every", backend)
    with np.load(BUNDLES / "every.npz") as before:
        methods = [key for key in before if key not in ("x", "logits")]
        assert len(methods) == 20
        for method in methods:
            e = explainer.explain(Prepared(before["x"]), method, [1, 3], **OPTIONS.get(method, {}))
            close(e.logits, before["logits"], method)
            close(e.raw, before[method], method)


def test_the_default_score_of_sigmoids() -> None:
    """RISE and Score-CAM took the softmax of a multi-label network's scores; they take its own probabilities now."""
    explainer = Explainer(BUNDLES / "sigmoid")
    with np.load(BUNDLES / "sigmoid.npz") as before:
        for method in ("rise", "score-cam"):
            old, options = before[f"{method}:score=softmax"], OPTIONS.get(method, {})
            close(explainer.explain(Prepared(before["x"]), method, score="softmax", **options).raw, old, method)
            now = explainer.explain(Prepared(before["x"]), method, **options).raw
            assert np.abs(now - old).max() > 1e-2 * np.abs(old).max()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_method_since(tmp_path: Path, backend: str) -> None:
    """As today's bundle of the same network, which is head and tail joined."""
    head, tail = (onnx.load(BUNDLES / "every" / f"{part}.onnx") for part in ("head", "tail"))
    whole = compose.merge_models(head, tail, [("activation", "activation")])
    whole.graph.output.remove(next(value for value in whole.graph.output if value.name == "logits"))
    onnx.save(whole, tmp_path / "whole.onnx")
    today = export(
        Request(tmp_path / "whole.onnx", preprocess="tf", output_path=tmp_path / "today.xai", all_graphs=True)
    )
    old, new = Explainer(BUNDLES / "every", backend), Explainer(today.path, backend)
    with np.load(BUNDLES / "every.npz") as before:
        x, known = Prepared(before["x"]), set(before)
    since = [name for name in method_names() if name not in known and name != "class-map"]  # of detectors
    assert len(since) > 9
    for name in since:
        if name in WITHOUT_GRAPHS:
            with pytest.raises(
                NotApplicableError, match=f"{name}: this bundle has no .* export (the network|it) again"
            ):
                old.explain(x, name)
            continue
        want = new.explain(x, name, [1, 3], **few(name)).raw
        close(old.explain(x, name, [1, 3], **few(name)).raw, want, name)


def test_ports_follow_from_the_roles() -> None:
    """They are those that format 2 says of the same network."""
    graphs = Bundle.open(BUNDLES / "softmax").manifest.graphs
    said = {
        role: tuple(tuple((port.name, port.shape) for port in ports) for ports in (graph.takes, graph.gives))
        for role, graph in graphs.items()
    }
    image, activation = ("image", (3, 16, 20)), ("activation", (6, 8, 10))
    scores, seeds = (("logits", (5,)), ("result", (5,))), (("target", ()), ("seed", (5,)))
    assert said == {
        "head": ((image,), (activation,)),
        "tail": ((activation,), scores),
        "pixelwise-tail": ((activation,), (("pixel_logits", (80, 5)),)),
        "gradient": ((activation, *seeds), (*scores, ("gradient", (6, 8, 10)))),
        "input-gradient": ((image, *seeds), (*scores, ("gradient", (3, 16, 20)))),
        "relevance": ((activation, *seeds), (*scores, ("relevance", (6, 8, 10)))),
        "fused-grad-cam": ((), ()),
    }


def test_written_again_as_format_2() -> None:
    manifest = Bundle.open(BUNDLES / "sigmoid").manifest
    again = bundle.parse_manifest(manifest.to_bytes())
    assert (again.format, again.activation, again.batch) == (2, "sigmoid", "any")
    assert again.graphs == manifest.graphs


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("batch", "manifest: unknown key 'batch'"),
        ("requires", "manifest: unknown key 'requires'"),
        ("takes", r"manifest\.graphs\['tail'\]: unknown key 'takes'"),
    ],
)
def test_keys_of_format_2_are_unknown(tmp_path: Path, key: str, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes((BUNDLES / "sigmoid" / "manifest.json").read_bytes())
    rewrite(tmp_path, lambda d: (d["graphs"]["tail"] if key == "takes" else d).update({key: []}))
    with pytest.raises(ManifestError, match=message):
        bundle.parse_manifest((tmp_path / "manifest.json").read_bytes())


def test_activation_is_the_explained_outputs() -> None:
    document = json.loads((BUNDLES / "sigmoid" / "manifest.json").read_bytes())
    side = {"name": "side", "tensor": "side", "shape": [5], "kind": "other", "activation": "softmax"}
    changed = upgraded(document | {"outputs": [side, *document["outputs"], side]})
    assert changed["activation"] == "sigmoid"
    assert upgraded(document | {"outputs": [side]})["activation"] == "none"


@pytest.mark.parametrize("outputs", [3, [3], [{"activation": "softmax"}], None, {}])
def test_wrong_outputs(tmp_path: Path, outputs: object) -> None:
    document = json.loads((BUNDLES / "sigmoid" / "manifest.json").read_bytes()) | {"outputs": outputs}
    with pytest.raises(ManifestError, match=r"manifest\.outputs"):
        bundle.parse_manifest(json.dumps(document).encode())


def test_unknown_activation(tmp_path: Path) -> None:
    document = json.loads((BUNDLES / "sigmoid" / "manifest.json").read_bytes())
    document["outputs"][0]["activation"] = "tanh"
    with pytest.raises(ManifestError, match=r"outputs\[0\]\.activation: expected one of 'softmax', .*, got 'tanh'"):
        bundle.parse_manifest(json.dumps(document).encode())

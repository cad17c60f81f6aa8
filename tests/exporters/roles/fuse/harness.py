"""Export networks with fused graphs, run these on a runtime, and hold their maps against the runtime engine's."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from xai_exporters import Export, Request, export, pipeline
from xai_exporters.bundle.beside import noise_images
from xai_exporters.bundle.describe import settle
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.passes.clean import clean
from xai_exporters.question import refuse
from xai_exporters.relevance.composite import composites
from xai_exporters.roles.fuse.fused_method import fused
from xai_exporters.roles.plan import plan_roles
from xai_exporters.sources import load_source

from tests.exporters.checks import Array, Outputs, Runner, open_vino, reference
from xai_deploy import Explainer
from xai_deploy.format.bundle import SALIENCY, TARGET, Bundle, fused_role
from xai_deploy.format.guard.check import check_graph
from xai_deploy.foundation.exact_onnxruntime import open_exactly
from xai_deploy.preprocess import Prepared


@lru_cache(maxsize=16)
def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session: ort.InferenceSession = open_exactly(model, options, ["CPUExecutionProvider"])
    return session


def onnxruntime(model: bytes, feeds: Mapping[str, Array]) -> Outputs:
    """All outputs by name, computed by ONNX Runtime, in a session that is kept: files are run more than once here."""
    session = _session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


ORT: Mapping[Runner, float] = {onnxruntime: 1e-5}
RUNTIMES: Mapping[Runner, float] = {**ORT, open_vino: 1e-4}
"""Runtime -> largest difference of maps in [0,1]."""
TARGETS = ((-1,), (1,), (0, -1, 2))
METHODS = tuple(name for name in fused if name != "class-map")  # it is of detectors alone
IMAGES = {"resize": "stretch", "scale": 1 / 64, "mean": [2.0] * 3, "std": [1.0] * 3}
"""Preprocessing that keeps the numbers in the network small, so that no softmax saturates."""


def variants(name: str, product: bool = False) -> list[str]:
    """ "METHOD:OPTION=VALUE..." for each value of each option of a fused method; "METHOD" for the defaults.

    Args:
        name: The method.
        product: All combinations; otherwise one option at a time, the others as they are by default.
    """
    cls: Any = fused.get(name)
    hints = typing.get_type_hints(cls)
    values = {f.name: _values(f.name, hints[f.name], f.default) for f in fields(cls)}
    defaults = {f.name: f.default for f in fields(cls)}
    rows = itertools.product(*values.values()) if product else _one_at_a_time(values, defaults)
    chosen = [{o: v for o, v in zip(values, row, strict=True) if v != defaults[o]} for row in rows]
    spelt = [":".join([name, *(f"{o}={str(v).lower()}" for o, v in row.items())]) for row in chosen]
    return list(dict.fromkeys([name, *spelt]))


def _one_at_a_time(values: Mapping[str, list[object]], defaults: Mapping[str, object]) -> list[tuple[object, ...]]:
    return [tuple({**defaults, option: value}.values()) for option in values for value in values[option]]


def _values(option: str, hint: Any, default: Any) -> list[object]:
    if option == "composite":
        return list(composites())
    if option == "steps":
        return [1, 6]
    if option == "budget":
        return [None]  # another map than the engine's; see test_few_channels
    if hint is bool:
        return [True, False]
    values = list(typing.get_args(hint))
    assert default in values, f"say here which values {option!r} takes"
    return values


@dataclass(frozen=True)
class Fused:
    """A network's bundle with every graph that the engine needs, and fused graphs by what was asked for.

    Attributes:
        bundle: Holds head, tail, gradients, relevance.
        files: "METHOD:OPTION=VALUE" -> the fused file.
        engine: The runtime engine on the bundle.
    """

    bundle: Bundle
    files: dict[str, bytes]
    engine: Explainer

    def images(self, count: int) -> Array:
        """Noise as the network gets it."""
        return noise_images(self.bundle.manifest.input, count)

    def run(self, asked: str, x: Array, target: Sequence[int] | None = None, runner: Runner = onnxruntime) -> Outputs:
        """All outputs of a fused file; None: it has no input `target`."""
        feeds = {self.bundle.manifest.input.name: x}
        if target is not None:
            feeds[TARGET] = np.array(target, np.int64)
        return runner(self.files[asked], feeds)

    def raw(self, asked: str, x: Array, target: Sequence[int]) -> Array:
        """The engine's map before min-max, one image at a time."""
        name, options = spoken(asked)
        rows = zip(np.split(x, len(x)), target, strict=True)
        return np.concatenate([self.engine.explain(Prepared(one), name, target=t, **options).raw for one, t in rows])

    def plain(self, x: Array) -> Outputs:
        """The network's own outputs, as head and tail give them."""
        between = onnxruntime(self.bundle.graph("head"), {self.bundle.manifest.input.name: x})
        after = onnxruntime(self.bundle.graph("tail"), between)
        return {output.name: after[output.tensor] for output in self.bundle.manifest.outputs}


def spoken(asked: str) -> tuple[str, dict[str, Any]]:
    """ "METHOD:OPTION=VALUE" as the engine takes it."""
    name, *pairs = asked.split(":")
    words: dict[str, object] = {"true": True, "false": False}
    options: dict[str, Any] = {}
    for pair in pairs:
        key, value = pair.split("=", 1)
        options[key] = words.get(value, int(value) if value.isdigit() else value)
    return name, options


def _variants(request: Request, done: Export, asked: Sequence[str]) -> dict[str, bytes]:
    """The fused files that exports write, several of one method, too, from one plan: the network is read and cut once."""
    network = load_source(request)
    graph = clean(network.proto, request.input_shape, done.one_because)
    request = settle(request, network, graph, refuse)
    material = pipeline._plan(request, plan_roles(request), network, graph, None, lambda step: None).material
    files = {}
    for text in asked:
        role = plan_roles(replace(request, fuse=(text,))).roles[fused_role(text.partition(":")[0])]
        notes = {**role.notes, "xai_tensor": str(material.layer.target.name)}
        built = role.build(material)
        assert built is not None
        files[text] = to_bytes(make_model(built, notes))
        check_graph(files[text], text, None)
    return files


def fuse(request: Request, *asked: str) -> Fused:
    """Export with the graphs that the engine needs for these; of several variants of one method the first is exported."""
    first = {text.partition(":")[0]: text for text in reversed(asked)}
    path = request.output_path
    assert path is not None
    whole: dict[str, Any] = {
        "input_gradient": bool(first.keys() & {"gradient", "integrated-gradients"}),
        "pixel_relevance": "lrp" in first,
        "composite": tuple(sorted({str(c) for a in asked if (c := spoken(a)[1].get("composite"))} - {"relevance-cam"})),
    }
    done = export(replace(request, overwrite=True, fuse=tuple(first.values()), **whole))
    bundle = Bundle.open(done.path)
    files = {text: bundle.graph(fused_role(name)) for name, text in first.items()}
    if len(asked) > len(files):
        variants = _variants(request, done, asked)
        assert variants == variants | files, "other graphs than the export's"
        files = variants
    return Fused(bundle, files, Explainer(path))


def fuse_onnx(folder: Path, model: onnx.ModelProto, *asked: str, **options: Any) -> Fused:
    """`fuse` of an ONNX source, cut at "layer"; `images` of small numbers where nothing else is said."""
    onnx.save(model, folder / "net.onnx")
    defaults = {"output_path": folder / "net.xai", "split": "layer", "preprocess_fields": IMAGES}
    return fuse(Request(folder / "net.onnx", **{**defaults, **options}), *asked)


def min_max(raw: Array) -> Array:
    """Each map to [0,1] in float64; a constant one to zeros."""
    raw = raw.astype(np.float64)
    low, high = raw.min(axis=(-2, -1), keepdims=True), raw.max(axis=(-2, -1), keepdims=True)
    return np.asarray((raw - low) / np.where(high > low, high - low, 1))


def compare(got: Array, raw: Array, tolerance: float, epsilon: float = 2.0**-21) -> None:
    """A map in [0,1] is the min-max of a raw map.

    Min-max multiplies the raw map's rounding by its magnitude over its spread: where four units in the last place of float32
    (`epsilon`) come out above the tolerance, they are allowed. A spread below 1 / 5000 is nothing to compare, but for a map
    that is 0 everywhere, as a ReLU leaves it.
    """
    assert got.shape == raw.shape
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    spread, most = np.ptp(raw, axis=(-2, -1)), np.abs(raw).max(axis=(-2, -1))
    assert not got[most == 0].any()
    got, raw, spread, most = got[most > 0], raw[most > 0], spread[most > 0], most[most > 0]
    assert (spread > 2e-4 * most).all(), f"nearly flat: a spread of {(spread / most).min():.1e} of it"
    worst = np.abs(got - min_max(raw)).max(axis=(-2, -1))
    assert (worst <= np.maximum(tolerance, epsilon * most / spread)).all(), f"differs by {worst.max():.1e}"


def check(
    case: Fused,
    asked: str,
    targets: Sequence[Sequence[int]] = TARGETS,
    runtimes: Mapping[Runner, float] = ORT,
    epsilon: float = 2.0**-21,
) -> None:
    """A fused graph's maps are the engine's, its other outputs the network's, for these targets of one and more images."""
    shown = False
    for target in targets:
        x = case.images(3)[: len(target)]
        raw, plain = case.raw(asked, x, target), case.plain(x)
        shown |= bool(raw.any())
        for runner, tolerance in runtimes.items():
            got = case.run(asked, x, target, runner)
            assert list(got) == [*plain, SALIENCY]
            compare(got.pop(SALIENCY), raw, tolerance, epsilon)
            for name, value in got.items():
                most = np.abs(plain[name].astype(np.float64)).max()
                assert value.dtype == plain[name].dtype
                np.testing.assert_allclose(value, plain[name], rtol=0, atol=max(tolerance, epsilon) * most)
    assert shown, "all maps are 0: nothing to compare"


def evaluator(model: bytes, feeds: Mapping[str, Array]) -> Outputs:
    """All outputs by name, computed by ONNX's reference evaluator."""
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0, where what comes of it is not taken
        return reference(onnx.load_from_string(model), feeds)

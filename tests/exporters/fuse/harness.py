"""Export networks with fused graphs, run these on a runtime, and hold their maps against the runtime engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from xai_exporters import Request, export
from xai_exporters.fuse.base import fused
from xai_exporters.verify import noise_images

from tests.exporters.checks import Array, Outputs, Runner, onnxruntime, open_vino
from xai_deploy import Explainer
from xai_deploy.bundle import FUSED, SALIENCY, TARGET, Bundle

TOLERANCES = {onnxruntime: 1e-5, open_vino: 1e-4}  # of maps in [0,1]
ALL = tuple(fused)


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

    def run(self, asked: str, x: Array, target: Sequence[int] | None, runner: Runner = onnxruntime) -> Outputs:
        """All outputs of a fused file; None: it has no input `target`."""
        feeds = {self.bundle.manifest.input.name: x}
        if target is not None:
            feeds[TARGET] = np.array(target, np.int64)
        return runner(self.files[asked], feeds)

    def raw(self, asked: str, x: Any, target: Sequence[int]) -> Array:
        """The engine's map before min-max, one image at a time."""
        name, options = spoken(asked)
        maps = [self.engine.explain(image, name, target=t, **options).raw for image, t in zip(x, target, strict=True)]
        return np.concatenate(maps)


def spoken(asked: str) -> tuple[str, dict[str, object]]:
    """ "METHOD:OPTION=VALUE" as the engine takes it."""
    name, *pairs = asked.split(":")
    words: dict[str, object] = {"true": True, "false": False, "True": True, "False": False}
    options: dict[str, object] = {}
    for pair in pairs:
        key, value = pair.split("=", 1)
        options[key] = words.get(value, int(value) if value.isdigit() else value)
    return name, options


def fuse(request: Request, *asked: str) -> Fused:
    """Export once with the graphs that the engine needs, and as often as needed for variants of one method."""
    rounds: list[dict[str, str]] = []
    for text in asked:
        name = text.partition(":")[0]
        free = next((r for r in rounds if name not in r), None)
        if free is None:
            rounds.append(free := {})
        free[name] = text
    files: dict[str, bytes] = {}
    path = request.output_path
    assert path is not None
    composites = tuple(sorted({str(c) for a in asked if (c := spoken(a)[1].get("composite"))}))
    for i, methods in enumerate(rounds or [{}]):
        more: dict[str, Any] = {"roles": ("head", "tail"), "output_path": path.with_name(f"{path.stem}_{i}.xai")}
        if i == 0:
            more = {"input_gradient": True, "pixel_relevance": True, "composite": composites}
        done = export(replace(request, overwrite=True, fuse=tuple(methods.values()), **more))
        bundle = Bundle.open(done.path)
        files |= {text: bundle.graph(FUSED + name) for name, text in methods.items()}
    return Fused(Bundle.open(path), files, Explainer(path))


def fuse_onnx(folder: Path, model: onnx.ModelProto, *asked: str, **options: Any) -> Fused:
    """`fuse` of an ONNX source."""
    onnx.save(model, folder / "net.onnx")
    return fuse(Request(folder / "net.onnx", **{"output_path": folder / "net.xai", **options}), *asked)


def min_max(raw: Array) -> Array:
    """Each map to [0,1] in float64; a constant one to zeros."""
    raw = raw.astype(np.float64)
    low, high = raw.min(axis=(-2, -1), keepdims=True), raw.max(axis=(-2, -1), keepdims=True)
    return np.asarray((raw - low) / np.where(high > low, high - low, 1))


def compare(got: Array, raw: Array, tolerance: float, dtype: str = "float32") -> None:
    """A map in [0,1] is the min-max of a raw map.

    Rounding of a raw value of magnitude M shows as M / spread in the map: what a map that is nearly flat could show is
    nothing to compare, so that the spread has to be a hundredth of M at least (or the raw map exactly constant).
    """
    assert got.shape == raw.shape
    assert got.dtype == np.float32
    want = min_max(raw)
    spread, most = np.ptp(raw, axis=(-2, -1)), np.abs(raw).max(axis=(-2, -1))
    assert ((spread == 0) | (spread > 1e-2 * most)).all(), "nearly flat: nothing to compare"
    assert np.isfinite(got).all()
    worst = float(np.abs(got - want).max())
    assert worst <= tolerance, f"differs by {worst:.1e}"


def check(
    case: Fused,
    asked: str,
    targets: Sequence[Sequence[int]] = ((-1,), (1,), (0, -1, 2)),
    runners: Mapping[Runner, float] = TOLERANCES,
) -> None:
    """A fused graph's maps are the engine's, its other outputs the network's, for these targets of 1 to 3 images."""
    for target in targets:
        x = case.images(3)[: len(target)]
        raw = case.raw(asked, x, target)
        plain = plain_outputs(case, x)
        for runner, tolerance in runners.items():
            got = case.run(asked, x, target, runner)
            compare(got.pop(SALIENCY), raw, tolerance)
            assert got.keys() == plain.keys()
            for name, value in got.items():
                np.testing.assert_allclose(value, plain[name], rtol=0, atol=tolerance * np.abs(plain[name]).max())


def plain_outputs(case: Fused, x: Array) -> Outputs:
    """The network's own outputs, as head and tail give them."""
    between = onnxruntime(case.bundle.graph("head"), {case.bundle.manifest.input.name: x})
    after = onnxruntime(case.bundle.graph("tail"), between)
    return {output.name: after[output.tensor] for output in case.bundle.manifest.outputs}

"""The export's gate: fused graphs whose maps hardly change with random weights are refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from xai_exporters import Request, export
from xai_exporters import cli as xai_export
from xai_exporters.errors import RequestError

from xai_deploy import Bundle, Explainer, write_image
from xai_deploy.errors import XaiError
from xai_deploy.format.randomised import SANITY

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "clutter_digits"
NETWORK = MODEL / "clutter_digits.onnx"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples of the network's own kind."""
    folder = tmp_path_factory.mktemp("photos")
    for i, sample in enumerate(sorted((MODEL / "samples").glob("*.png"))[:12]):
        shutil.copy(sample, folder / f"{i}.png")
    assert len(list(folder.iterdir())) == 12
    return folder


def brightness(path: Path) -> Path:
    """The mean of the channels, pooled by 8, and weights above 0 for two classes: whatever the weights, bright places count."""
    make = onnx.helper.make_node
    weights = {
        "mean": np.full((1, 3, 8, 8), 1 / 192),  # a box filter, in which nothing can be random
        "fc": np.array([[1.0, 1.2]]),
    }
    nodes = [
        make("Conv", ["image", "mean"], ["grey"], name="grey", strides=[8, 8]),
        make("Relu", ["grey"], ["relu"], name="relu"),
        make("GlobalAveragePool", ["relu"], ["pooled"], name="pool"),
        make("Flatten", ["pooled"], ["flat"], name="flatten"),
        make("Gemm", ["flat", "fc"], ["logits"], name="fc"),
    ]
    ends: list[tuple[str, list[int]]] = [("image", [3, 64, 64]), ("logits", [2])]
    image, logits = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *s]) for name, s in ends)
    tensors = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "brightness", [image], [logits], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("fixed", [False, True])
def test_what_passes_is_recorded(fixed: bool, photos: Path, tmp_path: Path) -> None:
    """The figure is the mean of scipy's rank correlations of the methods' maps, of the bundle and of a randomised one.

    Without an input `target` the class is still that of the trained network.
    """
    wanted = Request(
        NETWORK, output_path=tmp_path / "n.xai", preprocess="unit", fuse=("reciprocam",), fixed_target=fixed
    )
    made = export(replace(wanted, require_sanity=photos, roles=("head",)))
    said = made.manifest.extensions[SANITY]
    found = re.fullmatch(r"reciprocam (-?\d\.\d\d); 12 images", said)
    assert found is not None
    export(Request(NETWORK, output_path=tmp_path / "r.xai", preprocess="unit", randomise=1, roles=("head",)))
    [random] = [path for path in tmp_path.iterdir() if "random" in path.name]
    trained, other = Explainer(tmp_path / "n.xai"), Explainer(random)
    correlations = []
    for file in sorted(photos.iterdir()):
        one = trained.explain(str(file), "reciprocam")
        two = other.explain(str(file), "reciprocam", int(one.target[0]))
        correlations.append(spearmanr(one.raw[0].ravel(), two.raw[0].ravel()).statistic)
    assert float(found[1]) == pytest.approx(np.mean(correlations), abs=0.02)


def test_what_hardly_changes_is_refused(photos: Path, tmp_path: Path) -> None:
    """A network that sees nothing but brightness: whatever its weights are, bright places count."""
    source = brightness(tmp_path / "net.onnx")
    with pytest.raises(XaiError, match=r"maps of reciprocam hardly change .* over 1\d images is \d\.\d\d, 0.5 or more"):
        export(
            Request(
                source,
                output_path=tmp_path / "n.xai",
                preprocess="unit",
                fuse=("reciprocam",),
                require_sanity=photos,
                roles=("head",),
            )
        )
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_images_that_are_missing_or_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, out = tmp_path / "few", tmp_path / "n.xai"
    few.mkdir()

    def run(*more: str) -> str:
        given = [str(NETWORK), "--preprocess", "unit", "-o", str(out), "-q", "--require-sanity", str(few), *more]
        assert xai_export.main(given) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert "few" in run("--fuse", "grad-cam")
    for i in range(9):
        write_image(few / f"{i}.png", np.full((64, 64, 3), 20 * i, np.uint8))
        assert f"holds {i + 1} image{'s' * (i > 0)}; the check takes 10 at least" in run("--fuse", "grad-cam")
    (few / "9.png").write_bytes(b"no picture")
    assert "9.png" in run("--fuse", "grad-cam")
    assert "is for --fuse, which is not given" in run()
    assert "--embed-preprocess is not checked" in run("--fuse", "grad-cam", "--embed-preprocess")
    assert "--sanity-limit is above 0 and at most 1; got 1.5" in run("--fuse", "grad-cam", "--sanity-limit", "1.5")


def test_without_the_gate_nothing_is_recorded(tmp_path: Path) -> None:
    export(Request(NETWORK, output_path=tmp_path / "n.xai", preprocess="unit", fuse=("grad-cam",), roles=("head",)))
    assert SANITY not in Bundle.open(tmp_path / "n.xai").manifest.extensions
    with pytest.raises(RequestError, match="--sanity-limit is above 0"):
        export(Request(NETWORK, output_path=tmp_path / "m.xai", preprocess="unit", sanity_limit=0))

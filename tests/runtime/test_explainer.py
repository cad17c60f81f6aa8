"""The engine: what is shared, what is checked, threads, and every refusal."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xai_deploy
from xai_deploy import Explainer, Explanation
from xai_deploy import pictures as pictures_
from xai_deploy.errors import (
    DtypeError,
    NonFiniteInputError,
    NonFiniteOutputError,
    NotApplicableError,
    OptionError,
    ShapeError,
    TargetError,
    UnknownClassError,
    UnknownLabelError,
    UnknownMethodError,
    UnsafeGraphError,
    XaiError,
)
from xai_deploy.format import bundle

from . import oracles, tiny
from .conftest import Bundles
from .methods.test_methods import counting


def test_public_names() -> None:
    assert set(xai_deploy.method_names()) >= {"cam", "reciprocam", "score-cam", "grad-cam", "grad-cam++", "gradient"}
    assert xai_deploy.backend_names() == ("onnxruntime", "openvino")
    for name in xai_deploy.__all__:
        assert getattr(xai_deploy, name)


def test_explain_many_runs_the_head_once(bundles: Bundles, backend: str) -> None:
    explainer = Explainer(bundles("pooled").path, backend)
    explainer._network.proven.add("pixelwise-tail")  # else it is compared with the tail, once
    head, tail = counting(explainer, "head"), counting(explainer, "tail")
    specs: list[Any] = ["reciprocam", ("reciprocam", {"score": "softmax"}), "cam"]
    explanations = explainer.explain_many(tiny.inputs("pooled", 3), specs, [0, "top2", "beagle"])
    assert head.batches == [3]
    assert tail.batches == [3]
    order = np.argsort(-explanations[0].logits, axis=1)
    assert [(e.method, e.options.get("score")) for e in explanations[::4]] == [
        ("reciprocam", "logit"),
        ("reciprocam", "softmax"),
        ("cam", None),
    ]
    for start in (0, 4, 8):
        first, second, third, fourth = explanations[start : start + 4]
        assert first.target.tolist() == [0, 0, 0]
        assert second.target.tolist() == order[:, 0].tolist()
        assert third.target.tolist() == order[:, 1].tolist()
        assert fourth.target.tolist() == [2, 2, 2]


def test_explain_many_equals_one_by_one(explainer: Explainer) -> None:
    x = tiny.inputs("pooled", 2)
    many = explainer.explain_many(x, ["reciprocam", "score-cam", "cam"], [1, None])
    for explanation in many:
        alone = explainer.explain(x, explanation.method, explanation.target)
        if explanation.method == "score-cam":  # NumPy may sum two targets' channels in another order than one target's
            np.testing.assert_allclose(alone.raw, explanation.raw, rtol=0, atol=1e-6 * np.abs(alone.raw).max())
            np.testing.assert_allclose(alone.heatmap, explanation.heatmap, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(alone.raw, explanation.raw)
            np.testing.assert_array_equal(alone.heatmap, explanation.heatmap)


def test_explanation_fields(bundles: Bundles, backend: str) -> None:
    net, x = bundles("residual"), tiny.inputs("residual", 3)
    e = Explainer(net.path, backend).explain(x)
    logits = net.logits(x)
    np.testing.assert_allclose(e.logits, logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(e.outputs["scores"], logits.softmax(1).numpy(), atol=1e-5)
    assert set(e.outputs) == {"scores"}
    assert e.target.tolist() == logits.argmax(1).tolist()
    assert e.heatmap.shape == (3, tiny.HEIGHT, tiny.WIDTH)
    assert e.raw.shape == (3, tiny.H, tiny.W)
    assert e.heatmap.dtype == e.raw.dtype == e.logits.dtype == np.float32
    assert e.heatmap.min() == 0
    assert e.heatmap.max() == 1
    assert e.method == "reciprocam"
    assert 0 < e.seconds < 60


def test_more_images_than_the_batch(bundles: Bundles, backend: str) -> None:
    net, x = bundles("residual"), tiny.inputs("residual", 5)
    small = Explainer(net.path, backend, batch_size=2).explain(x, target=[0, 1, 2, None, "beagle"])
    large = Explainer(net.path, backend).explain(x, target=[0, 1, 2, None, "beagle"])
    assert small.target.tolist() == large.target.tolist()
    np.testing.assert_allclose(small.raw, large.raw, atol=1e-4 * np.abs(large.raw).max(), rtol=0)
    np.testing.assert_allclose(small.logits, net.logits(x).numpy(), atol=1e-4)


def test_pixels_of_mixed_sizes(bundles: Bundles, backend: str) -> None:
    rng = np.random.default_rng(0)
    shapes = [(16, 20, 3), (50, 31, 3), (7, 9), (16, 20, 1)]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    explainer = Explainer(bundles("pooled").path, backend)
    together = explainer.explain(images, "cam", 1)
    for i, image in enumerate(images):
        alone = explainer.explain(image, "cam", 1)
        np.testing.assert_allclose(alone.raw[0], together.raw[i], atol=1e-5)
    pictures = together.overlay(images)
    assert [picture.shape for picture in pictures] == [(16, 20, 3), (50, 31, 3), (7, 9, 3), (16, 20, 3)]
    np.testing.assert_array_equal(
        pictures[0], pictures_.overlay(images[0], together.heatmap[0], explainer.bundle.manifest.input)
    )
    np.testing.assert_array_equal(together.overlay(images, opacity=0)[1], images[1])


def test_pixels_equal_preprocessed_floats(explainer: Explainer) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    floats = np.moveaxis(pixels, -1, 0).astype(np.float32) * np.float32(tiny.SCALE)
    np.testing.assert_allclose(explainer.predict(pixels), explainer.predict(floats), atol=1e-5)


def test_overlay_covers_the_whole_photo(tmp_path: Path) -> None:
    """Without colour, the part that the network saw is the photo itself; the rest is darker, and a line surrounds the part seen."""
    net = tiny.write(tmp_path / "crop.xai", preprocess=bundle.Preprocess(resize=24, scale=tiny.SCALE))
    image = np.random.default_rng(1).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    [picture] = Explainer(net.path, "onnxruntime").explain(image).overlay(image, 0)
    np.testing.assert_array_equal(picture[8:40, 28:68], image[8:40, 28:68])
    assert (picture[7, 27:69] == 255).all()
    assert (picture[40, 27:69] == 255).all()
    assert (picture[7:41, [27, 68]] == 255).all()
    picture[7:41, 27:69] = image[7:41, 27:69] * 0.4
    np.testing.assert_allclose(picture, image * 0.4, rtol=0, atol=2)


@pytest.mark.parametrize("count", [1, 2])
def test_eight_threads_agree_with_one(bundles: Bundles, backend: str, count: int) -> None:
    net = bundles("residual")
    jobs = [tiny.inputs("residual", count, seed) for seed in range(24)]

    def explain(x: Any, explainer: Explainer) -> Sequence[Explanation]:
        return explainer.explain_many(x, ["reciprocam", "score-cam"], [None, 1])

    alone = Explainer(net.path, backend)
    wanted = [explain(x, alone) for x in jobs]
    shared = Explainer(net.path, backend)  # fresh: its sessions are opened by whichever thread comes first
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda x: explain(x, shared), jobs))
    for a, b in zip(found, wanted, strict=True):
        for e, f in zip(a, b, strict=True):
            assert e.target.tolist() == f.target.tolist()
            np.testing.assert_allclose(e.raw, f.raw, atol=1e-5 * np.abs(f.raw).max(), rtol=0)
    assert len(shared._sessions.opened) == 2


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((3, 16, 21), np.float32), ShapeError, r"shape \(3, 16, 20\) \(CHW\), not \(3, 16, 21\)"),
        (np.zeros((16, 20, 3), np.int32), ShapeError, "neither an image nor a batch|not int32"),
        ([np.zeros((16, 20, 3), np.int32)], DtypeError, "not int32"),
        (np.full((3, 16, 20), np.nan, np.float32), NonFiniteInputError, "NaN or infinity"),
        (np.full((3, 16, 20), -np.inf), NonFiniteInputError, "NaN or infinity"),
        ([], ShapeError, "no image was given"),
        (b"cat.png", DtypeError, "read_image"),
        ([np.zeros((16, 20, 3), np.uint8), np.zeros((16, 20, 2), np.uint8)], ShapeError, r"not \(16, 20, 2\)"),
    ],
)
def test_refused_inputs(explainer: Explainer, images: Any, error: type[XaiError], message: str) -> None:
    if isinstance(images, np.ndarray) and images.dtype == np.int32:
        error = DtypeError
    for call in (explainer.explain, explainer.predict):
        with pytest.raises(error, match=message):
            call(images)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (5, UnknownClassError, "class 5 does not exist; the network has classes 0 to 4"),
        (-2, UnknownClassError, "class -2 does not exist"),
        ([0, 99], UnknownClassError, "class 99 does not exist"),
        ("top6", UnknownClassError, "target 'top6': the network has 5 classes"),
        ("crane", UnknownLabelError, "label 'crane' stands for classes 3, 4; give the index"),
        ("beagel", UnknownLabelError, r"no label 'beagel'; the nearest are 'beagle'"),
        ("zzzz", UnknownLabelError, "no label 'zzzz'; there are 'tabby cat', 'tiger cat', 'beagle', 'crane', 'crane'$"),
        ("", UnknownLabelError, "no label ''"),
        ([0], TargetError, "1 targets for 2 images; give one for all, or one per image"),
        ([], TargetError, "0 targets for 2 images"),
        (1.0, TargetError, "a target is a class index or a label, not 1.0"),
        (True, TargetError, "not True"),
        ([0, 1.5], TargetError, "not 1.5"),
        ([[0], [1, 2]], TargetError, r"not \[0\]"),
        ({}, TargetError, "not {}"),
        (b"cat", TargetError, "not b'cat'"),
        ("top2", TargetError, "explain takes one target; for 'top2' call explain_many"),
    ],
)
def test_refused_targets(explainer: Explainer, target: Any, error: type[XaiError], message: str) -> None:
    head = counting(explainer, "head")
    with pytest.raises(error, match=message):
        explainer.explain(tiny.inputs("pooled", 2), target=target)
    assert not head.batches, "refused only after the network had run"


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("beagle", [2, 2]),
        ("TIGER Cat", [1, 1]),
        (np.int64(3), [3, 3]),
        (np.array([4, 0]), [4, 0]),
        (("beagle", 0), [2, 0]),
        (np.array(2), None),
    ],
)
def test_accepted_targets(explainer: Explainer, target: Any, wanted: list[int] | None) -> None:
    x = tiny.inputs("pooled", 2)
    if wanted is None:
        with pytest.raises(TargetError, match=r"not array\(2\)"):
            explainer.explain(x, "cam", target)
    else:
        assert explainer.explain(x, "cam", target).target.tolist() == wanted


def test_predicted_class(explainer: Explainer) -> None:
    x = tiny.inputs("pooled", 3)
    best = explainer.predict(x).argmax(1).tolist()
    for target in (None, -1, "top1", [None, -1, None]):
        assert explainer.explain(x, "cam", target).target.tolist() == best


def test_label_without_labels(tmp_path: Path) -> None:
    explainer = Explainer(tiny.write(tmp_path / "bare.xai", labels=()).path, "onnxruntime")
    with pytest.raises(UnknownLabelError, match=r"this bundle has no labels; give a class index \(0 to 4\)"):
        explainer.explain(tiny.inputs("pooled", 1), target="cat")


def test_method_errors_come_before_the_network_runs(explainer: Explainer) -> None:
    head = counting(explainer, "head")
    x = tiny.inputs("pooled", 1)
    with pytest.raises(UnknownMethodError):
        explainer.explain(x, "gradcam")
    with pytest.raises(OptionError):
        explainer.explain(x, "reciprocam", mask="disc")
    with pytest.raises(OptionError, match="reciprocam: no option 'steps'; it has score, mask"):
        explainer.explain(x, "reciprocam", steps=3)
    assert not head.batches


def test_method_that_the_bundle_has_no_graph_for(bundles: Bundles) -> None:
    explainer = Explainer(bundles("pooled", False).path, "onnxruntime")
    with pytest.raises(NotApplicableError, match="'pixelwise-tail' graph"):
        explainer.explain_many(tiny.inputs("pooled", 1), ["reciprocam", "cam"])


def test_network_that_gives_nan(bundles: Bundles, backend: str) -> None:
    explainer = Explainer(bundles("nan").path, backend)
    x = tiny.inputs("nan", 1)
    for call in (explainer.explain, explainer.predict):
        with pytest.raises(NonFiniteOutputError, match="the network's logits hold NaN or infinity; is the input"):
            call(x)


def test_map_that_holds_nan(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    from xai_deploy.methods.cam import Cam

    monkeypatch.setattr(Cam, "maps", lambda self, forward, targets: np.full((1, 1, 4, 5), np.nan, np.float32))
    with pytest.raises(NonFiniteOutputError, match="cam: the map holds NaN or infinity"):
        explainer.explain(tiny.inputs("pooled", 1), "cam")


def test_graphs_that_contradict_the_manifest(bundles: Bundles, backend: str) -> None:
    shape = r"'activation' of shape \[\?, 6, 5, 4\], but the manifest says \[N, 6, 4, 5\]"
    with pytest.raises(UnsafeGraphError, match=shape):
        Explainer(bundles("wrong-shape").path, backend).explain(tiny.inputs("pooled", 1))
    with pytest.raises(UnsafeGraphError, match=r"'logits' of shape \[\?, 10\], but the manifest says \[N, 5\]"):
        Explainer(bundles("wrong-classes").path, backend).explain(tiny.inputs("pooled", 1))


def test_uint8_network_refuses_floats(bundles: Bundles) -> None:
    with pytest.raises(DtypeError, match="takes uint8 pixels"):
        Explainer(bundles("uint8").path, "onnxruntime").predict(np.zeros((1, 3, 16, 20), np.float32))


def test_batch_size_is_positive(bundles: Bundles) -> None:
    with pytest.raises(XaiError, match="batch_size is at least 1, not 0"):
        Explainer(bundles("pooled").path, "onnxruntime", batch_size=0)


@pytest.mark.parametrize("threads", [0, 100_000])
def test_number_of_threads_is_sane(bundles: Bundles, threads: int) -> None:
    with pytest.raises(XaiError, match=f"threads are 1 to 1024, not {threads}"):
        Explainer(bundles("pooled").path, "onnxruntime", threads=threads)


def test_constant_map_is_zeros(explainer: Explainer) -> None:
    e = explainer.explain(np.zeros((1, 3, 16, 20), np.float32), "reciprocam")  # the same feature everywhere
    assert np.ptp(e.raw) == 0
    assert not e.heatmap.any()


def test_nothing_is_written_to_the_callers_arrays(bundles: Bundles, backend: str) -> None:
    for kind in ("pooled", "residual", "nhwc", "uint8"):
        x = tiny.inputs(kind, 2)
        x.setflags(write=False)
        kept = x.copy()
        Explainer(bundles(kind).path, backend).explain_many(x, ["reciprocam", "score-cam"])
        np.testing.assert_array_equal(x, kept)


def test_results_do_not_share_memory_with_the_runtime(bundles: Bundles, backend: str) -> None:
    explainer = Explainer(bundles("residual").path, backend)
    first = explainer.explain(tiny.inputs("residual", 1, 0))
    logits, scores = first.logits.copy(), first.outputs["scores"].copy()
    explainer.explain(tiny.inputs("residual", 1, 1))
    np.testing.assert_array_equal(first.logits, logits)
    np.testing.assert_array_equal(first.outputs["scores"], scores)


def test_oracle_input() -> None:
    assert oracles.network_input("uint8", tiny.inputs("uint8", 2)).shape == (2, 3, 16, 20)


def test_nothing_stays_in_memory(bundles: Bundles, backend: str) -> None:
    """An explainer's graphs go with its last user, not when Python happens to look for cycles."""
    gc.collect()
    gc.disable()
    try:
        explainer = Explainer(bundles("pooled").path, backend)
        explainer.explain(tiny.inputs("pooled", 2))
        left: list[Any] = [weakref.ref(explainer), *map(weakref.ref, explainer._sessions.opened.values())]
        del explainer
        assert len(left) > 2
        assert all(one() is None for one in left)
    finally:
        gc.enable()

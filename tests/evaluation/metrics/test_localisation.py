"""Pointing, IoU and segmentation: by hand, and beside Quantus' and OpenVINO XAI's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy.evaluation.metrics import Case, create

from . import linear, peers
from .linear import case

HEAT = np.array([[0, 0.25, 0.5], [0.75, 1, 0.2]], np.float32)  # sum 2.7; mean 0.45, standard deviation 0.343996...
LEFT = np.array([[1, 1, 0], [1, 1, 0]], bool)


def some(folder: Path, heat: Any, regions: Any = (), masks: Any = ()) -> Case:
    heat = np.asarray(heat, np.float32)
    explainer = linear.network(folder / "net", np.ones((2, 1, *heat.shape[1:])))
    return case(
        explainer, np.ones((len(heat), 1, *heat.shape[1:])), [0] * len(heat), heat, regions=regions, masks=masks
    )


def measured(found: Case, metric: str) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in create(metric, {}).measure(found).items()}


def test_energy_by_hand(tmp_path: Path) -> None:
    whole, nothing = np.ones((2, 3), bool), np.zeros((2, 3), bool)
    found = some(tmp_path, [HEAT] * 4 + [0 * HEAT], [LEFT, whole, nothing, None, LEFT])
    energy = create("energy-pointing", {}).measure(found)
    np.testing.assert_allclose(energy["energy-pointing"], [2 / 2.7, 1, 0, np.nan, 0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(energy["energy-uniform"], [4 / 6, 1, 0, np.nan, 4 / 6], rtol=0, atol=1e-15)


def test_argmax_by_hand(tmp_path: Path) -> None:
    """The maximum is in row 1, column 1; of two the first counts; a constant map has none."""
    right = ~LEFT
    tie = np.array([[0, 0, 1], [1, 0, 0]])
    maps = [HEAT, HEAT, HEAT, tie, tie, 0 * HEAT, 0 * HEAT + 1]
    whole = np.ones((2, 3), bool)
    found = some(tmp_path, maps, [LEFT, right, None, right, LEFT, whole, whole])
    np.testing.assert_array_equal(measured(found, "argmax-pointing")["argmax-pointing"], [1, 0, np.nan, 1, 0, 0, 0])


def test_iou_by_hand(tmp_path: Path) -> None:
    """{>= 1/4} holds 4 pixels, 3 of the box's 4; {>= 3/4} both in the box; {> 0.79...} the maximum alone."""
    found = some(tmp_path, [HEAT, 0 * HEAT, HEAT], [LEFT, LEFT, None])
    result = measured(found, "iou")
    assert list(result) == ["iou-25", "iou-75", "iou-mean-std"]
    np.testing.assert_allclose(result["iou-25"], [3 / 5, 0, np.nan], rtol=0, atol=1e-15)
    np.testing.assert_allclose(result["iou-75"], [2 / 4, 0, np.nan], rtol=0, atol=1e-15)
    np.testing.assert_allclose(result["iou-mean-std"], [1 / 4, 0, np.nan], rtol=0, atol=1e-15)


def test_thresholds_are_of_the_maximum(tmp_path: Path) -> None:
    """As long as the map's maximum is its own, and not 1."""
    found = some(tmp_path, [HEAT / 2], [LEFT])
    assert measured(found, "iou") == {"iou-25": [3 / 5], "iou-75": [2 / 4], "iou-mean-std": [1 / 4]}


def test_mean_and_std(tmp_path: Path) -> None:
    """The standard deviation is the pixels' own, over n: a sample's, over n - 1, would leave a pixel out."""
    heat = np.array([[0, 0, 0.25], [0.25, 0.25, 0.25], [0.62, 0.25, 1]])
    assert heat.mean() + heat.std() < 0.62 < heat.mean() + heat.std(ddof=1)
    mask = np.zeros((3, 3), bool)
    mask[2] = True
    found = some(tmp_path, [heat], [mask], [mask])
    assert measured(found, "iou")["iou-mean-std"] == [2 / 3]
    assert measured(found, "segmentation")["segmentation"] == [2 / 3]


def test_segmentation_takes_masks_not_boxes(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 0], [0, 1, 1]], bool)
    found = some(tmp_path, [HEAT] * 2 + [0 * HEAT], [LEFT] * 3, [mask, None, mask])
    np.testing.assert_array_equal(measured(found, "segmentation")["segmentation"], [1 / 2, np.nan, 0])


@pytest.mark.parametrize("metric", ["energy-pointing", "argmax-pointing", "iou", "segmentation"])
@pytest.mark.parametrize("count", [1, 3])
def test_without_ground_truth(tmp_path: Path, metric: str, count: int) -> None:
    values = create(metric, {}).measure(some(tmp_path, [HEAT] * count)).values()
    assert all(value.shape == (count,) and np.isnan(value).all() for value in values)


@pytest.mark.parametrize("metric", ["energy-pointing", "argmax-pointing", "iou", "segmentation"])
def test_regions_are_one_for_each_image(tmp_path: Path, metric: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        create(metric, {}).measure(some(tmp_path, [HEAT] * 2, [LEFT], [LEFT]))


def test_quantus_and_openvino_xai(tmp_path: Path) -> None:
    """quantus 0.6.0's RelevanceMassAccuracy and PointingGame, openvino-xai 1.1.0's PointingGame, see `peers`. For both a hit of
    any of several maxima counts, of which these maps have none."""
    heat = peers.maps(peers.inputs(), peers.TARGET)
    found = some(tmp_path, heat, peers.regions())
    energy = measured(found, "energy-pointing")["energy-pointing"]
    np.testing.assert_allclose(energy, peers.QUANTUS["RelevanceMassAccuracy"], rtol=0, atol=1e-7)
    hits = measured(found, "argmax-pointing")["argmax-pointing"]
    assert hits == peers.QUANTUS["PointingGame"] == peers.OPENVINO_XAI["pointing_game"]
    assert set(hits) == {0, 1}


def test_iou_is_scikit_learns(tmp_path: Path) -> None:
    """scikit-learn's jaccard_score of the thresholded map."""
    from sklearn.metrics import jaccard_score

    rng = np.random.default_rng(5)
    heat = rng.random((6, 7, 9)).astype(np.float32)
    heat -= heat.min(axis=(1, 2), keepdims=True)
    heat /= heat.max(axis=(1, 2), keepdims=True)
    regions = list(rng.random((6, 7, 9)) < 0.3)
    found = some(tmp_path, heat, regions)
    result = measured(found, "iou")
    for name, share in (("iou-25", 0.25), ("iou-75", 0.75)):
        wanted = [jaccard_score(r.ravel(), (m >= share).ravel()) for m, r in zip(heat, regions, strict=True)]
        np.testing.assert_allclose(result[name], wanted, rtol=1e-12)

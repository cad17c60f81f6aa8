"""The columns that compare networks, beside scipy and a count of pixels by hand, on maps explained one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from xai_deploy import Explainer, read_image, resample

from . import nets
from .conftest import Run, pictures

LABELS = ("cat", "dog", "owl", "elk", "emu")


def rows(network: str, method: str = "reciprocam") -> list[dict[str, Any]]:
    records = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    return [record for record in records if (record["network"], record["method"]) == (network, method)]


def overlap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """The share of the highest tenth of a's pixels, the earlier of equal ones first, that is among b's."""
    count = -(-a.size // 10)
    tops = [set(sorted(range(m.size), key=lambda i, m=m: (-m.flat[i], i))[:count]) for m in (a, b)]  # type: ignore[misc]
    return len(tops[0] & tops[1]) / count


def test_two_networks(desk: Path, run: Run) -> None:
    """For the class that the first explains, also where the second predicts another."""
    pictures(desk / "many", 24)
    nets.write(desk / "other.xai", 1)
    found = run("-m", "reciprocam,score-cam", bundles=("net.xai", "other.xai"), images="many")
    first, second = Explainer("net.xai"), Explainer("other.xai")
    agreed = 0
    for method in ("reciprocam", "score-cam"):
        assert all(row["rank-correlation"] is None for row in rows("net", method))
        for row, own in zip(rows("other", method), rows("net", method), strict=True):
            pixels = read_image(desk / "many" / row["image"])
            a = first.explain(pixels, method)
            b = second.explain(pixels, method, int(a.target[0]))
            x, y = a.heatmap[0], b.heatmap[0]
            assert own["target"] == a.target[0]
            assert row["target"] == row["predicted"] == second.predict(pixels).argmax()
            assert row["same-prediction"] == 100 * (row["predicted"] == own["predicted"])
            agreed += row["predicted"] == own["predicted"]
            if np.ptp(x) == 0 or np.ptp(y) == 0:
                assert row["rank-correlation"] is row["top10-overlap"] is None
                continue
            assert row["rank-correlation"] == pytest.approx(spearmanr(x.ravel(), y.ravel()).statistic, abs=2e-3)
            assert row["top10-overlap"] == pytest.approx(overlap(x, y), abs=1 / 32 + 1e-9)  # one pixel, for a rounding
    assert 0 < agreed < 48
    result = next(r for r in found["results"] if (r["network"], r["method"]) == ("other", "reciprocam"))
    values = [row["rank-correlation"] for row in rows("other") if row["rank-correlation"] is not None]
    assert result["figures"]["rank-correlation"]["mean"] == pytest.approx(np.mean(values))


def test_one_network_on_two_runtimes(desk: Path, run: Run) -> None:
    found = run("-b", "onnxruntime,openvino", "-b", "onnxruntime", "-m", "reciprocam,score-cam")
    assert [result["network"] for result in found["results"][::2]] == ["net (onnxruntime)", "net (openvino)"]
    assert [network["backend"] for network in found["plan"]["networks"]] == ["onnxruntime", "openvino"]
    for result in found["results"][2:]:
        figures = result["figures"]
        assert figures["same-prediction"]["mean"] == 100
        assert figures["rank-correlation"]["mean"] > 0.9999
        assert figures["top10-overlap"]["mean"] > 0.98
    for result in found["results"][:2]:
        assert set(result["figures"]) == {"complexity"}


def test_inputs_of_other_sizes(desk: Path, run: Run) -> None:
    """The second's maps are brought to the first's size."""
    nets.write(desk / "large.xai", size=(24, 40))
    run(bundles=("net.xai", "large.xai"))
    first, second = Explainer("net.xai"), Explainer("large.xai")
    for row in rows("large"):
        pixels = read_image(desk / "photos" / row["image"])
        a = first.explain(pixels)
        b = second.explain(pixels, target=int(a.target[0])).heatmap
        again = resample.resize(b, nets.HEIGHT, nets.WIDTH)[0]
        expected = spearmanr(a.heatmap[0].ravel(), again.ravel()).statistic
        assert row["rank-correlation"] == pytest.approx(expected, abs=2e-3)


def test_other_classes(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Class 3 here is not class 3 there: nothing is compared, and it is said, unless a label tells the class."""
    nets.write(desk / "seven.xai", 3, classes=7, labels=("owl", "x", "cat", "y", "z", "dog", "w"))
    for target in ([], ["-t", "3"]):
        found = run(*target, "--overwrite", bundles=("net.xai", "seven.xai"))
        assert all(set(result["figures"]) == {"complexity"} for result in found["results"])
        assert capsys.readouterr().err == (
            "xai-evaluate: warning: seven has 7 classes, net has 5: their maps are not compared; give --target LABEL to "
            "explain the same class\n"
        )
    found = run("-t", "dog", "--overwrite", bundles=("net.xai", "seven.xai"))
    assert capsys.readouterr().err == ""
    assert set(found["results"][1]["figures"]) == {"complexity", "same-prediction", "rank-correlation", "top10-overlap"}
    assert found["results"][1]["figures"]["same-prediction"]["mean"] is None
    assert {row["target"] for row in rows("net")} == {1}
    assert {row["target"] for row in rows("seven")} == {5}
    pixels = read_image("photos/0000.png")
    maps = [Explainer(f"{name}.xai").explain(pixels, target="dog").heatmap[0] for name in ("net", "seven")]
    expected = spearmanr(maps[0].ravel(), maps[1].ravel()).statistic
    assert rows("seven")[0]["rank-correlation"] == pytest.approx(expected, abs=2e-3)


def test_a_label_in_another_place(desk: Path, run: Run) -> None:
    """As many classes in another order: each network's own map of the label."""
    nets.write(desk / "mixed.xai", 3, labels=LABELS[::-1])
    run("-t", "cat", bundles=("net.xai", "mixed.xai"))
    assert {row["target"] for row in rows("mixed")} == {4}
    pixels = read_image("photos/0001.png")
    maps = [Explainer(f"{name}.xai").explain(pixels, target="cat").heatmap[0] for name in ("net", "mixed")]
    expected = spearmanr(maps[0].ravel(), maps[1].ravel()).statistic
    assert rows("mixed")[1]["rank-correlation"] == pytest.approx(expected, abs=2e-3)


def test_networks_with_one_output(desk: Path, run: Run) -> None:
    """One says yes and one says no where its probability is below one half, also where both do in all images."""
    pictures(desk / "many", 24)
    for seed in range(6):
        nets.write(desk / f"{seed}.xai", seed, classes=1, activation="sigmoid")
    found = run("-m", "reciprocam", bundles=tuple(f"{seed}.xai" for seed in range(6)), images="many")
    yes = {}
    for seed in range(6):
        logits = [
            float(Explainer(f"{seed}.xai").predict(read_image(desk / "many" / row["image"]))[0, 0]) for row in rows("0")
        ]
        yes[seed] = [1 / (1 + np.exp(-one)) >= 0.5 for one in logits]
        assert [row["predicted"] for row in rows(str(seed))] == yes[seed]
    shares = []
    for seed in range(1, 6):
        [result] = [r for r in found["results"] if r["network"] == str(seed)]
        shares.append(result["figures"]["same-prediction"]["mean"])
        assert shares[-1] == pytest.approx(100 * np.mean(np.equal(yes[seed], yes[0])))
    assert min(shares) < max(shares)

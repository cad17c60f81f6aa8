"""Labels that are numbers, in the order of a folder's names ("1", "10", "2"): a text means the label, wherever it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from xai_deploy import Contrast, Explainer, Not
from xai_deploy.cli import evaluate, explain
from xai_deploy.errors import UnknownClassError
from xai_deploy.serve.limits import Limits
from xai_deploy.serve.targets import Targets
from xai_deploy.serve.v1 import _of_query

from .. import tiny

LABELS = ("1", "10", "2", "3", "0")
WANT = {  # class, sign, class contrasted with
    "1": (0, 1, None),
    "10": (1, 1, None),
    "3": (3, 1, None),
    "#1": (1, 1, None),
    "4": (4, 1, None),  # no label: an index
    "not 2": (2, -1, None),
    "0 vs 10": (4, 1, 1),
    "1 vs 4": (0, 1, 4),
}


@pytest.fixture
def net(work: Path) -> Path:
    return tiny.write(work / "numbers.xai", labels=LABELS).path


@pytest.mark.parametrize(("text", "want"), WANT.items())
def test_on_the_command_line_and_in_python(net: Path, text: str, want: tuple[int, int, int | None]) -> None:
    found = Explainer(net).explain(tiny.inputs("pooled", 2), "reciprocam", text)
    against = [None] * 2 if found.versus is None else [int(one) for one in found.versus]
    assert list(zip(found.target.tolist(), found.sign.tolist(), against, strict=True)) == [want] * 2
    assert explain.main([str(net), "photos/dog.png", "-t", text, "-o", "out", "-q"]) == 0
    [image] = json.loads(Path("out/results.json").read_text())["images"]
    [entry] = image["explanations"]
    assert (entry["target"], entry["sign"], entry["versus"], entry["label"]) == (*want, LABELS[want[0]])
    assert explain.main([str(net), "photos/dog.png", "-t", text, "-o", "rows", "-q", "--rows"]) == 0
    [row] = pyarrow.parquet.read_table("rows/explanations.parquet").to_pylist()
    assert row["target"] == want[0]
    assert row["score"] == pytest.approx(entry["score"], abs=1e-4)


def test_in_objects_and_refusals(net: Path) -> None:
    explainer, x = Explainer(net), tiny.inputs("pooled", 1)
    found = explainer.explain_many(x, ["reciprocam"], [Contrast("1", "10"), Not("2"), 1, ["0"], "-1"])
    assert [int(one.target[0]) for one in found] == [0, 2, 1, 4, int(explainer.predict(x).argmax())]
    with pytest.raises(UnknownClassError, match="class 7 does not exist; the network has classes 0 to 4"):
        explainer.explain(x, "reciprocam", "7")


@pytest.mark.parametrize("text", ["1", "10", "#1", "4"])
def test_in_an_evaluation(net: Path, text: str) -> None:
    asked = ["photos", "-m", "reciprocam", "--metrics", "complexity", "-t", text, "-q"]
    assert evaluate.main([str(net), *asked, "-o", "out"]) == 0
    rows = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    assert {row["target"] for row in rows} == {WANT[text][0]}


def test_in_an_address(net: Path) -> None:
    explainer = Explainer(net)
    for text, (index, _, _) in WANT.items():
        value, count = Targets(explainer, Limits()).read(_of_query({"target": text}, explain=True)["target"])
        assert count == 1
        assert int(explainer.explain(tiny.inputs("pooled", 1), "reciprocam", value).target[0]) == index

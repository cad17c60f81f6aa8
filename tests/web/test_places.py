"""The page's regions under node, against the engine's."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xai_deploy.dense_scores import predicted_by
from xai_deploy.errors import TargetError
from xai_deploy.format.bundle import Explained, Input, Output, Preprocess
from xai_deploy.targets.places import Place, Seen

Node = Callable[[str, Any], Any]


def test_a_region_covers_what_it_covers_in_the_engine(node: Node) -> None:
    """Boxes and polygons between pixels, smaller than one, over the edge, outside what a crop leaves; in a letterbox; and masks."""
    boxes = [(3, 2, 10, 7), (0, 0, 61, 50), (12.3, 4.6, 0.2, 0.3), (40, 30, 90, 90), (0, 0, 1, 1), (7.5, 3.5, 20.25, 1)]
    polygons = [
        "10,5 40.5,8 30,44 4,30",
        "-5,-5 70,20 30,60",
        "20.1,20.1 20.3,20.1 20.2,20.4",
        "3,3 50,45 50,3 3,45",
        "90,90 99,90 95,99",
    ]
    mask = np.random.default_rng(4).random((50, 61)) < 0.3
    cases, wanted = [], []
    for resize in ("stretch", 40, (29, 41), "letterbox"):
        spec = Input("x", "NCHW", 3, 24, 32, "float32", Preprocess(resize=resize))
        seen = Seen(spec, Explained("logits", "dense", (5, 12, 17)), [(50, 61)], lambda: np.zeros((1, 1, 1), np.int64))
        for written in (*boxes, *polygons, mask):
            sizes = {"height": 24, "width": 32, "preprocess": {"resize": resize}}
            corners = [] if isinstance(written, np.ndarray) else Place.read(written).points
            text = written if isinstance(written, str) else ""
            pixels = (mask * 7).ravel().tolist() if isinstance(written, np.ndarray) else None
            cases.append({"corners": corners, "text": text, "pixels": pixels, "spec": sizes})
            try:
                wanted.append(Place.read(written).covers(seen, np.zeros(1, np.int64))[0].ravel())
            except TargetError:
                wanted.append(None)
    found = node(
        """input.map(({ corners, text, pixels, spec }) => {
          const rows = (top, count) => pixels.slice(top * 61, (top + count) * 61).flatMap((v) => [v, v, v, 255]);
          const picture = { height: 50, width: 61, rows };
          const row = pixels ? places.maskOf(picture).row : places.inside(text ? places.cornersOf(text) : corners, picture);
          return places.share(row, picture, spec, { height: 12, width: 17 });
        }).map((share) => share && Array.from(share))""",
        cases,
    )
    assert [one is None for one in found] == [one is None for one in wanted]
    assert any(one is None for one in wanted)
    for one, other in zip(found, wanted, strict=True):
        if other is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_corners_on_one_line(node: Node) -> None:
    """The page takes no polygon that the engine refuses."""
    texts = ["1,1 1,1 1,1", "1,1 5,5 9,9", "0.1,0.1 0.3,0.3 0.7,0.7", "1,1 5,5 9,9.01", "3,1 3,1 3,4", "0,0 9,0 9,1"]
    wanted = []
    for text in texts:
        try:
            Place.read(text)
            wanted.append(False)
        except TargetError as error:
            wanted.append("its corners lie on one line" in str(error))
    assert node("input.map((text) => places.onOneLine(places.cornersOf(text)))", texts) == wanted
    assert wanted == [True, True, True, False, True, False]


_OWN = {  # the shape of the own output without the batch, the classes, the size of the scores, the activation
    "scores": ((5, 12, 16), 5, (12, 16), "softmax"),
    "classes last": ((12, 16, 5), 5, (12, 16), "softmax"),
    "as many classes as columns": ((5, 12, 5), 5, (12, 5), "softmax"),
    "argmax": ((12, 16), 5, (12, 16), "softmax"),
    "argmax of a larger size": ((1, 24, 40), 5, (12, 16), "softmax"),
    "one class": ((1, 12, 16), 1, (12, 16), "none"),
    "one probability": ((1, 24, 32), 1, (12, 16), "sigmoid"),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", _OWN)
def test_what_is_predicted_where(node: Node, name: str, layout: str) -> None:
    shape, classes, size, activation = _OWN[name]
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, (1, *shape)) if name.startswith("argmax") else rng.random((1, *shape), np.float32)
    manifest: Any = SimpleNamespace(
        scores=Explained("logits", "dense", (classes, *size)), activation=activation,
        outputs=[Output("y", "y", shape, "logits")],
        input=SimpleNamespace(channel_axis=1 if layout == "NCHW" else 3),
    )  # fmt: skip
    wanted = predicted_by(values, manifest)[0].ravel().tolist()
    half = 0.5 if activation == "sigmoid" else 0
    labels = ["Background", "a", "b", "c", "d"]
    data = {"data": values.ravel().tolist(), "dims": [1, *shape], "classes": classes, "layout": layout,
            "explained": {"height": size[0], "width": size[1], "half": half}, "labels": labels}  # fmt: skip
    found = node(
        """(() => {
          const { data, dims, classes, layout, explained, labels } = input;
          const predicted = places.predictedAt({ data: Float32Array.from(data), dims }, classes, layout, explained);
          const codes = places.predictedAt({ data: Uint8Array.from(data), dims }, classes, layout, explained);
          return { predicted: Array.from(predicted), codes: codes && "some", frequent: places.mostFrequent(predicted, labels) };
        })()""",
        data,
    )
    assert found["predicted"] == wanted
    assert found["codes"] == (None if classes == 1 else "some")  # codes of one class do not say where half is
    counts = np.bincount(np.array(wanted)[np.array(wanted) >= 0], minlength=5)
    counts[0] = 0 if counts[1:].any() else counts[0]
    assert found["frequent"] == counts.argmax()

"""The page's modules under node, against the engine in Python."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from xai_deploy import heatmap
from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.format.image_input import BORDER
from xai_deploy.pictures import colorize, drawn, find_colormap, on_photo
from xai_deploy.preprocess import crop_box, frame, prepare, view

Node = Callable[[str, Any], Any]

_PREPARE = """input.map(({ pixels, height, width, spec }) => {
  const rows = (top, count) => pixels.slice(4 * top * width, 4 * (top + count) * width);
  const { data, dims } = preprocess.prepare({ height, width, rows }, spec);
  return { data: Array.from(data), dims, type: data.constructor.name, part: preprocess.seenPart({ height, width }, spec) };
})"""


def _spec(
    channels: int = 3,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    dtype: Literal["float32", "uint8"] = "float32",
    **how: Any,
) -> Input:
    values = (
        {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)} if dtype == "float32" else {}
    )
    if channels == 1:
        values = {"mean": (0.5,), "std": (0.25,)}
    return Input("x", layout, channels, 24, 20, dtype, Preprocess(**{**values, **how}))


def _case(image: np.ndarray[Any, Any], spec: Input, embedded: bool = False) -> dict[str, Any]:
    rgba = np.concatenate([image, np.full_like(image[..., :1], 255)], axis=-1)
    how = {
        key: getattr(spec.preprocess, key)
        for key in ("resize", "interpolation", "antialias", "color", "scale", "mean", "std")
    }
    sizes = {"channels": spec.channels, "height": spec.height, "width": spec.width}
    form = {"layout": spec.layout, "dtype": spec.dtype, "embedded": embedded}
    how["border"] = BORDER
    return {
        "pixels": rgba.ravel().tolist(),
        "height": image.shape[0],
        "width": image.shape[1],
        "spec": {**sizes, **form, "preprocess": how},
    }


_RESAMPLING = [
    (size, _spec(resize=resize, interpolation=interpolation, antialias=antialias))
    for size, resize, interpolation, antialias in itertools.product(
        [(24, 20), (61, 47), (200, 33), (9, 14), (1, 1)],
        ["stretch", 27, (29, 41), "letterbox"],
        ["nearest", "bilinear", "bicubic"],
        [True, False],
    )
]
_FORMS = [
    ((50, 40), spec)
    for spec in (
        _spec(color="BGR"),
        _spec(channels=1, color="GRAY"),
        _spec(layout="NHWC", color="BGR", resize=31),
        _spec(dtype="uint8"),
        _spec(dtype="uint8", layout="NHWC", scale=0.5, mean=(-20.0, 0.0, 20.0)),
    )
]


def test_preprocessing_equals_the_engine(node: Node) -> None:
    """Float32's own rounding apart, a grey level may differ where float64 and float32 round a tie to different sides."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size, _ in _RESAMPLING + _FORMS]
    specs = [spec for _, spec in _RESAMPLING + _FORMS]
    found = node(_PREPARE, [_case(image, spec) for image, spec in zip(images, specs, strict=True)])
    off, total = 0, 0
    for image, spec, got in zip(images, specs, found, strict=True):
        wanted = prepare(image, spec)
        assert got["dims"] == [1, *wanted.shape]
        assert got["type"] == ("Uint8Array" if spec.dtype == "uint8" else "Float32Array")
        level = np.max(np.float32(spec.preprocess.scale) / np.array(spec.preprocess.std, np.float32))
        difference = np.abs(np.array(got["data"], np.float32).reshape(wanted.shape) - wanted)
        assert difference.max() <= level * 1.001, (image.shape, spec)
        off += int((difference > 0).sum())
        total += difference.size
    assert off <= total * 1e-3, f"{off} of {total} values differ"


def test_the_part_seen_is_the_engine_s(node: Node) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(61, 47), (47, 61), (200, 33), (24, 20)]]
    for spec in (_spec(), _spec(resize=27), _spec(resize=40), _spec(resize=(29, 41)), _spec(resize="letterbox")):
        for image, got in zip(images, node(_PREPARE, [_case(image, spec) for image in images]), strict=True):
            part = got["part"]
            rows, columns = (
                slice(part["top"], part["top"] + part["height"]),
                slice(part["left"], part["left"] + part["width"]),
            )
            np.testing.assert_array_equal(image[rows, columns], view(image, spec))
            if not spec.preprocess.crops:
                continue
            assert (
                np.abs(
                    np.array(list(crop_box(image.shape[0], image.shape[1], spec)))
                    - [part[k] for k in ("top", "left", "height", "width")]
                ).max()
                <= 0.5
            )


def test_a_graph_with_embedded_preprocessing_gets_the_pixels(node: Node) -> None:
    image = np.random.default_rng(2).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    [got] = node(_PREPARE, [_case(image, _spec(), embedded=True)])
    assert got["dims"] == [1, 7, 5, 3]
    assert got["type"] == "Uint8Array"
    np.testing.assert_array_equal(np.array(got["data"]).reshape(image.shape), image)


def test_heatmaps_equal_the_engine_s(node: Node) -> None:
    maps = np.random.default_rng(3).random((2, 7, 5), dtype=np.float32)
    maps[1] = 0.25
    script = "input.map((map) => Array.from(heatmap.heatmapOf(map.flat(), 7, 5, 40, 31).data))"
    for raw, got in zip(maps, node(script, maps.tolist()), strict=True):
        [wanted] = heatmap.heatmap(raw[None], 40, 31)
        np.testing.assert_allclose(np.array(got).reshape(40, 31), wanted, rtol=0, atol=1e-6)


_DRAWN = """input.maps.map((rows) => {
  const raw = { data: Float32Array.from(rows.flat()), height: 7, width: 5 };
  const heat = heatmap.heatmapOf(raw.data, 7, 5, 40, 31);
  return Array.from(heatmap.drawn(heat, raw, input.signed, input.atPixels).data);
})"""


@pytest.mark.parametrize("at_pixels", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_what_is_drawn_equals_the_engine_s(node: Node, signed: bool, at_pixels: bool) -> None:
    maps = np.random.default_rng(4).standard_normal((3, 7, 5)).astype(np.float32)
    maps[1] = 0
    maps[2] = 0
    maps[2, 3, 3] = -1  # fewer than 1 % of the pixels have a value, if any
    maps[0] -= np.float32(0.5)  # 0 lies not in the middle
    found = node(_DRAWN, {"maps": maps.tolist(), "signed": signed, "atPixels": at_pixels})
    for raw, got in zip(maps, found, strict=True):
        [heat] = heatmap.heatmap(raw[None], 40, 31)
        wanted = drawn(heat, raw, signed, at_pixels)
        np.testing.assert_allclose(np.array(got).reshape(40, 31), wanted, rtol=0, atol=1e-6)


def test_the_colours_are_the_engine_s(node: Node) -> None:
    script = """input.tables.map(([text, signed]) => {
      const table = colors.tableOf(text);
      return Array.from(colors.colorize(Float32Array.from(input.values), table, signed));
    })"""
    values = np.concatenate([np.linspace(-1.2, 1.2, 997), [0, 0.5, -0.5, 1, -1]]).astype(np.float32)
    tables = [(find_colormap(None, signed).table.tobytes().hex(), signed) for signed in (False, True)]
    for (_, signed), got in zip(tables, node(script, {"tables": tables, "values": values.tolist()}), strict=True):
        rgba = np.array(got).reshape(-1, 4)
        np.testing.assert_array_equal(rgba[:, :3], colorize(values, signed=signed))
        magnitudes = np.abs(np.linspace(-1 if signed else 0, 1, 255 if signed else 256))
        shares = np.rint(255 * np.minimum(2 * magnitudes, 1))  # of each step
        np.testing.assert_array_equal(rgba[:, 3], shares[find_colormap(None, signed).steps(values)])


_PLACED = """input.map(({ values, photo, spec }) => {
  const seen = preprocess.seenPart({ height: photo[0], width: photo[1] }, spec);
  const map = { data: Float32Array.from(values), height: spec.height, width: spec.width };
  return Array.from(heatmap.placed(map, preprocess.geometry(photo[0], photo[1], spec), photo, seen));
})"""


def test_maps_lie_where_the_engine_puts_them(node: Node) -> None:
    rng = np.random.default_rng(5)
    photos = [(61, 47), (47, 61), (200, 33), (24, 20), (9, 14)]
    for spec in (_spec(), _spec(resize=27), _spec(resize=40), _spec(resize=(29, 41)), _spec(resize="letterbox")):
        maps = [rng.random((spec.height, spec.width), dtype=np.float32) for _ in photos]
        cases = [
            {
                "values": values.ravel().tolist(),
                "photo": photo,
                "spec": _case(np.zeros((1, 1, 3), np.uint8), spec)["spec"],
            }
            for values, photo in zip(maps, photos, strict=True)
        ]
        for values, photo, got in zip(maps, photos, node(_PLACED, cases), strict=True):
            rows, columns = frame(*photo, spec).slices
            wanted = on_photo(values, *photo, spec)[rows, columns]
            np.testing.assert_allclose(np.array(got).reshape(wanted.shape), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", -1),
        ("  ", -1),
        ("Tabby", 0),
        ("tabby ", 0),
        ("2", 2),
        ("4", None),
        ("#2", 2),  # as on the command line
        ("#4", None),
        ("bird", None),  # two of them
        ("crane (3)", 3),
        ("tab", 0),
        ("dog", None),
        ("ab", 1),
        ("Ab", 2),
        ("aB", None),  # three of them
    ],
)
def test_classes_are_found_by_name_and_number(node: Node, text: str, found: int | None) -> None:
    """The exact name before one in another case, before the number, before a part of a name."""
    names = node("classes.classNames(input)", ["tabby", "crane", "bird of prey, birdie", "crane"])
    assert names == ["tabby", "crane (1)", "bird of prey, birdie", "crane (3)"]
    if text == "bird":
        names = ["bird a", "bird b"]
    elif text.lower() == "ab":
        names = ["AB", "ab", "Ab", "abc"]
    assert node("classes.findClass(input.text, input.names)", {"text": text, "names": names}) == found


@pytest.mark.parametrize(
    ("apply", "shown"),
    [
        ("softmax", np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum()),
        ("share", np.array([0, 2, 1]) / 3),
        ("none", np.array([0, 2, 1])),
        ("raw", np.array([0, 2, 1])),
    ],
)
def test_scores_become_probabilities(node: Node, apply: str, shown: np.ndarray[Any, Any]) -> None:
    found = node("Array.from(classes.likelihoods(input.scores, input.apply))", {"scores": [0, 2, 1], "apply": apply})
    np.testing.assert_allclose(found, shown, rtol=1e-12)
    assert node("classes.best(Float32Array.from(input), 2)", [0, 2, 2]) == [1, 2]
    large = node("Array.from(classes.likelihoods(input, 'softmax'))", [1e4, 0])
    np.testing.assert_array_equal(large, [1, 0])

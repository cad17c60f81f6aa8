"""What a record says: against the explanation that it is of, and against formulas written another way."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]

from xai_deploy import Bundle, Explainer, write_image
from xai_deploy.errors import RecordsError
from xai_deploy.foundation import schema
from xai_deploy.foundation.options import options_of
from xai_deploy.heatmap import heatmap
from xai_deploy.methods import create
from xai_deploy.records import Deployed, Record, Recorder, records, verify
from xai_deploy.records.record import RecordedMap, decode
from xai_deploy.records.statistics import CELLS, cells, measure, shown

from .. import tiny
from ..conftest import Bundles
from . import damage


def read(folder: Path) -> list[Record]:
    return [record for _, record in records(folder)]


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e30, 0.0])
def test_a_map_in_float16(scale: float) -> None:
    raw = (np.random.default_rng(0).standard_normal((5, 7)) * scale).astype(np.float32)
    kept = RecordedMap.of(raw, True, None)
    assert np.abs(kept.raw.astype(np.float64) - raw).max() <= np.abs(raw).max() * 2.0**-11
    data = base64.b64decode(kept.data)
    assert kept.sha256 == hashlib.sha256(data).hexdigest()
    assert (len(data), kept.fault()) == (5 * 7 * 2, None)


def averaged(values: Any) -> Any:
    """The mean of each cell, by so many copies of each pixel that they fill the cells."""
    height, width = values.shape
    fine = np.kron(np.asarray(values, np.float64), np.ones((CELLS, CELLS)))
    return fine.reshape(CELLS, height, CELLS, width).mean(axis=(1, 3))


@pytest.mark.parametrize("size", [(16, 20), (32, 32), (45, 37), (7, 64)])
def test_statistics(size: tuple[int, int]) -> None:
    heat = np.random.default_rng(1).random(size).astype(np.float32) ** 4
    own = averaged(heat)
    np.testing.assert_allclose(cells(heat), own, rtol=1e-6)
    found = measure(cells(heat))
    assert found is not None
    p = own / own.sum()
    assert found.entropy == pytest.approx(scipy.stats.entropy(p.ravel(), base=p.size), rel=1e-6)
    fifths = np.sort(np.repeat(p.ravel() / 5, 5))[::-1]  # a tenth of 5120 is a whole number
    assert found.top == pytest.approx(fifths[:512].sum(), rel=1e-6)
    border = sum(p[i, j] for i in range(32) for j in range(32) if min(i, j) < 4 or max(i, j) > 27)
    assert found.border == pytest.approx(border, rel=1e-6)
    regions = [p[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].sum() for r in range(4) for c in range(4)]
    assert found.energy == pytest.approx(regions, rel=1e-6)


def test_extremes() -> None:
    flat, single = measure(np.ones((32, 32))), measure(np.eye(32) * (np.arange(32) == 9))
    assert flat is not None
    assert (flat.entropy, flat.top, flat.border) == pytest.approx((1, 0.1, 7 / 16))
    assert single is not None
    assert (single.entropy, single.top, single.border) == pytest.approx((0, 1, 0))
    assert measure(np.zeros((32, 32))) is None


def test_what_the_statistics_count() -> None:
    """Of a positive map its heatmap, of a signed one what is above 0, of a volume the mean of its slices."""
    raw = np.random.default_rng(2).standard_normal((4, 5)).astype(np.float32)
    own = shown(raw, False, (32, 40))
    heat = averaged(heatmap(raw[None], 32, 40)[0])
    np.testing.assert_allclose(own, heat, atol=1e-6)
    same = shown(np.array([[1.0, -9.0], [1.0, -9.0]], np.float32), True, (2, 2))
    np.testing.assert_array_equal(same, np.repeat([[1.0, 0.0]], 16, axis=1).repeat(32, axis=0))
    volume = np.stack([raw, 2 * raw, raw + 1])
    deep = shown(volume, True, (3, 4, 5))
    np.testing.assert_allclose(deep, averaged(np.maximum(volume, 0).mean(axis=0)), atol=1e-6)


def test_an_explanation(bundles: Bundles, backend: str, tmp_path: Path) -> None:
    explainer, x = Explainer(bundles("pooled").path, backend), tiny.inputs("pooled", 3)
    explanation = explainer.explain(x, "reciprocam", ["0 vs 2", "not 1", 4], score="softmax")
    start = datetime.now(UTC)
    with Recorder(tmp_path / "r") as recorder:
        ids = recorder.explained(explainer, explanation, list(x), ["0 vs 2", "not 1", 4], camera=7)
    found = read(tmp_path / "r")
    assert [record.id for record in found] == ids
    assert len(set(ids)) == 3
    manifest = explainer.bundle.manifest
    for i, record in enumerate(found):
        made = datetime.fromisoformat(record.time)
        assert timedelta(0) <= made - start < timedelta(minutes=1)
        assert (record.source.bundle, record.source.digest) == (manifest.name, manifest.digest)
        assert (record.source.backend, record.source.device, record.source.precision) == (backend, "cpu", "f32")
        assert record.source.versions[backend] == explainer.backend_version
        assert record.source.size == (tiny.HEIGHT, tiny.WIDTH)
        spec = json.dumps(schema.dump(manifest.input), sort_keys=True, separators=(",", ":"))
        assert record.source.preprocessing == hashlib.sha256(spec.encode()).hexdigest()
        assert (record.input.of, record.input.image, record.input.file) == ("array", None, None)
        assert (record.method, record.options, record.seed) == ("reciprocam", explanation.options, None)
        np.testing.assert_allclose(record.map.raw, explanation.raw[i], atol=np.abs(explanation.raw[i]).max() / 2000)
        logits = explanation.logits[i]
        assert [one.index for one in record.prediction] == np.argsort(-logits).tolist()
        assert [one.logit for one in record.prediction] == pytest.approx(np.sort(logits)[::-1].tolist())
        shares = scipy.special.softmax(logits.astype(np.float64))
        assert [one.probability for one in record.prediction] == pytest.approx(np.sort(shares)[::-1], rel=1e-4)
        assert record.fields == {"camera": 7}
        assert record.seconds == explanation.seconds / 3
    assert [(r.target.index, r.target.versus, r.target.sign) for r in found] == [(0, 2, 1), (1, None, -1), (4, None, 1)]
    assert [r.target.asked for r in found] == ["0 vs 2", "not 1", "4"]
    assert {record.target.chosen_by for record in found} == {"caller"}
    assert found[0].input.sha256 != found[1].input.sha256


@pytest.mark.parametrize(
    ("asked", "text", "by"),
    [
        (None, None, "network"),
        (-1, None, "network"),
        ("top3", "top3", "network"),
        ("beagle", "beagle", "caller"),
        (2, "2", "caller"),
        (np.int64(2), "2", "caller"),
    ],
)
def test_who_chose(explainer: Explainer, tmp_path: Path, asked: Any, text: str | None, by: str) -> None:
    explanation = explainer.explain(tiny.inputs("pooled", 1))
    with Recorder(tmp_path / "r") as recorder:
        recorder.explained(explainer, explanation, asked=asked)
    [record] = read(tmp_path / "r")
    assert (record.target.asked, record.target.chosen_by) == (text, by)
    assert (record.input.sha256, record.input.of) == ("", None)


def test_images(explainer: Explainer, tmp_path: Path) -> None:
    """The sha256 of a file is that of its bytes, as sha256sum gives it; the image is kept only if asked."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", picture)
    data = (tmp_path / "a.png").read_bytes()
    for keep in (False, True):
        folder = tmp_path / f"r{keep}"
        with Recorder(folder, keep_images=keep) as recorder:
            for image in (tmp_path / "a.png", str(tmp_path / "a.png"), data, picture):
                recorder.explained(explainer, explainer.explain(picture), [image])
        *files, array = read(folder)
        assert {record.input.sha256 for record in files} == {hashlib.sha256(data).hexdigest()}
        assert [record.input.file for record in files] == [str(tmp_path / "a.png")] * 2 + [None]
        assert array.input.sha256 == hashlib.sha256(b"(20, 30, 3)" + picture.tobytes()).hexdigest()
        kept = [record.input.image for record in (*files, array)]
        if not keep:
            assert kept == [None] * 4
            assert base64.b64encode(data)[:40] not in damage.files(folder)[0].read_bytes()
            continue
        assert [base64.b64decode(one or "") for one in kept[:3]] == [data] * 3
        assert (np.load(io.BytesIO(base64.b64decode(kept[3] or ""))) == picture).all()


def test_arrays_of_another_program(bundles: Bundles, tmp_path: Path) -> None:
    """What a model server gives, with the facts of the bundle."""
    net = bundles("pooled")
    elsewhere = Deployed.elsewhere(Bundle.open(net.path), "triton 2.65", "cuda", "f16")
    heat, logits = np.random.default_rng(0).random((16, 20), np.float32), np.array([1.0, 3.0, 2.0, 0.0, -1.0])
    with Recorder(tmp_path / "r") as recorder:
        recorder.record(elsewhere, heat, logits, "smoothgrad-of-another", options={"seed": 3}, seconds=0.25)
        shares = scipy.special.softmax(logits)
        recorder.record(
            elsewhere, heat, shares, "rise", target=2, given="probabilities", stated_error={"standard_error": 0.1}
        )
    one, other = read(tmp_path / "r")
    assert (one.source.backend, one.source.device, one.source.precision) == ("triton 2.65", "cuda", "f16")
    assert one.source.digest == Bundle.open(net.path).manifest.digest
    assert (one.target.index, one.target.label, one.target.chosen_by) == (1, tiny.LABELS[1], "network")
    assert (one.seed, one.seconds, one.options) == (3, 0.25, {"seed": 3})
    assert other.options == options_of(create("rise", {}))
    assert other.seed == other.options["seed"]
    assert [p.probability for p in one.prediction] == pytest.approx(np.sort(shares)[::-1], rel=1e-5)
    assert [p.probability for p in other.prediction] == pytest.approx(np.sort(shares)[::-1], rel=1e-5)
    assert [p.logit for p in other.prediction] == [None] * 5
    assert (other.target.index, other.target.asked, other.target.chosen_by) == (2, "2", "caller")
    assert other.stated_error == {"standard_error": 0.1}
    np.testing.assert_allclose(one.map.raw, heat, atol=1 / 2048)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw": np.zeros(5)}, r"a map to record is \[h,w\] or \[d,h,w\], not float64 \[5\]"),
        ({"raw": np.zeros((0, 4))}, r"a map to record is .* not float64 \[0, 4\]"),
        ({"raw": np.array([["a"]])}, r"a map to record is .* not <U1 \[1, 1\]"),
        ({"raw": np.full((4, 6), np.nan)}, "a map to record holds NaN, infinity or a number beyond float32"),
        ({"raw": np.full((4, 6), 1e300)}, "a map to record holds NaN, infinity or a number beyond float32"),
        ({"raw": np.zeros((2, 4, 6))}, r"a map of \[2, 4, 6\] is none of the input \[32, 48\]"),
        ({"scores": np.zeros((1, 3))}, r"scores to record are numbers \[classes\], not float64 \[1, 3\]"),
        ({"scores": np.array([1, np.inf, 0])}, "scores to record hold NaN or infinity"),
        ({"scores": np.zeros(4)}, "4 scores are given, and the network has 3 classes"),
        ({"target": 3}, "target 3: the network has the classes 0 to 2"),
        ({"target": "cat"}, "target 'cat': the network has the classes 0 to 2"),
        ({"fields": {"a": float("nan")}}, r"this can't be recorded \(Out of range float values"),
        ({"fields": {"a": [1]}}, r"this can't be recorded \(record.fields\['a'\]: expected str, got list\)"),
        ({"fields": {"a": {1}}}, r"this can't be recorded \(Object of type set is not JSON serializable\)"),
        ({"fields": {1: 2, "1": 3}}, None),
        ({"seconds": float("inf")}, r"this can't be recorded \(Out of range float values"),
        ({"image": "missing.png"}, None),
    ],
    ids=str,
)
def test_what_can_not_be_recorded(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    """One line says why, and nothing is written."""
    good: dict[str, Any] = {"raw": np.eye(4, 6), "scores": np.zeros(3), "method": "grad-cam"}
    with Recorder(tmp_path / "r") as recorder:
        if message is not None:
            with pytest.raises(RecordsError, match=f"^{message}"):
                recorder.record(damage.deployed(), **good | change)
        elif "image" in change:
            with pytest.raises(RecordsError, match=r"^missing.png: can't be read \(No such file or directory\)$"):
                recorder.record(damage.deployed(), **good | change)
        else:
            recorder.record(damage.deployed(), **good | change)
    assert len(list((tmp_path / "r").iterdir())) == (0 if message or "image" in change else 2)


def test_names_that_break_lines(tmp_path: Path) -> None:
    """A name from a file system may hold a line break, or bytes that are not UTF-8."""
    name = "a\nb\u2028c\udcff"
    with Recorder(tmp_path / "r") as recorder:
        recorder.record(damage.deployed(), np.eye(4), np.zeros(3), "grad-cam", file=name, fields={name: name})
    [record] = read(tmp_path / "r")
    assert (record.input.file, record.fields) == (name, {name: name})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1]", "is no record"),
        (b'{"schema": true}', "is no record"),
        (b'{"schema": 2}', "has schema 2, and this version reads 1; update xai-deploy"),
        (b'{"schema": 1}', "is no record: the key 'chain' is missing"),
    ],
)
def test_lines_that_are_no_records(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode(line)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shape", [4, 4000000], "its map has another size than it says"),
        ("shape", [-4, -4], "its map has another size than it says"),
        ("shape", [16], "its map has another size than it says"),
        ("data", "?", "its map is no base64"),
        ("data", base64.b64encode(b"\1" * 32).decode(), "its map does not have the sha256 that it says"),
        ("scale", 1e300, "its map holds NaN, infinity or a number beyond float32"),
        ("scale", -1.0, "its map holds NaN, infinity or a number beyond float32"),
        ("scale", "1", "record.map.scale: expected float, got str"),
    ],
)
def test_maps_that_are_none(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with Recorder(tmp_path / "r") as recorder:
        recorder.record(damage.deployed(), np.eye(4), np.zeros(3), "grad-cam")
    document = json.loads(damage.files(tmp_path / "r")[0].read_bytes())
    document["map"][key] = value
    with pytest.raises(ValueError, match=message):
        decode(json.dumps(document).encode())


SIZE = "the network's input has no such size"


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("source", "size", [60000, 60000], SIZE),
        ("source", "size", [10**400, 1], SIZE),
        ("source", "size", [5], SIZE),
        ("source", "size", [], SIZE),
        ("source", "size", [-3, -5], SIZE),
        ("source", "size", [0, 0], SIZE),
        ("source", "size", [4, 32, 32], SIZE),
        (None, "number", 10**300, "its number is out of range"),
        (None, "number", -1, "its number is out of range"),
        (None, "lost", -5, "its lost is out of range"),
        (None, "seed", 10**400, "its seed is out of range"),
        (None, "seed", -(1 << 63) - 1, "its seed is out of range"),
        ("target", "index", 1 << 63, "its class is out of range"),
        ("target", "versus", 1 << 63, "its class is out of range"),
        ("target", "sign", 0, "its sign is neither 1 nor -1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_numbers_that_no_reader_can_use(tmp_path: Path, part: str | None, key: str, value: Any, message: str) -> None:
    """Refused by every reader in one line, before anything of that size is made."""
    with Recorder(tmp_path / "r") as recorder:
        recorder.record(damage.deployed(), np.eye(4), np.zeros(3), "grad-cam")
    [file] = damage.files(tmp_path / "r")
    document = json.loads(file.read_bytes())
    (document if part is None else document[part])[key] = value
    line = json.dumps(document).encode()
    with pytest.raises(ValueError, match=f"^{message}"):
        decode(line)
    file.write_bytes(line + b"\n")
    with pytest.raises(RecordsError, match=rf"line 1: {message}.*; xai-records verify says more"):
        read(tmp_path / "r")
    [fault] = verify(tmp_path / "r").faults[:1]
    assert message in fault.what


def test_a_seed_beyond_64_bits_is_not_recorded(tmp_path: Path) -> None:
    with (
        Recorder(tmp_path / "r") as recorder,
        pytest.raises(RecordsError, match=r"can't be recorded \(its seed is out"),
    ):
        recorder.record(damage.deployed(), np.eye(4), np.zeros(3), "rise", options={"seed": 1 << 70})

"""Sample pictures: what `read_samples` makes of a folder."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xai_exporters.deliver.web import read_samples
from xai_exporters.deliver.web.samples import LONGEST, MOST, THUMBNAIL
from xai_exporters.errors import RequestError

from xai_deploy import read_image


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_pictures_are_copied_without_their_metadata(tmp_path: Path, sample: Path, photograph: Path) -> None:
    shutil.copy(sample, tmp_path / "b.PNG")
    with Image.open(photograph) as image:
        exif = image.getexif()
        exif[0x010E] = "secret"  # ImageDescription
        image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "folder.png").mkdir()
    one, other = read_samples(tmp_path)
    assert [(one.name, one.suffix), (other.name, other.suffix)] == [("a", ".jpg"), ("b", ".png")]
    np.testing.assert_array_equal(np.asarray(decoded(other.picture)), read_image(sample))
    upright = decoded(one.picture)
    assert (upright.format, upright.size) == ("JPEG", (257, 301))  # turned, as EXIF said
    assert not upright.getexif()
    assert b"secret" not in one.picture + one.thumbnail
    assert np.abs(np.asarray(upright) - read_image(tmp_path / "a.jpg").astype(int)).mean() < 3
    assert decoded(one.thumbnail).size == (round(257 * THUMBNAIL / 301), THUMBNAIL)
    assert decoded(other.thumbnail).size == (64, 64)
    assert read_samples(None) == []


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (30, 61, 1), dtype=np.uint8).repeat(50, axis=0).repeat(50, axis=1)
    large = np.repeat(grey, 3, axis=2)  # JPEG halves the resolution of colours
    Image.fromarray(large).save(tmp_path / "large.png")
    [found] = read_samples(tmp_path)
    small = decoded(found.picture)
    assert (small.format, small.size) == ("JPEG", (LONGEST, round(1500 * LONGEST / 3050)))
    wanted = Image.fromarray(large).resize(small.size, Image.Resampling.BILINEAR)  # PIL widens the filter, too
    assert np.abs(np.asarray(small).astype(int) - np.asarray(wanted)).mean() < 3


def test_refusals(tmp_path: Path, sample: Path) -> None:
    def refused(message: str, folder: Path) -> None:
        with pytest.raises(RequestError, match=message) as error:
            read_samples(folder)
        assert "\n" not in str(error.value)

    refused(r"^--web-samples .*none: can't be read as a folder \(No such file or directory\)$", tmp_path / "none")
    refused(r"^--web-samples .*three\.png: can't be read as a folder \(Not a directory\)$", sample)
    refused(r"^--web-samples .*: holds no picture$", tmp_path)
    (tmp_path / "cut.png").write_bytes(sample.read_bytes()[:-100])
    refused(r"^--web-samples: .*cut\.png: the image is truncated or damaged; copy or save it again$", tmp_path)
    (tmp_path / "cut.png").write_text("hello")
    refused(r"^--web-samples: .*cut\.png: not a PNG", tmp_path)
    for i in range(MOST):
        shutil.copy(sample, tmp_path / f"{i}.png")
    refused(rf"^--web-samples .*: holds {MOST + 1} pictures; the page offers at most {MOST}$", tmp_path)


def test_a_name_that_is_no_text(tmp_path: Path, sample: Path) -> None:
    shutil.copy(sample, tmp_path / os.fsdecode(b"\xff.png"))
    assert [one.name for one in read_samples(tmp_path)] == ["picture 1"]

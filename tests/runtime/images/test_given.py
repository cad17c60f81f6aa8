"""Images in the forms that users have: against `read_image` of the saved file, and numpy."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.errors import DtypeError, ImageFileError, ShapeError
from xai_deploy.images.given import read_given
from xai_deploy.preprocess import as_list, view

from ..conftest import Bundles

WARNING = "transparent in places; the transparency is ignored and the stored colours are used"


def picture(height: int = 37, width: int = 53) -> NDArray[np.uint8]:
    """Smooth, so that lossy formats keep it, and different in every channel."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def photos(tmp_path: Path) -> list[NDArray[np.uint8]]:
    """Two pictures of different sizes, also as a.png and b.png."""
    pictures = [picture(), picture(20, 31)]
    for name, pixels in zip("ab", pictures, strict=True):
        write_image(tmp_path / f"{name}.png", pixels)
    return pictures


def test_paths_pil_images_tensors_and_arrays_are_the_same_image(
    bundles: Bundles, backend: str, photos: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    explainer = Explainer(bundles("pooled").path, backend)
    wanted = explainer.explain(photos)
    rgba = np.concatenate([photos[1], np.full((20, 31, 1), 255, np.uint8)], axis=2)
    planes = torch.from_numpy(np.moveaxis(photos[1], -1, 0).copy())
    for one in (
        tmp_path / "b.png",
        str(tmp_path / "b.png"),
        Image.fromarray(photos[1]),
        rgba,
        planes,
        planes.permute(1, 2, 0),
    ):
        mixed: list[Any] = [str(tmp_path / "a.png"), one]
        explanation = explainer.explain(mixed)
        np.testing.assert_array_equal(explanation.raw, wanted.raw)
        for given, overlay in zip(explanation.overlay(mixed), wanted.overlay(photos), strict=True):
            np.testing.assert_array_equal(given, overlay)
        np.testing.assert_array_equal(explainer.predict(one), wanted.logits[1:])  # alone, without a list
        np.testing.assert_array_equal(explainer.prepare(one).x, explainer.prepare(photos[1]).x)
    (explanation,) = explainer.explain_many(tmp_path / "b.png", ["cam"])
    np.testing.assert_array_equal(explanation.logits, wanted.logits[1:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pil_images_are_upright_as_files_are(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    found, wanted = read_given(Image.open(tmp_path / f"a.{suffix}")), read_image(tmp_path / f"a.{suffix}")
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= (4 if suffix == "jpg" else 0)  # decoders round JPEG differently


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_modes_of_pil_are_read_as_their_file(tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    if mode == "I;16":
        image = Image.fromarray(picture()[..., 0].astype(np.uint16) * 257 + 100)
    else:
        image = Image.fromarray(picture()).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(picture()[..., 1]))
    image.save(tmp_path / "a.png")
    wanted = read_image(tmp_path / "a.png")
    of_file = [record.getMessage() for record in caplog.records]
    caplog.clear()
    found = read_given(image)
    np.testing.assert_array_equal(found if found.ndim == 3 else np.repeat(found[..., None], 3, 2), wanted)
    assert len(of_file) == (mode in ("RGBA", "LA"))
    assert [record.getMessage() for record in caplog.records] == [f"an image: {WARNING}"] * len(of_file)
    caplog.clear()
    read_given(Image.open(tmp_path / "a.png"))
    assert [record.getMessage() for record in caplog.records] == of_file


def test_transparent_palette(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = Image.fromarray(picture()).convert("P")
    image.save(tmp_path / "a.png", transparency=int(np.asarray(image)[0, 0]))
    np.testing.assert_array_equal(read_given(Image.open(tmp_path / "a.png")), read_image(tmp_path / "a.png"))
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'a.png'}: {WARNING}"] * 2


def test_dark_16_bits_are_said(caplog: pytest.LogCaptureFixture) -> None:
    read_given(Image.fromarray(np.full((4, 5), 4000, np.uint16)))
    assert "an image: 16 bits per value, but they reach only from 4000 to 4000" in caplog.text


def test_ink(tmp_path: Path) -> None:
    """CMYK as OpenCV reads it from a JPEG; PIL's own RGB differs by up to two steps."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 4), dtype=np.uint8), "CMYK")
    small.resize((53, 37), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    image = Image.open(tmp_path / "a.jpg")
    assert image.mode == "CMYK"
    found = read_given(image).astype(int)
    assert np.abs(found - read_image(tmp_path / "a.jpg")).max() <= 4
    assert np.abs(found - np.asarray(image.convert("RGB"))).max() <= 2


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_values_without_black_and_white(mode: str, dtype: type) -> None:
    with pytest.raises(DtypeError, match=f"an image: a PIL image of mode '{mode}' does not tell what is black"):
        read_given(Image.fromarray(np.zeros((4, 5), dtype)))


def test_a_truncated_pil_image(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with (
        Image.open(tmp_path / "a.png") as image,
        pytest.raises(ImageFileError, match=r"a\.png: the image is truncated or damaged \("),
    ):
        read_given(image)


def test_transparent_arrays(caplog: pytest.LogCaptureFixture) -> None:
    rgba = np.dstack([picture(), picture()[..., 0]])
    np.testing.assert_array_equal(read_given(rgba), picture())
    assert [record.getMessage() for record in caplog.records] == [f"an image: {WARNING}"]
    caplog.clear()
    rgba[..., 3] = 255
    np.testing.assert_array_equal(read_given(rgba), picture())
    read_given(picture())
    assert caplog.records == []


def test_tensors() -> None:
    pixels = np.stack([picture(), picture()[::-1]])
    first = torch.from_numpy(np.moveaxis(pixels, -1, 1).copy())
    for batch in (first, first.permute(0, 2, 3, 1)):
        for found, wanted in zip(as_list(batch), pixels, strict=True):
            np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(read_given(first[0, :1])[..., 0], pixels[0, :, :, 0])
    np.testing.assert_array_equal(read_given(first[0, 0]), pixels[0, :, :, 0])
    floats = torch.rand(3, 8, 9, requires_grad=True)
    np.testing.assert_array_equal(read_given(floats), floats.detach().numpy())  # never turned: the network's own layout
    half = floats.to(torch.bfloat16)
    np.testing.assert_array_equal(read_given(half), half.detach().float().numpy())

    class Marked(torch.Tensor):
        """As torchvision's tv_tensors are."""

    np.testing.assert_array_equal(read_given(first[0].as_subclass(Marked)), pixels[0])


def test_tensors_of_two_meanings() -> None:
    for shape in ((3, 8, 3), (1, 8, 4), (2, 3, 8, 3)):
        with pytest.raises(ShapeError, match="could have its channels first or last; give an array"):
            as_list(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(DtypeError, match=r"a tensor of torch\.float32 can't become an array \("):
        read_given(torch.zeros(3, 8, 9).to_sparse())


def test_what_offers_an_array() -> None:
    class Tensor:
        """As JAX's and TensorFlow's do."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.uint8]:
            return picture()

        def __len__(self) -> int:
            return 37

    for given in (Tensor(), [Tensor()]):
        (found,) = as_list(given)
        np.testing.assert_array_equal(found, picture())


@pytest.mark.parametrize("images", [[object()], {"a": 1}, [b"x"], [None], ["a.png", 3j]])
def test_no_image(images: Any) -> None:
    with pytest.raises(DtypeError, match="images are arrays, paths, PIL images or tensors; this is a"):
        as_list(images)


def test_a_missing_file_is_named(explainer: Explainer, tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"no\.png: no such file"):
        explainer.explain([picture(), tmp_path / "no.png"])


def test_floats_have_no_picture(explainer: Explainer) -> None:
    with pytest.raises(DtypeError, match="an image has uint8 pixels, not float32"):
        view(torch.rand(3, 16, 20), explainer.bundle.manifest.input)


def test_neither_pil_nor_torch_is_imported(tmp_path: Path, bundles: Bundles) -> None:
    write_image(tmp_path / "a.png", picture())
    code = (
        "import sys; from xai_deploy import Explainer; import numpy as np\n"
        f"explainer = Explainer({str(bundles('pooled').path)!r}, 'onnxruntime')\n"
        f"explainer.predict([{str(tmp_path / 'a.png')!r}, np.zeros((9, 8, 4), np.uint8)])\n"
        "print([name for name in ('PIL', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_messages_are_of_the_package(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "xai_deploy"):
        read_given(np.zeros((2, 3, 4), np.uint8))
    assert [record.name for record in caplog.records] == ["xai_deploy.images.transparency"]

"""Networks of any number of channels, and images of more than 8 bits: against autograd on the live networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.cli import main as xai_export
from xai_exporters.errors import PreprocessingError, RequestError

from xai_deploy import Explainer
from xai_deploy.cli.bench import main as bench
from xai_deploy.cli.check import main as check
from xai_deploy.cli.evaluate import main as evaluate
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import DtypeError, ImageFileError, NonFiniteInputError, ShapeError
from xai_deploy.images.npy import read_image_array
from xai_deploy.images.shown import stretched

from ...exporters.running import both_ways
from ...few import few
from ..outputs.nets import grad_cam

SIZE = 13, 17
BACKENDS = ["onnxruntime", "openvino"]


class Small(nn.Module):
    """Two convolutions, a pooling, a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(channels)
        self.first, self.second = nn.Conv2d(channels, 6, 3, stride=2), nn.Conv2d(6, 5, 3, padding=1)
        self.last = nn.Linear(5, 4)

    def features(self, x: Tensor) -> Tensor:
        """The layer that is explained."""
        return functional.relu(self.second(functional.relu(self.first(x))))

    def scores(self, a: Tensor) -> Tensor:
        """The logits of its activation."""
        return Tensor(self.last(a.mean(dim=(2, 3)) * 3))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.scores(self.features(x))


def saved(channels: int, file: Path) -> Small:
    network = Small(channels).eval()
    onnx.save(both_ways(network, False, (channels, *SIZE)), file)
    return network


def values(count: int, channels: int) -> NDArray[np.uint16]:
    """Images of 0 to 10,000, [n,h,w,C]."""
    return np.random.default_rng(channels).integers(0, 10_000, (count, *SIZE, channels)).astype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of 1, 2, 3, 4 and 11 channels; that of 11 takes 0 to 10,000, that of 1 numbers as they are, that of 3 16 bits."""
    folder = tmp_path_factory.mktemp("channels")
    for channels, preset, fields, more in (
        (1, "none", {"range": (0.0, 255.0), "mean": (0.5,), "std": (2.0,)}, {}),
        (2, "unit", {}, {}),
        (3, "unit", {"range": (0.0, 65_535.0)}, {}),
        (4, "unit", {}, {"fuse": ("grad-cam",), "embed_preprocess": True}),
        (11, "unit", {"range": (0.0, 10_000.0), "shown": (3, 2, 1), "mean": (0.1,) * 11, "std": (0.5,) * 11}, {}),
    ):
        saved(channels, folder / f"{channels}.onnx")
        graphs: dict[str, Any] = {"input_gradient": True, "guided": True, "pixel_relevance": True, **more}
        export(
            Request(
                folder / f"{channels}.onnx",
                output_path=folder / f"{channels}.xai",
                preprocess=preset,  # type: ignore[arg-type]
                preprocess_fields=fields,
                **graphs,
            )
        )
    return folder


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_eleven_channels(folder: Path, backend: str, count: int) -> None:
    explainer, given, network = Explainer(folder / "11.xai", backend), values(count, 11), Small(11).eval()
    x = torch.from_numpy(((given / 10_000 - 0.1) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)).requires_grad_()
    want, _ = grad_cam(network.features(x), lambda a: network.scores(a)[:, 2])
    logits = network(x)
    [gradient] = torch.autograd.grad(logits[:, 2].sum(), x)
    for images in (given, given.astype(np.float64), list(given.transpose(0, 3, 1, 2)), given.astype(np.int32)):
        got = explainer.explain(images, "grad-cam", 2)
        np.testing.assert_allclose(got.logits, logits.detach().numpy(), atol=1e-4)
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
        assert list(got.sizes) == [SIZE] * count
    pixels = gradient.abs().amax(dim=1).numpy()
    np.testing.assert_allclose(explainer.explain(given, "gradient", 2).raw, pixels, atol=1e-4 * pixels.max())
    for method in (*explainer.methods("fast"), "score-cam", "rise", "integrated-gradients")[:: 4 - count]:
        every = explainer.explain(given, method, 2, **few(method))
        assert every.heatmap.shape == (count, *SIZE)
    [picture, *_] = explainer.explain(given, "grad-cam", 2).overlay(given, 0.0)
    np.testing.assert_array_equal(picture, stretched(given[0], (3, 2, 1)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_floats_and_bytes(folder: Path, backend: str, channels: int) -> None:
    """Floats as they are (range 0,255), of another size too; bytes are the same numbers."""
    explainer, network = Explainer(folder / f"{channels}.xai", backend), Small(channels).eval()
    whole = np.random.default_rng(3).integers(0, 256, (2, *SIZE, channels)).astype(np.uint8)
    scale, mean, std = (1, 0.5, 2) if channels == 1 else (1 / 255, 0, 1)

    def prepared(images: NDArray[Any]) -> Tensor:
        return torch.from_numpy(((images * scale - mean) / std).astype(np.float32).transpose(0, 3, 1, 2))

    for images in (whole, whole.astype(np.float32), whole.astype(np.float32) + 0.25):
        want, _ = grad_cam(network.features(prepared(images)), lambda a: network.scores(a)[:, 1])
        np.testing.assert_allclose(explainer.explain(images, "grad-cam", 1).raw, want, atol=1e-4 * want.max())
    large = np.repeat(np.repeat(whole.astype(np.float32) - 300.5, 2, axis=1), 2, axis=2)  # negative, not clipped
    small = cv2.resize(large[0], SIZE[::-1], interpolation=cv2.INTER_AREA).reshape(*SIZE, channels)
    soft = explainer.prepare([large[0]]).x
    assert np.corrcoef(soft.ravel(), prepared(small[None]).numpy().ravel())[0, 1] > 0.9


def test_files_keep_their_16_bits(folder: Path) -> None:
    explainer = Explainer(folder / "3.xai")
    image = np.random.default_rng(0).integers(0, 65_536, (*SIZE, 3)).astype(np.uint16)
    for name in ("deep.png", "deep.tif"):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    np.save(folder / "deep.npy", image)
    np.save(folder / "first.npy", image.transpose(2, 0, 1))
    want = (image / 65_535).astype(np.float32).transpose(2, 0, 1)
    for given in (image, folder / "deep.png", folder / "deep.tif", folder / "deep.npy", folder / "first.npy"):
        np.testing.assert_allclose(explainer.prepare([given]).x[0], want, atol=1e-7)
    grey = Explainer(folder / "1.xai")
    one = PIL.Image.fromarray(image[..., 0])
    np.testing.assert_allclose(grey.prepare([one]).x[0, 0], (image[..., 0] - 0.5) / 2, rtol=1e-6)
    bytes_ = (image >> 8).astype(np.uint8)
    np.testing.assert_allclose(explainer.prepare([bytes_]).x[0], bytes_.transpose(2, 0, 1) / 255, atol=1e-6)


def test_commands(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bands").mkdir()
    for i, image in enumerate(values(3, 11)):
        np.save(tmp_path / f"bands/{i}.npy", image if i else image.transpose(2, 0, 1).astype(np.float32))
    bundle = str(folder / "11.xai")
    assert explain([bundle, "bands", "-m", "grad-cam,gradient", "-q", "-o", "out"]) == 0
    [first, *_] = json.loads(Path("out/results.json").read_text())["images"]
    raw = np.load(Path("out", first["explanations"][0]["raw"]))
    explainer = Explainer(bundle)
    np.testing.assert_allclose(raw, explainer.explain(values(1, 11), "grad-cam").raw[0], atol=1e-5)
    assert check([bundle, bundle, "bands", "-m", "grad-cam", "--report", "check.html", "-q"]) == 0
    assert evaluate([bundle, "bands", "-m", "grad-cam", "--metrics", "deletion", "-q", "-o", "eval"]) == 0
    assert bench([bundle, "-m", "grad-cam", "--image", "bands/1.npy", "--runs", "1", "--batch", "1", "-q"]) == 0


def test_embedded_preprocessing(folder: Path) -> None:
    import onnxruntime

    image = np.random.default_rng(1).integers(0, 256, (1, 21, 30, 4)).astype(np.uint8)
    session = onnxruntime.InferenceSession(folder / "4.xai/fused-grad-cam.onnx")
    feeds = {session.get_inputs()[0].name: image, "target": np.array([1])}
    [saliency] = session.run(["saliency_map"], feeds)
    want = Explainer(folder / "4.xai").explain(image, "grad-cam", 1)
    raw = want.raw[0]
    np.testing.assert_allclose(saliency[0], (raw - raw.min()) / np.ptp(raw), atol=1e-3)


def test_refused_images(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eleven, three = Explainer(folder / "11.xai"), Explainer(folder / "3.xai")
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(
        ShapeError, match=r"for this network has 11 channels, \[h,w,11\], not \(20, 20, 3\); give it as an"
    ):
        eleven.explain(tmp_path / "photo.png")
    with pytest.raises(
        ShapeError, match=r"shape \(11, 5, 11\) may have its channels first or last; give \[h,w,channels\]"
    ):
        eleven.explain(np.zeros((11, 5, 11), np.float32))
    with pytest.raises(NonFiniteInputError, match="the image holds NaN or infinity"):
        three.explain(np.full((5, 5, 3), np.nan))
    with pytest.raises(ShapeError, match=r"not \(4, 5, 6\)"):
        three.explain(np.zeros((4, 5, 6)))
    plain = folder / "4.onnx"
    for name, array, said in (
        ("objects", np.array([[None]]), "holds Python objects, which are not read"),
        ("text", np.array([["a"]]), r"holds <U1 of shape \(1, 1\); an image is an array of numbers"),
        ("line", np.zeros(3), r"holds float64 of shape \(3,\)"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ImageFileError, match=said):
            eleven.explain(tmp_path / f"{name}.npy")
    whole = (tmp_path / "line.npy").read_bytes()
    for data, said in (
        (whole[:-3], r"announces float64 \(3,\), but the file has another size; it is damaged"),
        (whole.replace(b"(3,)", b"(9**9**9,)"[:4]), "its header is damaged|another size"),
        (b"PK\x03\x04" + whole, "not a .npy file"),
    ):
        (tmp_path / "bad.npy").write_bytes(data)
        with pytest.raises(ImageFileError, match=said):
            read_image_array(tmp_path / "bad.npy", 10**6)
    assert plain.exists()
    with pytest.raises(DtypeError, match="a network exported with --input-range LOW,HIGH takes values of any type"):
        export_plain(folder, tmp_path).explain(np.zeros((5, 5, 3), np.uint16))
    np.save(tmp_path / "floats.npy", np.zeros((5, 5, 3), np.float32))
    assert explain([str(tmp_path / "plain.xai"), str(tmp_path / "floats.npy"), "-o", str(tmp_path / "o")]) == 2
    assert "nobody says which values are black and white; give --input-range LOW,HIGH" in capsys.readouterr().err


def export_plain(folder: Path, tmp_path: Path) -> Explainer:
    done = export(Request(folder / "3.onnx", output_path=tmp_path / "plain.xai", preprocess="unit"))
    assert done.manifest.input.preprocess.range is None
    return Explainer(done.path)


def test_refused_exports(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def request(**more: Any) -> Request:
        return Request(folder / "11.onnx", output_path=tmp_path / "no.xai", **more)

    for fields, said in (
        ({"range": (5.0, 5.0)}, "range is two numbers, the lower one first"),
        ({"range": (1.0,)}, "--input-range takes LOW,HIGH, for example 0,65535"),
        ({"shown": (0, 1, 11)}, "shown names channels from 0 to 10"),
        ({"shown": (0, 1.5, 1)}, "--shown takes three channels"),
        ({"color": "RGB"}, r"has 11 channels; RGB images have 3 \(--color CHANNELS takes any number\)"),
        ({"mean": (1.0, 2.0)}, "--mean needs 11 values"),
    ):
        with pytest.raises(RequestError, match=said):
            export(request(preprocess="unit", preprocess_fields=fields))
    with pytest.raises(
        RequestError, match="imagenet is for photos; the input has 11 channels: give unit or none, with"
    ):
        export(request(preprocess="imagenet"))
    with pytest.raises(RequestError, match="caffe is for colour images; the input has 11 channels"):
        export(request(preprocess="caffe"))
    with pytest.raises(PreprocessingError, match=r"give --preprocess unit\|tf\|none\|assume"):
        export(request())
    with pytest.raises(RequestError, match="--web: the page explains photos; the network takes images of 11 channels"):
        export(request(preprocess="unit", fuse=("grad-cam",), web=tmp_path / "site"))
    command = [str(folder / "11.onnx"), "--preprocess", "unit", "-o", str(tmp_path / "no.xai")]
    assert xai_export([*command, "--input-range", "7,3"]) == 2
    assert "range is two numbers, the lower one first" in capsys.readouterr().err
    assert xai_export([*command, "--input-range", "0,10000", "--shown", "3,2,1", "-q"]) == 0
    manifest = json.loads((tmp_path / "no.xai/manifest.json").read_text())
    how = manifest["input"]["preprocess"]
    assert (how["range"], how["shown"], how["color"]) == ([0.0, 10_000.0], [3, 2, 1], "CHANNELS")

"""`--arch timm:NAME`: the network, its weights, and timm's own preprocessing pixel by pixel."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from xai_exporters import Request
from xai_exporters.bundle.preprocess import describe_input
from xai_exporters.errors import ArchitectureError
from xai_exporters.sources import load_source, timm_nets
from xai_exporters.sources.configured import stated_by_module
from xai_exporters.sources.stated import Stated

from xai_deploy.preprocess import prepare


def spec_of(stated: Stated) -> Any:
    assert stated.size is not None
    return describe_input(Request(Path("x")), "image", "float32", (3, *stated.size), "NCHW", stated)


def smooth(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def test_timm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ArchitectureError, match=r"net\.pt: --arch timm:resnet18 needs timm; pip install timm"):
        load_source(Request(tmp_path / "net.pt", arch="timm:resnet18"))


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "vit_tiny_patch16_224", "convnext_atto.d2_in1k", "mobilenetv3_small_050"]
)
@pytest.mark.parametrize("size", [(300, 411), (500, 260)])
def test_preprocessing_is_timms(name: str, size: tuple[int, int]) -> None:
    import timm

    module = timm.create_model(name)
    stated = timm_nets.find(name, Path("x")).stated({}, module)
    assert stated is not None
    assert stated.sure == ("." in name)
    image = smooth(*size)
    want = timm.data.create_transform(**timm.data.resolve_data_config({}, model=module))(image)
    ours = prepare(np.asarray(image), spec_of(stated))
    std = np.array(module.pretrained_cfg["std"])[:, None, None]
    assert ours.shape == want.shape
    assert np.abs((ours - want.numpy()) * std * 255).max() <= 1.01  # one step of 8 bits: PIL rounds twice


def test_what_the_manifest_can_not_say_is_said() -> None:
    net: Any = torch.nn.Module()
    net.pretrained_cfg = {"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.9,
                          "crop_mode": "border", "interpolation": "lanczos"}  # fmt: skip
    stated = stated_by_module(net)
    assert stated is not None
    assert "its interpolation 'lanczos' is taken as bilinear" in stated.ask
    assert "its crop (border, 0.9 of 64 x 64) is taken as stretching" in stated.ask
    for mode, said in (("border", "its crop (border, 1 of 64 x 64) is taken as stretching"), ("squash", "")):
        net.pretrained_cfg = {**net.pretrained_cfg, "crop_pct": 1.0, "crop_mode": mode, "interpolation": "bicubic"}
        whole = stated_by_module(net)
        assert whole is not None
        assert whole.ask == said


@pytest.mark.parametrize(
    ("crop", "size"), [(1.0, (301, 411)), (1.0, (77, 53)), (0.9, (301, 411)), (0.9, (77, 53)), (0.9, (51, 51))]
)
def test_squash(crop: float, size: tuple[int, int]) -> None:
    """timm stretches the whole image to a square and cuts out the middle."""
    import timm

    net: Any = torch.nn.Module()
    net.pretrained_cfg = {"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.25,) * 3, "crop_pct": crop,
                          "crop_mode": "squash", "interpolation": "bilinear"}  # fmt: skip
    stated = stated_by_module(net)
    assert stated is not None
    assert stated.ask == ""
    image = smooth(*size)
    want = timm.data.create_transform(
        (3, 64, 64), interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3, crop_pct=crop, crop_mode="squash"
    )(image)
    ours = prepare(np.asarray(image), spec_of(stated))
    assert np.abs((ours - want.numpy()) * 0.25 * 255).max() <= 1.01


def test_weights_classes_and_image_size(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=7, img_size=64).eval()
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in net.state_dict().items()}}, tmp_path / "net.ckpt"
    )
    source = load_source(Request(tmp_path / "net.ckpt", arch="timm:test_vit"))
    assert source.reference is not None
    x = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(source.reference(x)["output"], net(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-6)
    assert source.notes == ("Built with img_size=64.", "The weights are those under 'model.'.")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet81", "timm has no network 'resnet81'; the nearest are resnet"),
        ("deit_tiny", "timm has no network 'deit_tiny'; the nearest are deit_tiny_patch16_224"),
        ("hf-hub:timm/resnet18", "timm has no network 'hf-hub:timm/resnet18'"),
        ("local-dir:x", "timm has no network 'local-dir:x'"),
    ],
)
def test_only_timms_own_networks(tmp_path: Path, name: str, says: str) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(ArchitectureError, match=says):
        load_source(Request(tmp_path / "net.pt", arch=f"timm:{name}"))


def test_other_options_than_the_weights(tmp_path: Path) -> None:
    import timm

    torch.save(timm.create_model("test_resnet", in_chans=1).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ArchitectureError, match=r"is \[.*, 1, 3, 3\] instead of .* --arch-options$"):
        load_source(Request(tmp_path / "net.pt", arch="timm:test_resnet"))


def folder_of(folder: Path, **changes: Any) -> str:
    """A folder as timm writes one."""
    sizes = {
        "input_size": [3, 96, 96],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "first_conv": "conv1",
        "classifier": "fc",
    }
    own = {"tag": "mine", "url": "x", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "num_classes": 3, **sizes}
    config = {"architecture": "test_resnet", "num_classes": 3, "label_names": ["a", "b", "c"], "pretrained_cfg": own}
    (folder / "config.json").write_text(json.dumps(config | changes))
    return f"hf:{folder}"


def test_a_folder_of_timms(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "net.pt")
    source = load_source(Request(tmp_path / "net.pt", arch=folder_of(tmp_path)))
    assert source.labels == ("a", "b", "c")
    stated = source.preprocess
    assert isinstance(stated, Stated)
    assert (stated.size, stated.sure, stated.fields["resize"], stated.fields["mean"]) == (
        (96, 96),
        True,
        106,
        (0.1, 0.2, 0.3),
    )


@pytest.mark.parametrize("options", [{"checkpoint_path": "x"}, {"img_size": 100_000}, ["x"]])
def test_arguments_that_are_not_taken_from_a_file(tmp_path: Path, options: Any) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(
        ArchitectureError, match=r"config\.json: its 'model_args' are not taken from a file; give --arch timm:"
    ):
        load_source(Request(tmp_path / "net.pt", arch=folder_of(tmp_path, model_args=options)))

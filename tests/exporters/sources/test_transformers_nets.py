"""`--arch hf:FOLDER`: the network of config.json, its labels, and transformers' own preprocessing pixel by pixel."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from xai_exporters import Request
from xai_exporters.errors import ArchitectureError, RequestError
from xai_exporters.sources import load_source, transformers_nets
from xai_exporters.sources.image_processor import stated_by_processor
from xai_exporters.sources.stated import Stated

from xai_deploy.preprocess import prepare

from .test_timm_nets import smooth, spec_of

SMALL = {"model_type": "vit", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
         "image_size": 32, "patch_size": 8, "id2label": {"0": "cat", "1": "big\ndog", "2": "owl"}}  # fmt: skip
PIXELS = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3],
          "image_std": [0.4, 0.5, 0.6]}  # fmt: skip
TIMM = {
    "input_size": [3, 64, 64],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.1],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
}
"""timm's `pretrained_cfg`."""


def folder_of(folder: Path, processor: dict[str, Any] | None = None, **changes: Any) -> str:
    """A folder as transformers writes one, without weights."""
    (folder / "config.json").write_text(json.dumps(SMALL | changes))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return f"hf:{folder}"


def weights_of(folder: Path, prefix: str = "") -> tuple[Path, Any]:
    """A file of weights, and the network."""
    import transformers

    torch.manual_seed(0)
    net = transformers.ViTForImageClassification(transformers.ViTConfig.from_dict(SMALL)).eval()
    save_file({prefix + key: value.contiguous() for key, value in net.state_dict().items()}, folder / "net.safetensors")
    return folder / "net.safetensors", net


@pytest.mark.parametrize("prefix", ["", "model."])
def test_network(tmp_path: Path, prefix: str) -> None:
    path, net = weights_of(tmp_path, prefix)
    source = load_source(Request(path, arch=folder_of(tmp_path, PIXELS)))
    assert source.labels == ("cat", "big dog", "owl")
    assert source.labels_from == f"{tmp_path / 'config.json'}, 'id2label'"
    assert source.notes == ((f"The weights are those under {prefix!r}.",) if prefix else ())
    stated = source.preprocess
    assert isinstance(stated, Stated)
    assert stated.sure
    assert (stated.fields["resize"], stated.fields["mean"], stated.fields["std"]) == (
        "stretch",
        (0.1, 0.2, 0.3),
        (0.4, 0.5, 0.6),
    )
    x = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    assert source.reference is not None
    with torch.no_grad():
        want = net(torch.from_numpy(x)).logits.numpy()
    np.testing.assert_allclose(source.reference(x)["logits"], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("named", [None, "LevitForImageClassification"])
def test_a_network_of_several_classes(tmp_path: Path, named: str | None) -> None:
    """LeViT has a class with a teacher's head, too; a configuration that was saved alone names none."""
    import transformers

    sizes = {"hidden_sizes": [16, 16, 16], "num_attention_heads": [1, 1, 1], "depths": [1, 1, 1], "key_dim": [8, 8, 8],
             "image_size": 64, "num_labels": 3}  # fmt: skip
    config = transformers.LevitConfig(**sizes)
    net = transformers.LevitForImageClassification(config).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    config.architectures = None if named is None else [named]
    config.save_pretrained(tmp_path)
    source = load_source(Request(tmp_path / "net.safetensors", arch=f"hf:{tmp_path}", input_shape=(3, 64, 64)))
    x = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    assert source.reference is not None
    with torch.no_grad():
        want = net(torch.from_numpy(x)).logits.numpy()
    np.testing.assert_allclose(source.reference(x)["logits"], want, rtol=0, atol=1e-6)


PROCESSORS: dict[str, dict[str, Any]] = {
    "stretched": PIXELS,
    "size as a number": {"image_processor_type": "ViTImageProcessor", "size": 48, "resample": 3},
    "an old name": {"feature_extractor_type": "ViTFeatureExtractor", "size": 40},
    "shorter side and crop": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 64}, "crop_size": 56},
    "256 and 224": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "resample": 3,
                    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
    "crop_pct": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875},
    "warped": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
    "LeViT": {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}, "crop_size": 224},
    "from -1 to 1": {"image_processor_type": "EfficientNetImageProcessor", "size": 64, "rescale_factor": 1 / 127.5,
                     "rescale_offset": True, "do_normalize": False, "do_center_crop": False},
    "BGR": {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 72}, "crop_size": 64,
            "do_flip_channel_order": True},
    "resized as floats": {"image_processor_type": "DINOv3ViTImageProcessor", "size": {"height": 48, "width": 48}},
    "stretch and crop": {"image_processor_type": "DeiTImageProcessor", "size": 72, "crop_size": 64, "do_center_crop": True},
    "stretch of unequal sides": {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 82, "width": 96},
                                 "resample": 2, "crop_size": 70, "do_center_crop": True},
    "no rescale": {"image_processor_type": "ViTImageProcessor", "size": 32, "do_rescale": False, "do_normalize": False},
}  # fmt: skip


@pytest.mark.parametrize("how", PROCESSORS)
def test_preprocessing_is_transformers(tmp_path: Path, how: str) -> None:
    import transformers

    folder_of(tmp_path, PROCESSORS[how])
    stated = stated_by_processor(tmp_path, transformers)
    assert isinstance(stated, Stated), stated
    processor = transformers.AutoImageProcessor.from_pretrained(str(tmp_path), local_files_only=True)
    for size in ((311, 420), (384, 256), (256, 256)):
        image = np.array(smooth(*size))
        want = np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
        spec = spec_of(stated)
        ours = prepare(image, spec)
        assert ours.shape == want.shape
        steps = np.abs(ours - want) / (np.ptp(spec.preprocess.ends(), axis=0) / 255)[:, None, None]
        assert steps.max() <= (
            6 if spec.preprocess.interpolation == "bicubic" else 1.01
        )  # overshoots are clipped differently
        assert steps.mean() <= 0.3


@pytest.mark.parametrize(
    ("processor", "says"),
    [
        ({"image_processor_type": "ViTImageProcessor", "size": 32, "resample": 1}, "its steps are not those"),
        # a bound on the longer side, which only long images show
        ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 64, "longest_edge": 96}, "crop_size": 64},
         "its steps are not those"),
        ({"image_processor_type": "ViTImageProcessor", "do_resize": False}, "it gives images of different sizes"),
        ({"image_processor_type": "ViTImageProcessor", "size": 10**6}, "it states an absurd size"),
        ({"image_processor_type": "Nothing"}, "ValueError"),
        # 1,000 tiles of 560 x 560 pixels, 3.8 GB
        ({"image_processor_type": "MllamaImageProcessor", "size": {"height": 560, "width": 560}, "max_image_tiles": 1000},
         "allocate"),
        ([1], "TypeError|AttributeError"),
    ],
)  # fmt: skip
def test_preprocessing_that_is_not_used(tmp_path: Path, processor: Any, says: str) -> None:
    import transformers

    folder_of(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    line = stated_by_processor(tmp_path, transformers)
    assert isinstance(line, str)
    assert line.startswith(f"{tmp_path / 'preprocessor_config.json'} is not used (")
    assert line.endswith("give --preprocess, or --resize, --scale, --mean and --std.")

    assert re.search(says, line)


def wrapped(folder: Path, **changes: Any) -> tuple[Request, Any]:
    """A folder of a network of timm's as transformers writes it, and the network."""
    import transformers

    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "num_labels": 3,
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": TIMM,
    }
    torch.manual_seed(0)
    net = transformers.TimmWrapperForImageClassification(transformers.TimmWrapperConfig.from_dict(config)).eval()
    net.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    assert written["model_type"] == "timm_wrapper"
    (folder / "config.json").write_text(json.dumps(written | changes))
    return Request(folder / "model.safetensors", arch=f"hf:{folder}"), net


def test_a_network_of_timms_in_a_folder_of_transformers(tmp_path: Path) -> None:
    """Its scores, its classes' names, and its own preprocessing, which transformers takes from timm, on odd sizes."""
    import transformers

    request, net = wrapped(tmp_path)
    source = load_source(request)
    assert source.labels == ("a", "b", "c")
    stated = source.preprocess
    assert isinstance(stated, Stated)
    assert stated.sure
    x = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    assert source.reference is not None
    with torch.no_grad():
        want = net(torch.from_numpy(x)).logits.numpy()
    [got] = source.reference(x).values()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
    processor = transformers.TimmWrapperImageProcessor(net.config.pretrained_cfg)
    for size in ((311, 420), (201, 97)):
        image = smooth(*size)
        pixels = np.asarray(processor(image, return_tensors="pt")["pixel_values"])[0]
        ours = prepare(np.asarray(image), spec_of(stated))
        steps = np.abs(ours - pixels) * np.array([0.2, 0.3, 0.1])[:, None, None] * 255
        assert steps.max() <= 6  # overshoots are clipped differently
        assert steps.mean() <= 0.3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architecture": "hf-hub:timm/resnet18"}, "timm has no network 'hf-hub:timm/resnet18'"),
        ({"architecture": "local-dir:/tmp"}, "timm has no network 'local-dir:/tmp'"),
        ({"model_args": {"checkpoint_path": "x.pt"}}, "its 'model_args' are not taken from a file"),
        ({"model_args": {"pretrained": True}}, "its 'model_args' are not taken from a file"),
    ],
)
def test_what_such_a_folder_may_not_ask_for(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """transformers would hand it to timm as it is, which looks on a hub and reads folders and weights."""
    request, _ = wrapped(tmp_path, **changes)
    with pytest.raises(ArchitectureError, match=says):
        load_source(request)


def test_a_network_of_texts_and_images(tmp_path: Path) -> None:
    """ShieldGemma 2 judges an image by a text."""
    import transformers

    text = {"vocab_size": 262, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32,
              "patch_size": 8}  # fmt: skip
    config = transformers.ShieldGemma2Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    transformers.ShieldGemma2ForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(
        ArchitectureError, match=r"ShieldGemma2ForImageClassification takes 'input_ids', .* with --input NAME=FILE"
    ):
        load_source(Request(tmp_path / "model.safetensors", arch=f"hf:{tmp_path}"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "no such"}, r"config\.json: transformers has no network 'no such'$"),
        ({"model_type": ["vit"]}, r"config\.json: transformers has no network \['vit'\]$"),
        (
            {"model_type": "x", "auto_map": {"AutoConfig": "code.py"}},
            "it needs code of its own, which xai-export does not run",
        ),
        ({"model_type": "bert"}, "can't be built: ValueError: Unrecognized configuration class"),
        ({"hidden_size": 4_000_000}, "describes a network that is larger than the weights"),
        ({"num_hidden_layers": 100_000}, "describes a network that is larger than the weights"),
        ({"num_labels": 4_000_000}, r"'num_labels' is 4e\+06, which is no size of a network"),
        ({"depths": [100_000] * 10}, r"'depths' is 1e\+06, which is no size of a network"),
        ({"num_hidden_layers": 1 << 40}, r"'num_hidden_layers' is 1\.09951e\+12, which is no size of a network"),
        (
            {"patch_size": 4},
            r"the weights do not fit .*config\.json: vit\.embeddings\.\S+ is \[16, 3, 8, 8\] instead of",
        ),
        ({"num_hidden_layers": 2}, r"the weights do not fit .*: it lacks vit\.\S+, .* more"),
    ],
)
def test_folders_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    path, _ = weights_of(tmp_path)
    with pytest.raises(ArchitectureError, match=says):
        load_source(Request(path, arch=folder_of(tmp_path, **changes)))


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "can't be read .*takes a folder with config.json"), ("[1]", "is no JSON object"), ("{", "is not JSON"),
     ("[" * 200_000, "is not JSON"), ('"' + " " * 10_000_001 + '"', "larger than 10 MB; refused")],
)  # fmt: skip
def test_config_refused(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArchitectureError, match=rf"config\.json: {says}"):
        transformers_nets.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("size", ["a", [None], 10**6])
def test_arguments_of_timm_refused(size: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "model_args": {"img_size": size}}))
    with pytest.raises(
        ArchitectureError, match=r"its 'model_args' are not taken from a file; give --arch timm:resnet18"
    ):
        transformers_nets.timm_net(f"hf:{tmp_path}", tmp_path / "net.pt")


def test_options_are_in_the_folder(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(RequestError, match=r"--arch-options are not for hf:FOLDER; the options are in .*config\.json"):
        load_source(Request(tmp_path / "net.pt", arch=folder_of(tmp_path), arch_options={"num_labels": 3}))


def test_transformers_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ArchitectureError, match=r"needs transformers; pip install transformers"):
        load_source(Request(tmp_path / "net.pt", arch=folder_of(tmp_path)))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, ()),
        ({"id2label": {"0": "a", "2": "b"}}, ()),
        ({"id2label": {"0": 7}}, ()),
        ({"id2label": [1]}, ()),
        ({"label_names": ["a"]}, ("a",)),
        ({"label_names": 5}, ()),
        ({}, ()),
    ],
)
def test_class_names(config: dict[str, Any], names: tuple[str, ...]) -> None:
    assert transformers_nets.class_names(config) == names

"""State that a state dict does not hold: torchvision's enums say it for published files, the user for others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from PIL import Image
from xai_exporters import Request
from xai_exporters.arguments import make_parser
from xai_exporters.bundle.preprocess import describe_input
from xai_exporters.config import load_config
from xai_exporters.errors import ArchitectureError, RequestError
from xai_exporters.request import check
from xai_exporters.sources import architecture, load_source, published, torchvision_nets
from xai_exporters.sources.configured import image_size, stated_by_module
from xai_exporters.sources.stated import Stated, note

from xai_deploy.format.bundle import Input
from xai_deploy.preprocess import prepare

from .. import nets

MODELS: Any = torchvision.models
NAMES = MODELS.list_models(module=MODELS)


def described(stated: Stated | str | None, size: int | None = None, **options: Any) -> Input:
    side = size or (stated.size[0] if isinstance(stated, Stated) and stated.size else 224)
    return describe_input(Request(Path("x"), **options), "image", "float32", (3, side, side), "NCHW", stated)


def enum_member(name: str, member: str) -> Any:
    return MODELS.get_model_weights(name)[member]


@pytest.fixture
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (43, 60, 3), dtype=np.uint8))
    return noise.resize((700, 500), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", NAMES)
def test_each_published_file_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    for weights in MODELS.get_model_weights(name):
        path = tmp_path / Path(weights.url).name
        path.touch()
        net = torchvision_nets.find_net(path)
        assert (net.name, net.published) == (name, weights)
        stated = net.stated({})
        assert stated is not None
        assert stated.sure
        how = weights.transforms()
        spec = described(stated)
        assert (spec.height, spec.preprocess.resize) == (how.crop_size[0], how.resize_size[0])
        assert not spec.preprocess.assumed


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("efficientnet_b1", "IMAGENET1K_V1"),
        ("efficientnet_b1", "IMAGENET1K_V2"),
        ("efficientnet_v2_l", "IMAGENET1K_V1"),
        ("swin_v2_t", "IMAGENET1K_V1"),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
        ("maxvit_t", "IMAGENET1K_V1"),
        ("inception_v3", "IMAGENET1K_V1"),
    ],
)
def test_images_are_preprocessed_as_torchvision_does(photo: Image.Image, name: str, member: str) -> None:
    weights = enum_member(name, member)
    spec = described(published.stated_by_torchvision(MODELS, name, weights, ""))
    ours = prepare(np.asarray(photo), spec)
    theirs = weights.transforms()(photo).numpy()
    step = 1 / 255 / min(spec.preprocess.std)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1.5 * step  # a grey level, where PIL and we round apart


def test_a_renamed_file_is_known_by_its_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    member = SimpleNamespace(url=f"https://x/resnet18-{digest[:8]}.pth")
    models = SimpleNamespace(list_models=lambda module: ["resnet18"], get_model_weights=lambda name: [member])
    assert published.find_published(models, tmp_path / "net.pth") == ("resnet18", member)
    (tmp_path / "net.pth").write_bytes(b"others")
    assert published.find_published(models, tmp_path / "net.pth") is None


@pytest.mark.parametrize("stem", ["resnet50-0676ba61 (1)", "ResNet50-0676BA61", "resnet50-0676ba61.pth"])
def test_names_that_downloads_get(tmp_path: Path, stem: str) -> None:
    (tmp_path / f"{stem}.pth").touch()
    assert torchvision_nets.find_net(tmp_path / f"{stem}.pth").published is not None


def saved(folder: Path, name: str) -> tuple[Any, Path]:
    """A network that transforms its input, and its weights under the published name."""
    torch.manual_seed(0)
    net = MODELS.get_model(name, weights=None, init_weights=False, transform_input=True).eval()
    [weights] = MODELS.get_model_weights(name)
    path = folder / Path(weights.url).name
    torch.save(net.state_dict(), path)
    return net, path


def test_published_weights_transform_their_input(tmp_path: Path) -> None:
    net, path = saved(tmp_path, "googlenet")
    source = load_source(Request(path, input_shape=(3, 64, 64)))
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 4 - 2
    session = onnxruntime.InferenceSession(source.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"image": x.numpy()})
    with torch.no_grad():
        true = net(x).numpy()
        net.transform_input = False
        wrong = net(x).numpy()
    assert np.abs(wrong - true).max() > 1e-4 * np.abs(true).max()
    assert np.abs(logits - true).max() < 1e-5 * np.abs(true).max()
    assert source.notes == (
        "The file is taken for torchvision's published GoogLeNet_Weights.IMAGENET1K_V1.",
        "Built with transform_input=True.",
    )


def test_inception_s_published_weights_transform_their_input(tmp_path: Path) -> None:
    true, path = saved(tmp_path, "inception_v3")
    net = torchvision_nets.find_net(path)
    module, used = architecture._load(net.build, torch.load(path), net.name, path, {}, net)
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 4 - 2
    with torch.no_grad():
        assert torch.equal(module.eval()(x), true(x))
        module.transform_input = False
        assert not torch.equal(module(x), true(x))
    assert net.is_published(used)


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_others_have_to_say_it(tmp_path: Path, name: str) -> None:
    weights = MODELS.get_model(name, weights=None, init_weights=False, aux_logits=False, num_classes=7).state_dict()
    path = tmp_path / Path(next(iter(MODELS.get_model_weights(name))).url).name  # but of 7 classes
    path.touch()
    net = torchvision_nets.find_net(path)
    says = rf"weights do not tell whether this {name} transforms its input .*--arch-options transform_input=true or "
    with pytest.raises(ArchitectureError, match=says):
        architecture._load(net.build, weights, name, path, {}, net)
    for said in (True, False):
        module, used = architecture._load(net.build, weights, name, path, {"transform_input": said}, net)
        assert module.transform_input is said
        assert (used["num_classes"], used["aux_logits"]) == (7, False)
        assert not net.is_published(used)
        assert f"transform_input={said}" in net.notes(used)[-1]


@pytest.mark.parametrize(
    "arch", ["inception_v3", "torchvision.models:inception_v3", "torchvision.models.inception:inception_v3"]
)
def test_each_way_to_name_it_asks(tmp_path: Path, arch: str) -> None:
    torch.save(MODELS.inception_v3(weights=None, init_weights=False).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(ArchitectureError, match=r"mine\.pth: the weights do not tell"):
        load_source(Request(tmp_path / "mine.pth", arch=arch))


@pytest.mark.parametrize(
    ("name", "stem", "size", "resize", "sure", "asks"),
    [
        ("resnet50", "mine", 224, 256, False, "as for IMAGENET1K_V1, --input-shape 3,224,224 --resize 232"),
        ("resnet50", "resnet50_imagenet1k-v2", 224, 232, True, ""),
        ("efficientnet_b3", "mine", 300, 320, False, ""),
        ("regnet_y_16gf", "mine", 224, 256, False, "3,384,384 --resize 384 --interpolation bicubic as for IMAGENET1K_SWAG_E2E"),
        ("vgg16", "mine", 224, 256, False, ""),
    ],
)  # fmt: skip
def test_users_own_weights_are_assumed(
    tmp_path: Path, name: str, stem: str, size: int, resize: int, sure: bool, asks: str
) -> None:
    (tmp_path / f"{stem}.pt").touch()
    stated = torchvision_nets.find_net(tmp_path / f"{stem}.pt", name).stated({})
    assert stated is not None
    assert (stated.size, stated.fields["resize"], stated.sure) == ((size, size), resize, sure)
    assert asks in stated.ask
    assert bool(asks) == bool(stated.ask)
    assert described(stated).preprocess.assumed == (not sure)


@pytest.mark.parametrize(("side", "tokens", "size"), [(24, 577, 384), (14, 197, 224), (5, 26, 80)])
def test_a_vit_s_image_size_is_told_by_its_tokens(tmp_path: Path, side: int, tokens: int, size: int) -> None:
    net = torchvision_nets.TorchvisionNet(MODELS, "vit_b_16", tmp_path / "mine.pt", None)
    weights = {"encoder.pos_embedding": torch.zeros(1, tokens, 8), "conv_proj.weight": torch.zeros(8, 3, 16, 16)}
    assert net.options(weights, None) == {"image_size": size}
    stated = net.stated({"image_size": size})
    assert (stated.size[0] if stated and stated.size else None) == (size if size != 80 else None)


def test_maxvit_lays_its_windows_out_for_the_input(tmp_path: Path) -> None:
    net = torchvision_nets.TorchvisionNet(MODELS, "maxvit_t", tmp_path / "mine.pt", None)
    assert net.options({}, (3, 448, 448)) == {"input_size": (448, 448)}
    assert net.options({}, None) == {}


def test_old_names_go_through_the_modules_own_hooks() -> None:
    """torchvision's published ViTs hold `mlp.linear_1` for `mlp.0`, mnasnet wants a version."""
    vit = {"image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    torch.manual_seed(0)
    true, other = MODELS.VisionTransformer(**vit), MODELS.VisionTransformer(**vit)
    old = {k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for k, v in true.state_dict().items()}
    assert old.keys() != true.state_dict().keys()
    assert architecture._fill(other, old) == []
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in true.state_dict().items())
    mnasnet = MODELS.mnasnet0_5(weights=None)
    assert architecture._fill(mnasnet, dict(mnasnet.state_dict())) == []
    assert "it has head.weight that the network lacks" in architecture._fill(
        other, {**old, "head.weight": torch.zeros(1)}
    )


def timm_like(cfg: Any, **attributes: Any) -> torch.nn.Module:
    net = nets.randomise(nets.Plain())
    for key, value in {"pretrained_cfg": cfg, **attributes}.items():
        setattr(net, key, value)
    return net


CFG = {
    "architecture": "vit", "tag": "a_in1k", "input_size": (3, 32, 32), "crop_pct": 0.9, "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
}  # fmt: skip


def test_timms_configuration() -> None:
    stated = stated_by_module(timm_like(CFG))
    assert stated is not None
    how = described(stated).preprocess
    assert (stated.size, how.resize, how.interpolation, how.mean, how.std, how.assumed) == (
        (32, 32), 35, "bicubic", (0.5,) * 3, (0.25,) * 3, True)  # fmt: skip
    assert "vit.a_in1k" in str(note(stated, None, {}, described(stated)))
    assert stated_by_module(timm_like(SimpleNamespace(**CFG))) == stated
    larger = stated_by_module(timm_like(CFG, patch_embed=SimpleNamespace(img_size=(48, 48))))
    assert larger is not None
    assert (larger.size, larger.fields["resize"]) == ((48, 48), 53)
    odd = stated_by_module(timm_like({**CFG, "interpolation": "random", "crop_mode": "squash"}))
    assert odd is not None
    assert odd.fields["resize"] == (35, 35)
    assert odd.ask == "its interpolation 'random' is taken as bilinear"


@pytest.mark.parametrize(
    "cfg", [None, "x", 3, {}, {**CFG, "input_size": None}, {**CFG, "mean": "abc"}, {**CFG, "crop_pct": 7}]
)
def test_attributes_that_are_no_configuration(cfg: Any) -> None:
    assert stated_by_module(timm_like(cfg)) is None


def test_transformers_image_size() -> None:
    for given, size in ((384, (384, 384)), ([32, 48], (32, 48)), ("x", None), (None, None)):
        assert image_size(SimpleNamespace(config=SimpleNamespace(image_size=given))) == size


def test_the_input_takes_the_configurations_size(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"""
from {nets.__name__} import Plain
def build():
    net = Plain()
    net.pretrained_cfg = {CFG!r}
    return net
""")
    torch.save(nets.randomise(nets.Plain()).state_dict(), tmp_path / "net.pt")
    source = load_source(Request(tmp_path / "net.pt", arch=f"{tmp_path / 'mine.py'}:build"))
    dims = source.proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims[1:]] == [3, 32, 32]
    assert isinstance(source.preprocess, Stated)


def test_the_users_options_win() -> None:
    stated = published.stated_by_torchvision(
        MODELS, "efficientnet_b1", enum_member("efficientnet_b1", "IMAGENET1K_V2"), ""
    )
    assert described(stated, preprocess="tf").preprocess.mean == (1.0, 1.0, 1.0)
    how = described(stated, preprocess_fields={"resize": 250}).preprocess
    assert (how.resize, how.interpolation, how.assumed) == (250, "bilinear", False)
    larger = described(stated, size=480).preprocess
    assert (larger.resize, larger.assumed) == (510, True)  # 255 / 240 of it
    assert note(stated, "tf", {}, described(stated, size=240)) is None
    assert str(note(stated, None, {"resize": 250}, described(stated, size=240))).endswith(
        "IMAGENET1K_V2 but for resize."
    )
    assert "takes 240 x 240, scaled to this input" in str(note(stated, None, {}, described(stated, size=480)))


def test_arch_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["x", "--arch-options", "transform_input=true,input_size=(3, 4),name=a b,depth=2,off=False,none=None"]
    assert make_parser().parse_args(given).arch_options == {
        "transform_input": True, "input_size": (3, 4), "name": "a b", "depth": 2, "off": False, "none": None,
    }  # fmt: skip
    for wrong in ("a", "a=1,a=2", "=1", "1a=2"):
        with pytest.raises(SystemExit):
            make_parser().parse_args(["x", "--arch-options", wrong])
        assert "is not KEY=VALUE" in capsys.readouterr().err
    (tmp_path / "c.toml").write_text("[arch-options]\ntransform_input = true\n")
    assert load_config(tmp_path / "c.toml") == {"arch_options": {"transform_input": True}}
    (tmp_path / "c.toml").write_text("arch-options = 'a=1'\n")
    with pytest.raises(RequestError, match="arch-options is a table of names and values"):
        load_config(tmp_path / "c.toml")
    with pytest.raises(RequestError, match="--arch-options takes names and values"):
        check(Request(tmp_path, arch_options={"a b": 1}))
    torch.save(nets.randomise(nets.Plain(7)).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ArchitectureError, match=r"Plain\(nothing=3\) can't be built: TypeError"):
        load_source(Request(tmp_path / "net.pt", arch=nets.arch(nets.Plain), arch_options={"nothing": 3}))

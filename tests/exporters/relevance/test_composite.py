"""Composites as TOML: what holds where, every refusal, and the roles that `--composite` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from xai_exporters.cli import main
from xai_exporters.errors import RequestError, RuleError
from xai_exporters.relevance.composite import Composite, composites, load_composite, parse_composite
from xai_exporters.relevance.graph import relevance_graph
from xai_exporters.relevance.layer_rules import AlphaBeta, Epsilon, Flat, Gamma, GeneralizedGamma, WSquare, ZBox, ZPlus
from xai_exporters.relevance.node_names import modules, note_names

from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..running import export_torch


def layers(names: str = "/stem/Conv /layer1/layer1.0/conv1/Conv /fc/Gemm") -> list[ir.Node]:
    graph = ir.from_proto(o.residual()).graph
    return [next(n for n in graph if n.name == name) for name in names.split()]


def rule_of(composite: Composite, node: ir.Node, is_first: bool) -> object:
    """The rule of a node, to be compared with another."""
    return composite.rule_of(node, is_first)


def test_built_in() -> None:
    assert composites() == [
        "epsilon-alpha2-beta1", "epsilon-gamma-box", "epsilon-plus", "relevance-cam", "split-residuals"
    ]  # fmt: skip
    stem, inner, fc = layers()
    expected = {
        "relevance-cam": (ZBox("sample", "sample"), ZPlus(), ZPlus()),
        "split-residuals": (ZBox("sample", "sample"), ZPlus(), ZPlus()),
        "epsilon-plus": (ZPlus(1e-6, "include"), ZPlus(1e-6, "include"), Epsilon(1e-6, "include")),
        "epsilon-gamma-box": (
            ZBox("input", "input", 1e-6), GeneralizedGamma(0.25, 1e-6, "include"), Epsilon(1e-6, "include")
        ),
        "epsilon-alpha2-beta1": (
            AlphaBeta(2.0, 1.0, 1e-6, "include"), AlphaBeta(2.0, 1.0, 1e-6, "include"), Epsilon(1e-6, "include")
        ),
    }  # fmt: skip
    for name, rules in expected.items():
        composite = load_composite(name)
        assert composite.name == name
        assert (
            rule_of(composite, stem, True),
            rule_of(composite, inner, False),
            rule_of(composite, fc, False),
        ) == rules
        assert rule_of(composite, stem, False) == rules[1]


TEXT = """
base = "epsilon-gamma-box"
[ops]
Gemm = {rule = "w-square", bias = "include"}
[nodes]
"layer1" = "flat"
"layer1.0.conv2" = {rule = "gamma", gamma = 1}
"/fc/Gemm" = "epsilon"
"""


def test_nodes_before_first_before_operators_before_the_base() -> None:
    stem, inner, second, last, fc = layers(
        "/stem/Conv /layer1/layer1.0/conv1/Conv /layer1/layer1.0/conv2/Conv /layer2/conv/Conv /fc/Gemm"
    )
    composite = parse_composite(TEXT, "mine")
    assert rule_of(composite, stem, True) == ZBox("input", "input", 1e-6)  # the base's [first]
    assert rule_of(composite, last, False) == GeneralizedGamma(0.25, 1e-6, "include")  # the base's [ops]
    assert rule_of(composite, inner, False) == Flat()
    assert rule_of(composite, second, False) == Gamma(1.0)  # the longer name
    assert rule_of(composite, fc, False) == Epsilon()
    named = parse_composite(TEXT + '"/stem/Conv" = "w-square"', "mine")
    assert rule_of(named, stem, True) == WSquare()  # [nodes] over [first]
    without = parse_composite(TEXT.replace('"/fc/Gemm" = "epsilon"', ""), "mine")
    assert rule_of(without, fc, False) == WSquare(0.0, "include")  # [ops] over the base's
    own = parse_composite('base = "epsilon-gamma-box"\n[ops]\nConv = "zero"\n[first]\nGemm = "flat"', "mine")
    assert rule_of(own, stem, True) == rule_of(own, stem, False)  # own [ops] over the base's [first]
    assert rule_of(own, fc, True) == Flat()
    assert rule_of(own, fc, False) == Epsilon(1e-6, "include")


def test_the_base_is_relevance_cam_unless_it_says_none() -> None:
    stem, inner, fc = layers()
    assert rule_of(parse_composite("", "mine"), stem, True) == ZBox("sample", "sample")
    assert rule_of(parse_composite("", "mine"), fc, False) == ZPlus()
    assert rule_of(parse_composite('base = "none"', "mine"), inner, False) is None


def test_names_of_tensors_and_nodes() -> None:
    stem, inner, _ = layers()
    by_tensor = parse_composite(f'[nodes]\n"{inner.outputs[0].name}" = "flat"', "mine")
    assert rule_of(by_tensor, inner, False) == Flat()
    assert rule_of(by_tensor, stem, False) == ZPlus()


BAD = {
    "[ops": "mine: not valid TOML (",
    "other = 1": "mine: unknown key 'other'; a composite has base, [ops], [first] and [nodes]",
    "[layers]": "mine: unknown key 'layers'",
    "ops = 1": "mine: ops is a table, not 1",
    "[base]": "mine: base is a name, not {}",
    "base = 1": "mine: no base 1; there are none, epsilon-alpha2-beta1",
    'base = "lrp"': "mine: no base 'lrp'; there are none, epsilon-alpha2-beta1",
    '[ops]\nConv = "zeros"': "mine: [ops] Conv: no rule 'zeros'; there are alpha-beta, epsilon, flat,",
    "[ops]\nConv = 1": """mine: [ops] Conv: a rule is "NAME" or {rule = "NAME", ...}, not 1""",
    "[ops]\nConv = {gamma = 1}": "mine: [ops] Conv: a rule is",
    "[ops]\nConv = {rule = 1}": "mine: [ops] Conv: a rule is",
    '[ops]\nConvolution = "zero"': "mine: [ops] Convolution: no operator that relevance passes",
    '[ops]\nconv = "zero"': "(did you mean 'Conv'?)",
    '[ops]\nConv = {rule = "zero", eps = 1}': "mine: [ops] Conv: zero has no parameter 'eps'; it has epsilon, bias",
    '[ops]\nConv = {rule = "pass", epsilon = 1}': "mine: [ops] Conv: pass has no parameter 'epsilon'; it has none",
    '[ops]\nConv = {rule = "zero", epsilon = "small"}': "mine: [ops] Conv: zero: epsilon is a number, not 'small'",
    '[ops]\nConv = {rule = "zero", epsilon = true}': "mine: [ops] Conv: zero: epsilon is a number, not True",
    '[ops]\nConv = {rule = "zero", epsilon = -1e-3}': "zero: epsilon is a number from 0 on, not -0.001",
    '[ops]\nConv = {rule = "epsilon", epsilon = nan}': "epsilon is a number from 0 on, not nan",
    '[ops]\nConv = {rule = "flat", epsilon = inf}': "epsilon is a number from 0 on, not inf",
    '[ops]\nConv = {rule = "w-square", epsilon = -1}': "epsilon is a number from 0 on, not -1",
    '[ops]\nConv = {rule = "z-plus", epsilon = -1}': "epsilon is a number from 0 on, not -1",
    '[ops]\nConv = {rule = "gamma", epsilon = -1}': "epsilon is a number from 0 on, not -1",
    '[ops]\nConv = {rule = "gamma", gamma = -1}': "gamma: gamma is a positive number, not -1",
    '[ops]\nConv = {rule = "gamma", gamma = 0}': "gamma: gamma is a positive number, not 0",
    '[ops]\nConv = {rule = "generalized-gamma", gamma = inf}': "gamma is a positive number, not inf",
    '[ops]\nConv = {rule = "zero", bias = "both"}': "zero: bias is 'ignore' or 'include', not 'both'",
    '[ops]\nConv = {rule = "epsilon", bias = "authors"}': "epsilon: bias is 'ignore' or 'include', not 'authors'",
    '[ops]\nConv = {rule = "alpha-beta", alpha = 2, beta = 2}': "alpha - beta has to be 1, beta not negative; not 2 and 2",
    '[ops]\nConv = {rule = "alpha-beta", alpha = 3}': "alpha - beta has to be 1",
    '[ops]\nConv = {rule = "alpha-beta", alpha = 0, beta = -1}': "alpha - beta has to be 1",
    '[ops]\nConv = {rule = "alpha-beta", alpha = nan}': "alpha - beta has to be 1",
    '[first]\nConv = {rule = "z-box", low = 0}': "mine: [first] Conv: z-box needs its parameter 'high'",
    '[first]\nConv = "z-box"': "z-box needs its parameter 'low'",
    '[first]\nConv = {rule = "z-box", low = [], high = 1}': "low is 'sample' or 'input' or a number or a list of numbers, not []",
    '[first]\nConv = {rule = "z-box", low = ["a"], high = 1}': "or a list of numbers, not ['a']",
    '[first]\nConv = {rule = "z-box", low = 0, high = "image"}': "z-box: high is 'sample' or 'input'",
    '[ops]\nGemm = {rule = "z-box", low = "input", high = 1}': """[ops] Gemm: the bounds "input" are the image's; they""",
    '[nodes]\n"a" = {rule = "z-box", low = 0, high = "input"}': """mine: [nodes] a: the bounds "input" are""",
    '[first]\nRelu = "pass"': "Relu: first layers are those with weights (Conv, ConvTranspose, Gemm,",
    '[first]\nConv = {rule = "z-box", low = nan, high = 1}': "z-box: ",
    '[first]\nConv = {rule = "z-box", low = -inf, high = 1}': "z-box: ",
    '[first]\nConv = {rule = "z-box", low = 1, high = 0}': "z-box: ",
    '[first]\nConv = {rule = "z-box", low = [0, 2], high = [1, 1]}': "z-box: ",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_refusals(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_composite(text, "mine", "mine")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value).partition(" (at line")[0]


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.toml").write_bytes(b"# \xff\n")
    Path("folder.toml").mkdir()
    Path("epsilon-plus.toml").write_text("")
    Path("My Rules.toml").write_text("")
    for given, words in {
        "nothing.toml": "nothing.toml: can't be read (No such file or directory)",
        "latin.toml": "latin.toml: can't be read (",
        "folder.toml": "folder.toml: can't be read (Is a directory)",
        "epsilon-plus.toml": "'epsilon-plus' is a composite that comes with xai-export; rename the file",
        "My Rules.toml": "a composite's file is named in small letters, digits and -",
        "epsilon-pls": "no composite 'epsilon-pls' (did you mean 'epsilon-plus'?); there are epsilon-alpha2-beta1,",
        "rules.txt": "no composite 'rules.txt'",
    }.items():
        with pytest.raises(RequestError) as caught:
            load_composite(given)
        assert words in str(caught.value)


def test_a_file_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a session that goes on while the file is edited, and in another folder."""
    monkeypatch.chdir(tmp_path)
    _, inner, _ = layers()
    Path("mine.toml").write_text('[ops]\nConv = "flat"')
    assert rule_of(load_composite("mine.toml"), inner, False) == Flat()
    Path("mine.toml").write_text('[ops]\nConv = "w-square"')
    assert rule_of(load_composite("mine.toml"), inner, False) == WSquare()


def test_a_name_that_fits_nothing() -> None:
    graph = ir.from_proto(o.residual()).graph
    composite = parse_composite('[nodes]\n"layer1.0.conv" = "flat"', "mine")
    with pytest.raises(
        RequestError, match=r"\[nodes\] 'layer1.0.conv' fits nothing in this network; the nearest are 'layer1.0"
    ):
        composite.check_names(graph)
    parse_composite('[nodes]\n"layer1.0.conv1" = "flat"', "mine").check_names(graph)


def test_a_convolution_that_torch_merged_with_its_batchnorm(tmp_path: Path) -> None:
    """It lies in the BatchNorm's module, and answers to its own as well."""
    given = {"conv": '[nodes]\n"layer2.0.conv2" = "flat"', "norm": '[nodes]\n"layer2.0.bn2" = "flat"', "none": ""}
    for name, text in given.items():
        (tmp_path / f"{name}.toml").write_text(text)
    composites = tuple(str(tmp_path / f"{name}.toml") for name in given)
    bundle = Bundle.open(export_torch(tmp_path, nets.Residual(), split="layer1", composite=composites).path)
    conv, norm, none = (bundle.graph(f"relevance-{name}") for name in given)
    assert conv == norm != none


def test_a_weight_that_two_modules_share_names_neither() -> None:
    """torch's exporter keeps one of two weights that are equal."""
    weight = ir.Value(name="a.weight")
    a, b = (ir.node("Conv", [ir.Value(name="x"), weight], name=f"/{name}/Conv") for name in "ab")
    note_names([a, b])
    assert (modules(a), modules(b)) == (["a"], ["b"])
    merged = ir.node("Conv", [ir.Value(name="x"), weight], name="/norm/Conv")
    note_names([merged])
    assert modules(merged) == ["norm", "a"]


@pytest.mark.parametrize(
    ("text", "words"),
    {
        '[ops]\nRelu = "zero"': "Relu (node '/layer2/relu/Relu') can't be propagated through: a layer's rule was given to it",
        '[ops]\nConv = "winner-takes-all"': "the rule 'winner-takes-all' is for maxima",
        '[ops]\nConv = "proportional"': "the rule 'proportional' is for poolings",
        '[ops]\nConv = "pass"': "relevance can't pass it as it is, for it changes the shape",
        '[ops]\nGlobalAveragePool = {rule = "z-box", low = 0, high = 1}': "the rule 'z-box' is for layers with weights",
        'base = "none"\n[ops]\nConv = {rule = "z-box", low = [0, 0], high = 1}':
            "the rule 'z-box' has bounds for 2 channels, its input has 4",
        '[first]\nConv = {rule = "z-box", low = "input", high = "input"}': 'give low and high as numbers instead of "input"',
    }.items(),
)  # fmt: skip
def test_rules_that_do_not_fit(text: str, words: str) -> None:
    model = ir.from_proto(o.residual())
    model.graph.outputs[0].name = "logits"
    with pytest.raises(RuleError) as caught:
        relevance_graph(model.graph, 5, parse_composite(text, "mine"), from_image=True)
    assert words in str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.residual(), tmp_path / "residual.onnx")
    return tmp_path


def run(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


def test_roles(here: Path) -> None:
    (here / "mine.toml").write_text('[nodes]\n"layer2" = "flat"')
    options = "--split layer1 --composite epsilon-plus --composite mine.toml --pixel-relevance -q --preprocess none"
    assert run("residual.onnx", *options.split()) == 0
    manifest = Bundle.open("residual.xai").manifest
    roles = ["relevance", "relevance-epsilon-plus", "relevance-mine"]
    assert [r for r in manifest.graphs if "relevance" in r and "pixel" not in r] == roles
    assert {r for r in manifest.graphs if r.startswith("pixel-rel")} == {f"pixel-{role}" for role in roles}
    assert [manifest.graphs[r].start for r in ("relevance-mine", "pixel-relevance")] == ["activation", "image"]
    kinds = {}
    for role in roles:  # they are different graphs
        session = onnxruntime.InferenceSession(f"residual.xai/{role}.onnx", providers=["CPUExecutionProvider"])
        shapes = {i.name: [d if isinstance(d, int) else 2 for d in i.shape] for i in session.get_inputs()}
        rng = np.random.default_rng(0)
        feeds = {
            k: np.array([0, 1]) if k == "target" else np.zeros(s, np.float32) if k == "seed"
            else rng.random(s).astype(np.float32)
            for k, s in shapes.items()
        }  # fmt: skip
        kinds[role] = session.run(["relevance"], feeds)[0]
        assert kinds[role].shape == (2, 4, 8, 10)
    assert not np.allclose(kinds["relevance"], kinds["relevance-mine"])
    assert not np.allclose(kinds["relevance"], kinds["relevance-epsilon-plus"])


@pytest.mark.parametrize(
    ("options", "words"),
    {
        "--composite nothing": "no composite 'nothing'",
        "--composite mine.toml": "mine.toml: [ops] Conv: no rule 'none'",
        "--composite mine.toml --roles tail": "mine.toml: [ops] Conv: no rule 'none'",
        "--composite sub/a.toml --composite a.toml": "there are two composites called 'a'",
        "--composite b.toml": "[nodes] 'layer9' fits nothing in this network; the nearest are",
        "--roles relevance-epsilon-plus": "no role 'relevance-epsilon-plus'",
        "--keep-batchnorm": "--keep-batchnorm: residual.onnx holds no BatchNormalization",
    }.items(),
)  # fmt: skip
def test_refusals_at_the_command_line(here: Path, options: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.toml").write_text('[ops]\nConv = "none"')
    (here / "sub").mkdir()
    for name in ("a.toml", "sub/a.toml"):
        (here / name).write_text("")
    (here / "b.toml").write_text('[nodes]\nlayer9 = "flat"')
    assert run("residual.onnx", "--preprocess", "none", *options.split()) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not list(here.glob("*.xai"))

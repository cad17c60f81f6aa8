"""`--method all|fast` and `--list-methods`: what a bundle's graphs allow, and what each method costs."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xai_deploy import Bundle, Explainer, method_names
from xai_deploy.cli import bench, check, console, evaluate, explain, serve
from xai_deploy.cli.arguments import MethodRequest, expand_sets, parse_methods, with_segments
from xai_deploy.errors import OptionError, UnknownMethodError
from xai_deploy.methods import applicable, create, left_out

from ...few import few
from .. import tiny
from ..conftest import Bundles
from .test_cli import report

MADE = {name: create(name, {}) for name in method_names() if name != "class-map"}  # it is of detectors alone
HIDING = ("kernel-shap", "lime", "partition-shap")
GRAPHS = {"pixelwise-tail", "gradient", "input-gradient", "guided-gradient"}  # of the bundle
FAST, SLOW = (
    [name for name, method in MADE.items() if method.slow == slow and set(method.roles) <= GRAPHS]
    for slow in (False, True)
)


def names(requests: Sequence[MethodRequest]) -> list[str]:
    return [request.name for request in requests]


def test_sets(bundles: Bundles, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xai_deploy.methods.sets")
    manifest = Bundle.open(bundles("pooled", gradients=True).path).manifest
    assert {"cam", "grad-cam", "reciprocam"} < set(FAST)
    assert {"integrated-gradients", "rise", "score-cam"} < set(SLOW)
    assert names(expand_sets(parse_methods(["fast"]), [manifest])) == FAST
    short, fast = [record.getMessage() for record in caplog.records]
    assert caplog.records[0].levelno == logging.WARNING
    assert short == f"fast methods: {len(FAST)} of {len(method_names())}; -v says which are left out, and why"
    assert fast.startswith(f"fast methods: left out are {', '.join(SLOW)} (slow: tens of inferences or more)")
    assert "; clrp, lrp, sglrp (no 'pixel-relevance' graph: export the network again with" in fast
    assert "relevance-cam (no 'relevance' graph" in fast
    caplog.clear()
    assert names(expand_sets(parse_methods(["all"]), [manifest])) == sorted([*FAST, *SLOW])
    assert "slow" not in caplog.text
    caplog.clear()
    mixed = expand_sets(parse_methods(["rise:masks=9,fast", "cam", "cam:relu=false"]), [manifest])
    assert [request.title for request in mixed] == ["rise+masks=9", *FAST, "cam+relu=false"]
    assert names(expand_sets(parse_methods(["cam"]), [manifest])) == ["cam"]
    assert len(caplog.records) == 2  # of "fast"; a method that is named is nobody's business
    with pytest.raises(OptionError, match="all: is a set of methods and takes no options; name the method"):
        expand_sets(parse_methods(["all:score=softmax"]), [manifest])
    with pytest.raises(OptionError, match="fast: is a set of methods and takes no options; name the method"):
        expand_sets(parse_methods(["fast:segments=grid:2"]), [manifest])
    given = expand_sets(with_segments(parse_methods(["all", "lime:segments=grid:3", "rise"]), "grid:2"), [manifest])
    segments = [(one.name, one.options["segments"]) for one in given if "segments" in one.options]
    assert segments == [*((name, "grid:2") for name in HIDING), ("lime", "grid:3")]
    assert [one.title for one in given if one.name == "rise"] == ["rise"]


def test_what_a_network_does_not_allow(bundles: Bundles) -> None:
    """A set holds no method that would be refused later: probabilities, several classes, inputs between two images."""
    manifest = Bundle.open(bundles("uint8", gradients=True).path).manifest
    relevance = {"clrp", "lrp", "relevance-cam", "sglrp"}
    assert set(left_out([manifest], "all")) - relevance == {
        *("full-grad", "integrated-gradients", "own-map", "smooth-grad-cam++", "smoothgrad", "ss-cam", "class-map"),
        *("extremal-perturbation", "meaningful-perturbation"),
    }
    assert "takes uint8 images" in left_out([manifest], "all")["smoothgrad"]
    scores = replace(manifest, activation="scores")
    assert "score-cam" not in applicable([scores], "all")
    assert left_out([scores], "all")["rise"].endswith("give score='logit'")
    one = left_out(
        [replace(manifest, classes=1, graphs={**manifest.graphs, "pixel-relevance": manifest.graphs["tail"]})], "fast"
    )
    assert one["sglrp"] == "it compares classes, and the network has one"
    for kind in ("pooled", "residual", "nhwc", "uint8"):
        explainer = Explainer(bundles(kind, gradients=True).path, "onnxruntime")
        quick = [(n, few(n)) for n in explainer.methods()]
        assert len(explainer.explain_many(tiny.inputs(kind, 1), quick)) == len(quick)


def test_sets_in_python(explainer: Explainer) -> None:
    assert explainer.methods() == explainer.methods("all")
    bare = {"pixelwise-tail"}
    assert explainer.methods() == [name for name in MADE if set(MADE[name].roles) <= bare]
    assert explainer.methods("fast") == [name for name in FAST if set(MADE[name].roles) <= bare]
    assert "cam" in explainer.methods("fast")
    with pytest.raises(UnknownMethodError, match=r"'fast' is a set of methods; Explainer\.methods\('fast'\) gives it"):
        explainer.explain(tiny.inputs("pooled", 1), "fast")
    with pytest.raises(OptionError, match="which is 'all' or 'fast', not 'slow'"):
        explainer.methods("slow")  # type: ignore[arg-type]


def test_the_command(work: Path, bundles: Bundles, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(bundles("pooled", gradients=True).path, "whole.xai")
    assert explain.main(["whole.xai", "photos/cat.png", "-m", "fast"]) == 0
    assert [entry["method"] for entry in report()["images"][0]["explanations"]] == FAST
    errors = capsys.readouterr().err.splitlines()
    line = f"fast methods: {len(FAST)} of {len(method_names())}; -v says which are left out, and why"
    assert [error for error in errors if "methods" in error] == [f"xai-explain: warning: {line}"]


def test_a_server_that_is_given_no_methods_says_nothing_of_them(
    bundles: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    """The set is not the caller's: the first start prints where the server listens, and nothing else."""
    explainer = Explainer(bundles("pooled", gradients=True).path, "onnxruntime")
    assert list(serve.served(explainer, parse_methods(["fast"]), said=False)) == FAST
    assert not caplog.records
    assert list(serve.served(explainer, parse_methods(["fast"]))) == FAST
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_warning_is_printed_once_and_not_kept_for_ever() -> None:
    """A server runs for months; what it remembers of its lines is bounded, and errors come each time."""
    new = console._NewWarnings()

    def passes(line: str, level: int = logging.WARNING) -> bool:
        return new.filter(logging.LogRecord("xai_deploy", level, "", 0, line, None, None))

    assert [passes("a"), passes("a")] == [True, False]
    assert [passes("e", logging.ERROR), passes("e", logging.ERROR)] == [True, True]
    assert all(passes(str(number)) for number in range(5000))
    assert len(new.said) == 1000


def test_the_other_commands(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that takes methods takes the sets; with several bundles, what all of them allow."""
    tiny.write(Path("bare.xai"), "pooled", pixelwise=False)
    assert (
        evaluate.main(
            ["net.xai", "photos", "-m", "all", "--metrics", "complexity", "--json", "-q", "-o", "out", "--limit", "1"]
        )
        == 0
    )
    rows = json.loads(Path("out/results.json").read_text())
    text = json.dumps(rows)
    assert all(f'"{name}"' in text for name in ("cam", "reciprocam", "rise", "score-cam"))
    assert (
        bench.main(
            [
                "net.xai",
                "-m",
                "fast",
                "--runs",
                "1",
                "--warmup",
                "1",
                "--no-memory",
                "--json",
                "bench.json",
                "-b",
                "onnxruntime",
            ]
        )
        == 0
    )
    assert {result["method"] for result in json.loads(Path("bench.json").read_text())["results"]} >= {
        "cam",
        "reciprocam",
    }
    assert check.main(["net.xai", "bare.xai", "photos/cat.png", "-m", "fast", "--json", "check.json"]) == 0
    assert list(json.loads(Path("check.json").read_text())["methods"]) == ["eigen-cam", "reciprocam"]
    capsys.readouterr()
    assert check.main(["--record", "one.npz", "net.xai", "photos/cat.png", "-m", "fast"]) == 0
    assert check.main(["one.npz", "net.xai", "photos/cat.png", "-m", "fast"]) == 2
    assert capsys.readouterr().err.endswith("error: fast: not recorded; the recording has cam, eigen-cam, reciprocam\n")


def test_segments_in_the_other_commands(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that takes methods takes --segments; an evaluation whose labels changed does not go on."""
    lime = ["-m", "lime:samples=9,cam", "--segments"]
    timed = ["--runs=1", "--warmup=1", "--no-memory", "--json=bench.json", "-b=onnxruntime"]
    assert bench.main(["net.xai", *lime, "grid:2", *timed]) == 0
    rows = json.loads(Path("bench.json").read_text())["results"]
    assert [(row["method"], row["options"].get("segments")) for row in rows[1:]] == [("lime", "grid:2"), ("cam", None)]
    assert check.main(["net.xai", "net.xai", "photos/cat.png", *lime, "grid:2", "--json", "check.json"]) == 0
    assert list(json.loads(Path("check.json").read_text())["methods"]) == ["lime+samples=9+segments=grid-2", "cam"]
    height, width = Bundle.open("net.xai").manifest.input.size
    np.save("labels.npy", np.arange(height)[:, None] // 4 + np.zeros((1, width), int))
    evaluated = ["net.xai", "photos", *lime, "labels.npy", "--metrics", "complexity", "-q", "-o", "out", "--limit", "1"]
    assert evaluate.main(evaluated) == 0
    assert "segments=labels.npy" in Path("out/results.json").read_text()
    assert evaluate.main(evaluated) == 0
    np.save("labels.npy", np.arange(height)[:, None] // 5 + np.zeros((1, width), int))
    capsys.readouterr()
    assert evaluate.main(evaluated) == 2
    assert "an evaluation that differs in segments; give --overwrite" in capsys.readouterr().err
    for command in (
        ["net.xai", "-m", "cam", "--runs=1"],
        ["net.xai", "net.xai", "photos/cat.png", "-m", "cam"],
        ["net.xai", "photos", "-m", "cam", "-o", "new"],
    ):
        main = bench.main if len(command) == 4 else check.main if command[1] == "net.xai" else evaluate.main
        assert main([*command, "--segments", "grid:2"]) == 2
        assert "--segments is for methods of segments (" in capsys.readouterr().err
    assert not Path("new").exists()


def test_a_line_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        explain.main(["--list-methods"])
    assert not caught.value.code
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["method", "what", "the", "map", "is", "made", "of", "passes", "graphs"]
    rows = lines[: lines.index("")]
    assert [row.split()[0] for row in rows] == list(method_names())
    assert max(map(len, rows)) < 140
    for row in rows:
        method = create(row.split()[0], {})
        assert "-" not in (method.shows, method.passes), "a method of ours says what it is"
        assert re.fullmatch(r"(A (place|pixel|part) is|The bright part is) .*\.", method.plainly), "and what is bright"
        assert row.split("  ")[-1].strip() == (", ".join(method.roles) or "-")
    assert lines[-1] == "options: xai-explain --list-methods -v"

"""xai-bench: the arithmetic on times made by hand, and the command from the outside; no test looks at how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import pytest

from xai_deploy import XaiError, method_names
from xai_deploy.benchmark import Job, Report, Settings, benchmark, interleave, peak_memory, summarise
from xai_deploy.benchmark import report as report_module
from xai_deploy.benchmark.memory import own_peak
from xai_deploy.cli import bench
from xai_deploy.format.bundle import Graph
from xai_deploy.methods import create

from .. import small, tiny
from ..conftest import Bundles


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """A call that takes these times, one after the other."""
        times = iter(seconds)

        def call() -> None:
            self.now += next(times)

        return call


def test_times_are_those_of_the_call_and_round() -> None:
    clock = Clock()
    calls = {"plain": clock.taking(100, 1, 2, 3), "method": clock.taking(200, 4, 4, 9)}
    assert interleave(calls, runs=3, warmup=1, clock=clock) == {"plain": [1, 2, 3], "method": [4, 4, 9]}


def test_rounds_are_interleaved() -> None:
    ran: list[str] = []
    keys = "abcd"
    interleave({key: partial(ran.append, key) for key in keys}, runs=20, warmup=2)
    rounds = ["".join(ran[start : start + 4]) for start in range(0, len(ran), 4)]
    assert len(rounds) == 22
    assert all(sorted(one) == list(keys) for one in rounds)
    before_b = {one[one.index("b") - 1] for one in rounds if one[0] != "b"}
    assert before_b == set("acd")  # no call always finds the caches as the same other leaves them


def test_summary() -> None:
    summary = summarise([2, 4, 9], [1, 1, 3])
    assert summary.median == 4
    assert summary.iqr == 6.5 - 3  # quartiles of 2, 4, 9, with linear interpolation
    assert summary.ratio == 3  # of 2, 4, 3: of the pairs, not 4 / 1 of the medians
    assert summary.ratio_iqr == 3.5 - 2.5


def test_a_single_run_has_no_spread() -> None:
    summary = summarise([6], [2])
    assert (summary.median, summary.iqr, summary.ratio, summary.ratio_iqr) == (6, None, 3, None)


def test_the_figures_are_those_of_the_clock(bundles: Bundles) -> None:
    times = iter([0, 1, 10, 15])  # the first call of the round takes 1 second, the second 5
    report = quick(bundles().path, methods=["cam"], backends=["onnxruntime"], clock=lambda: next(times))
    plain, cam = report.results
    assert {plain.median_seconds, cam.median_seconds} == {1, 5}
    assert (plain.ratio, cam.ratio) == (1, cam.median_seconds / plain.median_seconds)


def labels(report: Report) -> list[tuple[Any, ...]]:
    return [(r.backend, r.title, r.targets, r.batch, r.layer) for r in report.results]


def quick(*paths: Path, **options: Any) -> Report:
    return benchmark(paths, **{"runs": 1, "warmup": 1, "memory": False, "threads": 1} | options)


def test_batches_and_targets(bundles: Bundles, backend: str) -> None:
    methods = ["cam", ("reciprocam", {"score": "softmax"})]
    report = quick(bundles().path, methods=methods, backends=[backend], batches=[1, 3, 3], targets=[1, 5])
    wanted: list[tuple[Any, ...]] = [(backend, "plain", None, batch, "layer, 4 x 5") for batch in (1, 3)]
    for title in ("cam", "reciprocam:score=softmax"):
        wanted += [(backend, title, targets, batch, "layer, 4 x 5") for targets in (1, 5) for batch in (1, 3)]
    assert labels(report) == wanted
    assert list(report.columns()) == ["method", "batch", "targets"]
    assert report.no_memory == "not requested"
    assert all(result.peak_bytes is None for result in report.results)


@pytest.mark.parametrize("kind", ["pooled", "residual", "nhwc", "uint8"])
def test_everything_that_is_not_slow(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    report = quick(bundles(kind, gradients=True).path, backends=[backend])
    measured = {result.method for result in report.results}
    assert {"plain", "reciprocam", "grad-cam", "input-x-gradient", "guided-grad-cam"} <= measured
    assert ("cam" in measured) == (kind != "residual")
    out = {one.method: one.reason for one in report.left_out}
    assert measured | set(out) == {*method_names(), "plain"}
    assert not measured & set(out)
    assert "this bundle has no 'relevance' graph" in out["relevance-cam"]
    slow = {name for name in out if create(name, {}).slow and "no '" not in out[name]}
    assert {"integrated-gradients", "rise", "score-cam", "smooth-grad-cam++", "smoothgrad"} <= slow
    assert {name for name, reason in out.items() if "measured if it is named" in reason} == slow


def test_a_slow_method_that_is_named(bundles: Bundles, backend: str) -> None:
    report = quick(bundles().path, methods=["score-cam"], backends=[backend])
    assert [result.method for result in report.results] == ["plain", "score-cam"]
    assert report.left_out == []


def test_a_method_that_fails_is_left_out_unless_named(bundles: Bundles, tmp_path: Path) -> None:
    head = (bundles().path / "head.onnx").read_bytes()
    graphs = {role: Graph(f"{role}.onnx", 18) for role in ("tail", "pixelwise-tail", "gradient")}
    graphs["head"] = Graph("head.onnx", 18, "image")
    net = tiny.write(tmp_path / "odd.xai", changes={"graphs": graphs}, extra={"gradient.onnx": head})
    report = quick(net.path, backends=["onnxruntime"])
    assert {r.method for r in report.results} == {"plain", "reciprocam", "cam", "eigen-cam"}
    failed = {one.method: one.reason for one in report.left_out if one.backend == "onnxruntime"}
    assert "gradient.onnx: it takes 'image', which the manifest does not list" in failed["grad-cam"]
    with pytest.raises(XaiError, match="it takes 'image'"):
        quick(net.path, methods=["grad-cam"], backends=["onnxruntime"])


def test_several_cuts_side_by_side(bundles: Bundles, tmp_path: Path, backend: str) -> None:
    first, second = bundles("pooled").path, bundles("residual").path
    report = quick(first, second, methods=["reciprocam"], backends=[backend])
    assert [(r.method, r.bundle) for r in report.results] == [
        ("plain", str(first)),
        ("plain", str(second)),
        ("reciprocam", str(first)),
        ("reciprocam", str(second)),
    ]
    cell = report.columns()["cut at"]
    assert [cell(r) for r in report.results[:2]] == [str(first), str(second)]  # both are cut at "layer"


def test_predicted_targets(bundles: Bundles, backend: str) -> None:
    report = quick(bundles().path, methods=["cam"], backends=[backend], targets=[1, 3], predicted=True)
    assert report.target == "predicted"
    assert [r.targets for r in report.results] == [None, 1, 3]


def whole(path: Path, target: Path, rename: str = "image") -> Path:
    """The network of a bundle in one file."""
    head, tail = (onnx.load(path / f"{role}.onnx") for role in ("head", "tail"))
    model = onnx.compose.merge_models(head, tail, io_map=[("activation", "activation")])
    if rename != "image":
        model.graph.input[0].name = rename
        for node in model.graph.node:
            node.input[:] = [rename if name == "image" else name for name in node.input]
    onnx.save(model, target)
    return target


def test_plain_inference_by_the_whole_model(bundles: Bundles, tmp_path: Path, backend: str) -> None:
    net = bundles().path
    model = whole(net, tmp_path / "net.onnx")
    report = quick(net, methods=["cam"], backends=[backend], batches=[2], model=model)
    assert report.plain == str(model)
    assert [(r.method, r.bundle, r.layer) for r in report.results] == [
        ("plain", None, None),
        ("cam", str(net), "layer, 4 x 5"),
    ]


def test_a_model_that_predicts_otherwise_is_told(
    bundles: Bundles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = bundles().path
    path = whole(net, tmp_path / "net.onnx")
    model = onnx.load(path)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    softmax.input[0] = "negative"
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Neg", ["logits"], ["negative"]))
    onnx.save(model, path)
    quick(net, methods=["cam"], backends=["onnxruntime"], model=path)
    assert "predicts other classes" in caplog.text


def test_one_output_that_answers_otherwise_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Yes in place of no: the same file is told nothing of, one with the negated logit is."""
    net, path = small.write(tmp_path / "net.xai", classes=1, activation="Sigmoid"), tmp_path / "net.onnx"
    quick(net, methods=["reciprocam"], backends=["onnxruntime"], model=path)
    assert "predicts other classes" not in caplog.text
    model = onnx.load(path)
    model.graph.node[-1].input[0] = "negative"
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Neg", ["logits"], ["negative"]))
    onnx.save(model, path)
    quick(net, methods=["reciprocam"], backends=["onnxruntime"], model=path)
    assert "predicts other classes" in caplog.text


needs_peak = pytest.mark.skipif(own_peak() is None, reason="this system does not report the peak memory of a process")


@needs_peak
def test_memory(bundles: Bundles, backend: str) -> None:
    report = quick(bundles().path, methods=["cam"], backends=[backend], memory=True)
    plain, cam = report.results
    assert plain.peak_bytes is not None
    assert cam.peak_bytes is not None
    assert report.no_memory is None
    assert plain.peak_bytes > 10e6
    assert (plain.extra_bytes, cam.extra_bytes) == (0, cam.peak_bytes - plain.peak_bytes)


@needs_peak
def test_a_peak_is_not_the_parents(bundles: Bundles) -> None:
    """Linux: `ru_maxrss` of a new process starts at what its parent holds."""
    ballast = np.ones(60_000_000)
    peak = own_peak()
    assert peak is not None
    assert peak > ballast.nbytes
    assert peak_memory(Job(str(bundles().path), "onnxruntime", 1), Settings()) < ballast.nbytes


def test_where_the_system_tells_no_peak(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "own_peak", lambda: None)
    report = quick(bundles().path, methods=["cam"], backends=["onnxruntime"], memory=True)
    assert report.no_memory == "this system does not report the peak memory of a process"
    assert [result.peak_bytes for result in report.results] == [None, None]


def test_a_failed_memory_process_costs_no_times(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> int:
        raise XaiError("killed")

    monkeypatch.setattr(report_module, "peak_memory", fails)
    report = quick(bundles().path, methods=["cam"], backends=["onnxruntime"], memory=True)
    assert [(result.peak_bytes, result.extra_bytes) for result in report.results] == [(None, None)] * 2
    assert "cam: killed" in caplog.text


def test_a_memory_process_says_why_it_failed(tmp_path: Path) -> None:
    with pytest.raises(XaiError, match=r"measures memory failed: .*no such folder"):
        peak_memory(Job(str(tmp_path / "none.xai"), "onnxruntime", 1), Settings())


FAST = ["--runs", "2", "--warmup", "1", "--threads", "1", "--no-memory"]
FIELDS = {
    "bundle": str,
    "layer": str,
    "backend": str,
    "method": str,
    "options": dict,
    "batch": int,
    "targets": int | None,
    "median_seconds": float,
    "iqr_seconds": float,
    "ratio": float,
    "ratio_iqr": float,
    "peak_bytes": int | None,
    "extra_bytes": int | None,
}


def test_command(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["net.xai", "-m", "cam,reciprocam:score=softmax", "--targets", "1,3", "--batch", "1,2", *FAST]
    assert bench.main([*arguments, "--json", "costs.json", "photos/cat.png"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[0] == "tiny-pooled cut at layer, 4 x 5; cpu, threads: 1"
    assert lines[1] == "input: photos/cat.png; target: given"
    assert lines[2].startswith("plain inference: head and tail of the bundle; 2 runs each, interleaved, after 1")
    heads = [line.split() for line in lines if line.startswith("method")]
    assert heads == [["method", "batch", "targets", "median", "IQR", "x", "plain"]] * 2
    assert sum(line.startswith("reciprocam:score=softmax ") for line in lines) == 8
    assert lines[-1] == "no peak memory: not requested"
    report = json.loads(Path("costs.json").read_bytes())
    assert set(report) == set(Report.__dataclass_fields__)
    assert report["input"] == "photos/cat.png"
    assert report["bundles"][0]["name"] == "tiny-pooled"
    assert set(report["versions"]) == {"xai-deploy", "python", "numpy", "onnxruntime", "openvino"}
    assert len(report["results"]) == 2 * (2 + 2 * 4)
    for result in report["results"]:
        assert set(result) == set(FIELDS)
        for name, kind in FIELDS.items():
            assert isinstance(result[name], kind), name
    assert {result["backend"] for result in report["results"]} == {"onnxruntime", "openvino"}


def test_command_says_what_it_left_out(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["net.xai", "-b", "onnxruntime", *FAST]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert any("score-cam" in line and "costs tens of inferences" in line for line in lines)
    assert any("relevance-cam: this bundle has no 'relevance' graph" in line for line in lines)


def test_json_to_standard_output(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["net.xai", "-m", "cam", "-b", "onnxruntime", "--json", "-", *FAST]) == 0
    assert [result["method"] for result in json.loads(capsys.readouterr().out)["results"]] == ["plain", "cam"]


def test_quiet(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["net.xai", "-m", "cam", "-b", "onnxruntime", "-q", *FAST]) == 0
    assert capsys.readouterr() == ("", "")


@needs_peak
def test_plot_and_memory(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write(work / "odd.xai", labels=(), changes={"name": "of $5 and $6"})
    arguments = ["odd.xai", "-m", "cam", "-b", "onnxruntime", "--runs", "1", "--warmup", "1", "--plot", "costs.png"]
    assert bench.main(arguments) == 0
    assert Path("costs.png").read_bytes().startswith(b"\x89PNG")
    head = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("method"))
    assert head.split() == ["method", "median", "IQR", "x", "plain", "peak", "over", "plain"]


def bad(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run what must fail with one line; return that line."""
    try:
        status: Any = bench.main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line: str = captured.err
    assert line.startswith("xai-bench: error: ")
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: BUNDLE"),
        (["none.xai"], "none.xai: no such folder"),
        (["net.xai", "none.xai"], "none.xai: no such folder"),
        (["net.xai", "-m", "gradcam"], "no method 'gradcam'"),
        (["net.xai", "-m", "grad-cam"], "grad-cam: this bundle has no 'gradient' graph"),
        (["net.xai", "-m", "cam:mask=pixel"], "cam: no option 'mask'; it has relu"),
        (["net.xai", "-m", "cam:relu"], "an option is written METHOD:NAME=VALUE"),
        (["net.xai", "--batch", "0"], "--batch: at least 1, not 0"),
        (["net.xai", "--batch", "1,x"], "argument --batch: give whole numbers separated by commas, not '1,x'"),
        (["net.xai", "--targets", "1,"], "argument --targets: give whole numbers separated by commas, not '1,'"),
        (["net.xai", "--targets", "6"], "6 distinct targets; the network has 5 classes"),
        (["net.xai", "--runs", "0"], "--runs: at least 1, not 0"),
        (["net.xai", "--warmup", "0"], "--warmup: at least 1, not 0"),
        (["net.xai", "-b", "tensorflow"], "no backend 'tensorflow'"),
        (["net.xai", "-d", "npu"], "has no device 'npu'"),
        (["net.xai", "--threads", "5000"], "threads are 1 to 1024"),
        (["net.xai", "--model", "none.onnx"], "none.onnx: No such file or directory"),
        (["net.xai", "--model", "photos/notes.txt"], "photos/notes.txt: is not an ONNX graph"),
        (
            ["net.xai", "--model", "net.xai/tail.onnx"],
            "net.xai/tail.onnx: does not take net.xai's input 'image' [1, 3,",
        ),
        (["net.xai", "--model", "renamed.onnx"], "renamed.onnx: does not take net.xai's input 'image' [1, 3, 16, 20]"),
        (["net.xai", "none.png"], "none.png: no such file"),
        (["net.xai", "photos/notes.txt"], "photos/notes.txt: damaged, or no network that xai-export reads"),
        (["net.xai", "--json", "none/costs.json"], "none/costs.json: its folder does not exist"),
        (["net.xai", "--plot", "none/costs.png"], "none/costs.png: its folder does not exist"),
        (["net.xai", "--json", "net.xai"], "net.xai: is a folder; give the name of a file"),
        (["net.xai", "--plot", "costs.text"], "costs.text: the plot's file ends in one of "),
    ],
)
def test_bad_input(work: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole(work / "net.xai", work / "renamed.onnx", rename="picture")
    assert message in bad(arguments, capsys)


def test_without_matplotlib(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    line = bad(["net.xai", "--plot", "costs.png"], capsys)
    assert line == 'xai-bench: error: a plot needs matplotlib; pip install "xai-deploy[evaluate]"\n'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 0}, "runs are numbers from 1"),
        ({"batches": []}, "batches are numbers from 1"),
        ({"targets": [True]}, "targets are numbers from 1"),
        ({"methods": []}, "no method was given"),
    ],
)
def test_bad_arguments_in_python(bundles: Bundles, options: dict[str, Any], message: str) -> None:
    with pytest.raises(XaiError, match=message):
        benchmark([bundles().path], **options)
    with pytest.raises(XaiError, match="no bundle was given"):
        benchmark([])


def test_imports_are_late() -> None:
    root = str(Path(bench.__file__).parents[2])
    heavy = {"matplotlib", "onnxruntime", "openvino", "cv2"}
    code = f"import sys; sys.path.insert(0, {root!r}); import xai_deploy.cli.bench; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")

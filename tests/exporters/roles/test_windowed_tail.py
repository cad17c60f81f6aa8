"""Tails over windows: against the definition, one masked activation per position, run by ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.errors import RuleError, VerificationError
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.roles.windowed_tail import windowed
from xai_exporters.roles.windows import plan
from xai_exporters.roles.windows.span import Span

from xai_deploy import Explainer
from xai_deploy.by_position import parts
from xai_deploy.format.bundle import ACTIVATION, LOGITS, POSITION_COLUMNS, POSITION_LOGITS, POSITION_ROWS, Bundle, Port
from xai_deploy.format.guard import check_graph

from .. import onnx_nets as o
from ..checks import RUNNERS, Array, reference
from ..running import export_onnx

K, H, W, CLASSES = 4, 11, 9, 5
Net = Callable[[o.Build, str], str]


def gap(b: o.Build, x: str, channels: int) -> str:
    return b("Gemm", b.pooled(x), b.draw(channels, CLASSES), b.draw(CLASSES), out=LOGITS)


def vector(b: o.Build, *shape: int) -> str:
    return b.weight((b.rng.random(shape) + 0.5).astype(np.float32))


def block(b: o.Build, x: str, channels: int, out: int, stride: int) -> str:
    y = b("Relu", b.conv(x, channels, 3, 1))
    y = b.conv(b("Relu", b.conv(y, 3, 3, strides=[stride, stride])), 3, out, 1)
    return b("Relu", b("Add", y, b.conv(x, channels, out, 1, strides=[stride, stride])))


def residual(b: o.Build, x: str) -> str:
    return gap(b, block(b, block(b, x, K, 6, 2), 6, 6, 1), 6)


def pooling(b: o.Build, x: str) -> str:
    y = b("MaxPool", b("Relu", b.conv(x, K, 6)), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
    y = b("Conv", y, b.draw(6, 2, 3, 3), b.draw(6), pads=[2] * 4, dilations=[2, 2], group=3)
    return gap(b, b("AveragePool", b("Sigmoid", y), kernel_shape=[2, 2]), 6)


def apart(b: o.Build, x: str) -> str:
    """A pooling whose kernel has gaps takes whole maps: runtimes pad it by less than its kernel."""
    return gap(b, b("MaxPool", b("Relu", b.conv(x, K, 6)), kernel_shape=[2, 2], dilations=[2, 2]), 6)


def inception(b: o.Build, x: str) -> str:
    average = b("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    largest = b("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
    y = b("Concat", b.conv(x, K, 2, 1), b.conv(x, K, 3), average, largest, axis=1)
    y = b("BatchNormalization", y, vector(b, 13), vector(b, 13), vector(b, 13), vector(b, 13))
    return gap(b, b("Relu", y), 13)


def activations(b: o.Build, x: str) -> str:
    x = b.conv(x, K, 4)
    y = b("Mul", x, b("Sigmoid", x))
    y = b("PRelu", b("Div", b("Mul", y, vector(b, 4, 1, 1)), vector(b, 1)), vector(b, 4, 1, 1))
    y = b("Clip", b("Sub", y, b("HardSwish", x)), b.weight(np.float32(-0.2)), b.weight(np.float32(0.5)))
    y = b("Add", b("Max", y, b("Tanh", x)), vector(b, 1, 4, 1, 1))
    return gap(b, b("Div", vector(b, 1), b("Exp", b("Sub", vector(b, 1), y))), 4)


def strides(b: o.Build, x: str) -> str:
    y = b("Conv", x, b.draw(5, K, 2, 3), b.draw(5), strides=[3, 2], pads=[1, 0, 0, 2])
    y = b("Relu", b("Conv", y, b.draw(6, 5, 4, 2), b.draw(6), pads=[2, 0, 1, 1]))
    return gap(b, b("Conv", y, b.draw(6, 6, 1, 1), b.draw(6), strides=[2, 3]), 6)


def gate(b: o.Build, x: str) -> str:
    """After a global average everything changes everywhere: from there on the ordinary tail runs."""
    y = b("Relu", b.conv(x, K, 6))
    weight = b("Sigmoid", b.conv(b("GlobalAveragePool", y), 6, 6, 1))
    return gap(b, b("Relu", b.conv(b("Mul", y, weight), 6, 6)), 6)


def flat(b: o.Build, x: str) -> str:
    y = b("Flatten", b("Relu", b.conv(b("Relu", b.conv(x, K, 3)), 3, 2, strides=[2, 2])))
    return b("Gemm", y, b.draw(2 * 6 * 5, CLASSES), b.draw(CLASSES), out=LOGITS)


def wide(b: o.Build, x: str) -> str:
    """The second convolution's windows are as large as the map."""
    y = b("Relu", b.conv(b("Relu", b.conv(x, K, 4, 7)), 4, 4, 7))
    return gap(b, b("Relu", b.conv(y, 4, 4, 9)), 4)


def everything(b: o.Build, x: str) -> str:
    """A mean over positions and channels at once: no tensor beside the activation is read."""
    mean = b("ReduceMean", x, b.weight(np.array([1, 2, 3])), keepdims=0)
    return b("Mul", b("Unsqueeze", mean, b.weight(np.array([1]))), b.draw(1, CLASSES), out=LOGITS)


NETS: dict[str, Net] = {
    net.__name__: net
    for net in (residual, pooling, apart, inception, activations, strides, gate, flat, wide, everything)
}


def tail_of(net: Net) -> onnx.ModelProto:
    b = o.Build(seed=3)
    logits = net(b, ACTIVATION)
    return b.model(
        logits, shape=("N", K, H, W), image=ACTIVATION, ir_version=10, ranks={LOGITS: (o.FLOAT, ("N", CLASSES))}
    )


def by_definition(tail: onnx.ModelProto, activation: Array) -> Array:
    """The scores [N,h*w,classes] of every masked activation."""
    n, k, h, w = activation.shape
    masks = np.eye(h * w, dtype=np.float32).reshape(1, h * w, 1, h, w)
    masked = (activation[:, None] * masks).reshape(-1, k, h, w)
    return np.asarray(reference(tail, {ACTIVATION: masked})[LOGITS]).reshape(n, h * w, -1)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows even if they are no gain."""
    monkeypatch.setattr(plan, "_GAIN", 1e9)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", NETS)
def test_definition(name: str) -> None:
    model = tail_of(NETS[name])
    tail = ir.from_proto(model).graph
    made = windowed(tail, tail.outputs[0], CLASSES)
    assert not isinstance(made, str)
    r, s = (int(str(v.shape[1])) for v in made.inputs[1:] if v.shape is not None)
    data = to_bytes(make_model(made))
    check_graph(data, "it", 4 * K * H * W, {ACTIVATION: (K, H, W), POSITION_ROWS: (r,), POSITION_COLUMNS: (s,)})
    activation = np.random.default_rng(1).standard_normal((3, K, H, W)).astype(np.float32)
    want = by_definition(model, activation).reshape(3, H, W, CLASSES)
    for run in RUNNERS:
        for n, top, left in ((3, 0, 0), (1, H - r, W - s), (1, (H - r) // 2, W - s)):
            rows, columns = np.arange(r) + top, np.arange(s) + left
            feeds: dict[str, Array] = {
                ACTIVATION: activation[:n],
                POSITION_ROWS: np.tile(rows, (n, 1)),
                POSITION_COLUMNS: np.tile(columns, (n, 1)),
            }
            got = run(data, feeds)[POSITION_LOGITS].reshape(n, r, s, CLASSES)
            error = np.abs(got - want[:n, top : top + r, left : left + s]).max()
            assert error <= 1e-5 * np.abs(want).max()


def network(net: Net) -> onnx.ModelProto:
    """Image [N,3,22,18] -> layer_out [N,K,11,9] -> the tail."""
    b = o.Build(seed=4)
    x = b("Relu", b.conv("image", 3, K, strides=[2, 2]), name="layer")
    return b.model(net(b, x), shape=("N", 3, 2 * H, 2 * W))


def multiply_adds(data: bytes, feeds: dict[str, Array]) -> float:
    """Of a graph's convolutions and linear layers."""
    model = onnx.load_from_string(data)
    weights = {w.name: w.dims for w in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n.output[0]) for n in nodes if n.output[0] not in known)
    results, total = reference(model, feeds), 0.0
    for node in nodes:
        shape, weight = results[node.output[0]].shape, weights[node.input[1]]
        total += float(
            np.prod(shape) * (np.prod(weight[1:]) if node.op_type == "Conv" else np.prod(weight) / shape[-1])
        )
    return total


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_reciprocam(tmp_path: Path, backend: str) -> None:
    """Two images, whose parts of rows and columns overlap, through the engine."""
    done = export_onnx(tmp_path, network(residual), split="layer")
    bundle = Bundle.open(done.path)
    assert "windowed-tail" in bundle.manifest.graphs
    x = np.random.default_rng(2).random((2, 3, 2 * H, 2 * W)).astype(np.float32)
    run = RUNNERS[0]
    activation = run(bundle.graph("head"), {bundle.manifest.input.name: x})[ACTIVATION]
    scores = by_definition(onnx.load_from_string(bundle.graph("tail")), activation)
    engine = Explainer(done.path, backend)
    found = engine.explain(x, "reciprocam", [4, 1])
    raw = found.raw
    want = np.stack([scores[0, :, 4], scores[1, :, 1]]).reshape(2, H, W)
    assert np.abs(raw - want).max() <= 1e-5 * np.abs(want).max()
    r, s = (port.shape[0] or 1 for port in bundle.manifest.graphs["windowed-tail"].takes[1:])
    runs = -(-H // r) * -(-W // s)
    feeds: dict[str, Array] = {
        ACTIVATION: activation[:1],
        POSITION_ROWS: np.arange(r)[None],
        POSITION_COLUMNS: np.arange(s)[None],
    }
    own = multiply_adds(bundle.graph("windowed-tail"), feeds)
    share = runs * own / (H * W * multiply_adds(bundle.graph("tail"), {ACTIVATION: activation[:1]}))
    said = {"windows": runs, "share": share, "passes": share * H * W}
    for name, number in said.items():
        np.testing.assert_allclose(found.diagnostics[name], [number] * 2, rtol=1e-3)
    whole = engine.explain(x, "reciprocam", [4, 1], mask="gaussian").diagnostics
    assert whole == {"windows": (0.0, 0.0), "share": (1.0, 1.0), "passes": (H * W, H * W)}
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    raw = engine.explain(x, "reciprocam", [4, 1], score="softmax").raw
    assert np.abs(raw - np.stack([shares[0, :, 4], shares[1, :, 1]]).reshape(2, H, W)).max() <= 1e-5


def test_every_position_is_taken() -> None:
    """If the count of positions at once does not divide the map."""
    ports = (Port(POSITION_ROWS, (4,), "int64"), Port(POSITION_COLUMNS, (9,), "int64"))
    network: Any = SimpleNamespace(
        manifest=SimpleNamespace(
            graphs={"windowed-tail": SimpleNamespace(takes=ports)}, target=SimpleNamespace(shape=(K, H, W))
        )
    )
    taken = [(i, j) for rows, columns in parts(network) for i in rows for j in columns]
    assert set(taken) == {(i, j) for i in range(H) for j in range(W)}
    assert len(taken) == 3 * 4 * 9


def beside(b: o.Build, x: str) -> str:
    """A second path passes beside the layer."""
    return gap(b, b("Relu", b("Add", b.conv(x, K, K), b.conv("image", 3, K, strides=[2, 2]))), K)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (beside, "the layer has tensors beside it"),
        (wide, "windows would save less than 40% of the arithmetic"),
        (lambda b, x: gap(b, x, K), "the tail begins with a global average"),
        (
            lambda b, x: gap(b, b("Relu", b("InstanceNormalization", x, vector(b, K), vector(b, K))), K),
            "windows would save less",
        ),
    ],
)
def test_refused_by_name(tmp_path: Path, net: Net, message: str) -> None:
    """By default the bundle has none, and says nothing; asked for by name it says why."""
    model = network(net)
    assert "windowed-tail" not in export_onnx(tmp_path, model, split="layer").manifest.graphs
    with pytest.raises(RuleError, match=f"no 'windowed-tail': {message}.*leave it out"):
        export_onnx(tmp_path, model, split="layer", roles=("head", "tail", "windowed-tail"), overwrite=True)


def test_wrong_windows_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the graph is wrong at one position, the export ends."""
    shifted = Span.within
    monkeypatch.setattr(Span, "within", lambda span, start, count: shifted(span, start + (start == H - 1), count))
    with pytest.raises(VerificationError, match="the windowed tail does not give the tail's logits"):
        export_onnx(tmp_path, network(residual), split="layer")

"""A bundle whose graphs that propagate back are written by hand, node by node, and the same network in NumPy, float64.

Independent of the exporters' rules and of torch: z = x V, a = relu(z) the activation [n,6,4,5], u = relu(a P),
logits = u^2 Q + b. Channel 5 is all zeros. Relevance passes each matrix W by R_in = x * W^T (R z / (z^2 + 1/100)), z = W x: no
rule that anybody uses, but linear in R and without a zero denominator, which is all that the runtime has to know.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xai_deploy.format import bundle as b
from xai_deploy.format.format1 import with_ports
from xai_deploy.format.manifest import Activation

from .tiny import CHANNELS, CLASSES, HEIGHT, LABELS, SCALE, WIDTH, H, W

Kind = Literal["plain", "nhwc", "half", "minus-infinity"]
Floats = NDArray[np.float64]

_GRADIENT_ROLES = ("gradient", "input-gradient", "guided-gradient")
_COMPOSITES = {
    "relevance": "relevance-cam",
    "pixel-relevance": "relevance-cam",
    "relevance-other": "other",
    "pixel-relevance-other": "other",
}
_AT_ACTIVATION = ("tail", "gradient", "relevance", "relevance-other")


def weights(kind: Kind = "plain") -> dict[str, NDArray[np.float32]]:
    """V [pixels,K*h*w], P [K*h*w,24], Q [24,classes], b [classes]."""
    rng = np.random.default_rng(254)
    v = rng.standard_normal((3 * HEIGHT * WIDTH, CHANNELS * H * W)) / np.sqrt(3 * HEIGHT * WIDTH)
    v.reshape(-1, CHANNELS, H * W)[:, 5] = 0
    if kind == "nhwc":
        v = v.reshape(3, HEIGHT, WIDTH, -1).transpose(1, 2, 0, 3).reshape(v.shape)
    p, q = rng.standard_normal((CHANNELS * H * W, 24)) / 8, rng.standard_normal((24, CLASSES)) / 4
    drawn = {"V": v, "P": p, "Q": q, "b": rng.standard_normal(CLASSES) / 4}
    return {name: value.astype(np.float32) for name, value in drawn.items()}


def inputs(kind: Kind, count: int) -> NDArray[np.float32]:
    """Preprocessed inputs in the network's layout."""
    shape = (count, HEIGHT, WIDTH, 3) if kind == "nhwc" else (count, 3, HEIGHT, WIDTH)
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


class Reference:
    """The network in float64.

    Attributes:
        a: [n,K,h,w].
        logits: [n,classes].
    """

    def __init__(self, kind: Kind, x: NDArray[Any]) -> None:
        self.w = {name: value.astype(np.float64) for name, value in weights(kind).items()}
        self.x, self.shape = x.astype(np.float64), x.shape
        self.z = x.reshape(len(x), -1).astype(np.float64) @ self.w["V"]
        flat = np.maximum(self.z, 0)
        if kind == "half":
            flat = flat.astype(np.float16).astype(np.float64)
        self.u = np.maximum(flat @ self.w["P"], 0)
        self.a: Floats = flat.reshape(len(x), CHANNELS, H, W)
        self.logits: Floats = self.u**2 @ self.w["Q"] + self.w["b"]

    def gradient(self, seed: Floats, guided: bool = False) -> Floats:
        """d(seed . logits)/da, [n,K,h,w]."""
        du = 2 * self.u * (seed @ self.w["Q"].T)
        if guided:
            du = du * (du > 0)
        gradient: Floats = (du @ self.w["P"].T).reshape(self.a.shape)
        return gradient

    def input_gradient(self, seed: Floats, guided: bool = False) -> Floats:
        """The same at the input, [n, ...] in its own layout."""
        dz = self.gradient(seed, guided).reshape(len(self.z), -1) * (self.z > 0)
        if guided:
            dz = dz * (dz > 0)
        gradient: Floats = (dz @ self.w["V"].T).reshape(self.shape)
        return gradient

    def relevance(self, start: Floats, other: bool = False) -> Floats:
        """What arrives at a, [n,K,h,w]; the composite "other" gives twice as much."""
        u2, flat = self.u**2, self.a.reshape(len(self.a), -1)
        relevance = u2 * (_shared(start, u2 @ self.w["Q"]) @ self.w["Q"].T)
        relevance = flat * (_shared(relevance, flat @ self.w["P"]) @ self.w["P"].T)
        return relevance.reshape(self.a.shape) * (2 if other else 1)

    def pixel_relevance(self, start: Floats, other: bool = False) -> Floats:
        """The same at the input, [n, ...] in its own layout."""
        relevance = self.relevance(start, other).reshape(len(self.z), -1)
        x = self.x.reshape(len(self.x), -1)
        return (x * (_shared(relevance, self.z) @ self.w["V"].T)).reshape(self.shape)


def _shared(relevance: Floats, z: Floats) -> Floats:
    result: Floats = relevance * z / (z**2 + 0.01)
    return result


def write(path: Path, kind: Kind = "plain", activation: Activation = "softmax") -> Path:
    """Write the bundle, of a network that ends in `activation`."""
    models = {role: _graph(role, kind) for role in ("head", "tail", *_GRADIENT_ROLES, *_COMPOSITES)}
    contents = {f"{role}.onnx": model.SerializeToString() for role, model in models.items()}
    contents["labels.txt"] = ("\n".join(LABELS) + "\n").encode()
    manifest = b.Manifest(
        format=b.FORMAT,
        digest="",
        producer="tests",
        name=f"dense-{kind}",
        input=b.Input(
            name="image",
            layout="NHWC" if kind == "nhwc" else "NCHW",
            channels=3,
            height=HEIGHT,
            width=WIDTH,
            dtype="float32",
            preprocess=b.Preprocess(scale=SCALE),
        ),
        target=b.TargetLayer("layer", "relu", (CHANNELS, H, W), "float16" if kind == "half" else "float32"),
        classes=CLASSES,
        activation=activation,
        batch="any",
        outputs=(b.Output("scores", "scores", (CLASSES,), "probabilities"),),
        graphs={
            role: b.Graph(f"{role}.onnx", 18, "activation" if role in _AT_ACTIVATION else "image") for role in models
        },
        composites=_COMPOSITES,
        labels="labels.txt",
    )
    path.mkdir(parents=True)
    for name, data in contents.items():
        (path / name).write_bytes(data)
    (path / b.MANIFEST).write_bytes(with_ports(replace(manifest, files=b.file_records(contents))).to_bytes())
    return path


def _graph(role: str, kind: Kind) -> onnx.ModelProto:
    """Any of the roles: the forward part it needs, then the way back."""
    nodes: list[onnx.NodeProto] = []

    def node(op: str, sources: list[str], result: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, sources, [result], **attributes))

    half, at_image = kind == "half", role not in _AT_ACTIVATION
    floats = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    pixels: list[str | int | None] = ["N", HEIGHT, WIDTH, 3] if kind == "nhwc" else ["N", 3, HEIGHT, WIDTH]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, pixels)
    activation = helper.make_tensor_value_info("activation", floats, ["N", CHANNELS, H, W])
    given, results = [image if at_image else activation], []
    if at_image:
        node("Flatten", ["image"], "x")
        node("MatMul", ["x", "V"], "z")
        node("Relu", ["z"], "flat")
        node("Reshape", ["flat", "grid"], "relu" if half else "activation")
        if half:
            node("Cast", ["relu"], "activation", to=TensorProto.FLOAT16)
    if role == "head":
        return _model(nodes, given, [activation], kind)
    node("Flatten", ["activation"], "column")
    node("Cast", ["column"], "row", to=TensorProto.FLOAT)
    node("MatMul", ["row", "P"], "v")
    node("Relu", ["v"], "u")
    node("Mul", ["u", "u"], "squared")
    node("Gemm", ["squared", "Q", "b"], "logits")
    node("Softmax", ["logits"], "scores", axis=1)
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CLASSES]) for name in ("logits", "scores")]
    if role in (*_GRADIENT_ROLES, *_COMPOSITES):
        given.append(helper.make_tensor_value_info("target", TensorProto.INT64, ["N"]))
        given.append(helper.make_tensor_value_info("seed", TensorProto.FLOAT, ["N", CLASSES]))
        _start(node)
        name = "gradient" if role in _GRADIENT_ROLES else "relevance"
        (_way_back if name == "gradient" else _relevance_back)(node, role, kind)
        shape: list[str | int | None] = pixels if at_image else ["N", CHANNELS, H, W]
        results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT if at_image else floats, shape))
    return _model(nodes, given, results, kind)


def _start(node: Any) -> None:
    """s = unit vector of the class, none for -2, + seed."""
    node("ArgMax", ["logits"], "best", axis=1, keepdims=0)
    node("Equal", ["target", "minus_one"], "is_predicted")
    node("Where", ["is_predicted", "best", "target"], "class")
    node("Unsqueeze", ["class", "axis"], "classes")
    node("Equal", ["classes", "range"], "is_class")
    node("Cast", ["is_class"], "unit", to=TensorProto.FLOAT)
    node("Add", ["unit", "seed"], "s")


def _relevance_back(node: Any, role: str, kind: Kind) -> None:
    def passed(relevance: str, x: str, matrix: str, result: str) -> None:
        z, share = f"{matrix}/z", f"{matrix}/share"
        node("MatMul", [x, matrix], z)
        node("Mul", [z, z], f"{z}2")
        node("Add", [f"{z}2", "hundredth"], f"{z}2+")
        node("Div", [z, f"{z}2+"], f"{z}/ratio")
        node("Mul", [relevance, f"{z}/ratio"], share)
        node("MatMul", [share, f"{matrix}t"], f"{matrix}/back")
        node("Mul", [x, f"{matrix}/back"], result)

    passed("s", "squared", "Q", "Ru")
    passed("Ru", "row", "P", "Ra")
    last = "Ra"
    if role.startswith("pixel"):
        passed("Ra", "x", "V", "Rx")
        last = "Rx"
    if role.endswith("other"):
        node("Add", [last, last], "twice")
        last = "twice"
    if kind == "half" and role in _AT_ACTIVATION:
        node("Cast", [last], "small", to=TensorProto.FLOAT16)
        last = "small"
    node("Reshape", [last, "grid" if role in _AT_ACTIVATION else "pixels"], "relevance")


def _way_back(node: Any, role: str, kind: Kind) -> None:
    node("MatMul", ["s", "Qt"], "dsquared")
    node("Mul", ["dsquared", "u"], "halved")
    node("Add", ["halved", "halved"], "du")
    guided = role == "guided-gradient"
    if guided:
        node("Relu", ["du"], "du+")
    node("MatMul", ["du+" if guided else "du", "Pt"], "da")
    last = "da"
    if role != "gradient":
        node("Sign", ["flat"], "open")
        node("Mul", ["da", "open"], "dz")
        if guided:
            node("Relu", ["dz"], "dz+")
        node("MatMul", ["dz+" if guided else "dz", "Vt"], "dx")
        last = "dx"
    if kind == "minus-infinity":
        node("Sub", [last, last], "nothing")
        node("Log", ["nothing"], "endless")
        last = "endless"
    if role == "gradient" and kind == "half":
        node("Cast", [last], "small", to=TensorProto.FLOAT16)
        last = "small"
    node("Reshape", [last, "grid" if role == "gradient" else "pixels"], "gradient")


def _model(
    nodes: list[onnx.NodeProto],
    given: list[onnx.ValueInfoProto],
    results: list[onnx.ValueInfoProto],
    kind: Kind,
) -> onnx.ModelProto:
    w = weights(kind)
    constants: dict[str, NDArray[Any]] = {
        **w,
        **{f"{name}t": np.ascontiguousarray(w[name].T) for name in "VPQ"},
        "grid": np.array([-1, CHANNELS, H, W]),
        "pixels": np.array([-1, HEIGHT, WIDTH, 3] if kind == "nhwc" else [-1, 3, HEIGHT, WIDTH]),
        "minus_one": np.array(-1),
        "hundredth": np.array(0.01, np.float32),
        "axis": np.array([1]),
        "range": np.arange(CLASSES)[None],
    }
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "dense", given, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model

"""TensorFlow: a frozen graph, and a SavedModel of it (tensorflow/core/framework/*.proto, core/protobuf/*.proto)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import Array, Net
from .wire import field, fields

_FLOAT, _INT32 = 1, 3


def graph(net: Net, last: str = "Softmax", image: bool = True, pair: bool = False, variables: bool = False) -> bytes:
    """A GraphDef; the last operator's type may be another one. The image may be missing, and there may be a second one, `other`.

    The weights are constants, or variables (see `checkpoint`).
    """
    images = [*(["image"] if image else []), *(["other"] if pair else [])]
    return fields(
        1, [*(_image(net, name) for name in images), *_nodes(net, last, pair=pair, variables=variables)]
    ) + field(4, field(1, 1395))


def calling(net: Net) -> bytes:
    """A GraphDef that calls a function, `network`, in which the nodes lie."""
    outputs = {"conv": "output", "relu": "activations", "mean": "output", "linear": "product", "scores": "softmax"}
    outputs |= dict.fromkeys(("filters", "axes", "matrix"), "output")
    names = {name: f"net/{name}" for name in outputs}
    inputs = {name: f"net/{name}:{output}:0" for name, output in outputs.items()}
    nodes = _nodes(net, "Softmax", names, inputs)
    ends = [field(number, field(1, name) + field(3, _FLOAT)) for number, name in ((2, "image"), (3, "scores"))]
    signature = field(1, "network") + b"".join(ends)
    result = field(4, field(1, "scores") + field(2, inputs["scores"]))
    kinds = field(1, fields(6, [_FLOAT]))
    call = {"f": field(10, field(1, "network")), "Tin": kinds, "Tout": kinds}
    outside = [
        _image(net),
        _node("called", "StatefulPartitionedCall", ["image"], call),
        _node("scores", "Identity", ["called"], {"T": field(6, _FLOAT)}),
    ]
    library = field(2, field(1, field(1, signature) + fields(3, nodes) + result))
    return fields(1, outside) + library + field(4, field(1, 1395))


def _image(net: Net, name: str = "image") -> bytes:
    size = (-1, net.height, net.width, net.filters.shape[2])
    return _node(name, "Placeholder", [], {"dtype": field(6, _FLOAT), "shape": field(7, _shape(size))})


def _nodes(
    net: Net,
    last: str,
    names: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    pair: bool = False,
    variables: bool = False,
) -> list[bytes]:
    """The nodes; in a function, they and what they give are called otherwise. Of a pair the means of both images are subtracted."""
    weight = _variable if variables else _constant
    kind = {"T": field(6, _FLOAT)}
    strides = field(1, fields(3, [1, 1, 1, 1]))

    def node(name: str, op: str, before: Sequence[str], attributes: Mapping[str, bytes]) -> bytes:
        return _node((names or {}).get(name, name), op, [(inputs or {}).get(x, x) for x in before], attributes)

    def branch(image: str, end: str = "") -> list[bytes]:
        mean = {**kind, "Tidx": field(6, _INT32), "keep_dims": field(5, False)}
        return [
            node(f"conv{end}", "Conv2D", [image, "filters"], {**kind, "strides": strides, "padding": field(2, "SAME")}),
            node(f"relu{end}", "Relu", [f"conv{end}"], kind),
            node(f"mean{end}", "Mean", [f"relu{end}", "axes"], mean),
        ]

    second = [*branch("other", "2"), node("apart", "Sub", ["mean", "mean2"], kind)] if pair else []
    return [
        weight((names or {}).get("filters", "filters"), net.filters),
        _constant((names or {}).get("axes", "axes"), np.array([1, 2], np.int32)),
        weight((names or {}).get("matrix", "matrix"), net.matrix),
        *branch("image"),
        *second,
        node("linear", "MatMul", ["apart" if pair else "mean", "matrix"], kind),
        node("scores", last, ["linear"], kind),
    ]


def saved_model(net: Net, function: bool = False, pair: bool = False, variables: bool = False) -> bytes:
    """A saved_model.pb; the nodes lie in a function, or outside. `pair`, `variables`: see `graph`."""
    image, scores = (-1, net.height, net.width, net.filters.shape[2]), (-1, net.matrix.shape[1])
    ends = [
        field(n, field(1, name) + field(2, field(1, f"{node}:0") + field(2, _FLOAT) + field(3, _shape(shape))))
        for n, name, node, shape in (
            (1, "image", "image", image),
            *([(1, "other", "other", image)] if pair else []),
            (2, "scores", "scores", scores),
        )
    ]
    signature = b"".join(ends) + field(3, "tensorflow/serving/predict")
    meta = field(1, field(4, "serve") + field(5, "2.21.0"))
    return field(1, 1) + field(
        2,
        meta
        + field(2, calling(net) if function else graph(net, pair=pair, variables=variables))
        + field(5, field(1, "serving_default") + field(2, signature)),
    )


def save(net: Net, folder: Path, function: bool = False, pair: bool = False) -> Path:
    """Write a SavedModel's folder."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(saved_model(net, function, pair))
    return folder


def _node(name: str, op: str, inputs: Sequence[str], attributes: Mapping[str, bytes]) -> bytes:
    parts = [field(5, field(1, key) + field(2, value)) for key, value in attributes.items()]
    return field(1, name) + field(2, op) + fields(3, inputs) + b"".join(parts)


def _constant(name: str, array: Array) -> bytes:
    kind = _INT32 if array.dtype == np.int32 else _FLOAT
    tensor = field(1, kind) + field(2, _shape(array.shape)) + field(4, array.tobytes())
    return _node(name, "Const", [], {"dtype": field(6, kind), "value": field(8, tensor)})


def _variable(name: str, array: Array) -> bytes:
    return _node(name, "VariableV2", [], {"dtype": field(6, _FLOAT), "shape": field(7, _shape(array.shape))})


def _shape(dims: Sequence[int]) -> bytes:
    return fields(2, [field(1, dim) for dim in dims])

"""Layers of a live torch module: the activation is what the module gives, whatever the exporter folds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from xai_exporters.errors import LayerError

from .. import nets
from ..checks import check_bundle, forward, hooked
from ..running import HEAD_AND_TAIL, export_torch, left_behind

SIDE, HALF = (4, 8, 10), (6, 4, 5)

CASES: dict[tuple[type[torch.nn.Module], str], list[tuple[int, ...]]] = {
    (nets.Plain, "conv1"): [],  # its BatchNorm is folded into it
    (nets.Plain, "bn1"): [],  # an in-place ReLU follows
    (nets.Plain, "relu"): [],
    (nets.Plain, "drop"): [],  # no node in the graph
    (nets.Residual, "layer1"): [],
    (nets.Residual, "layer1.0.conv1"): [SIDE],
    (nets.Residual, "layer1.0.bn2"): [SIDE],
    (nets.Residual, "layer2.0.downsample"): [HALF],
    (nets.Residual, "layer2.0.relu#1"): [HALF],
    (nets.Residual, "layer2.0.relu#2"): [],
    (nets.Dense, "convs.1"): [SIDE, (2, 8, 10)],
    (nets.Dense, "convs.2"): [SIDE, (2, 8, 10), (2, 8, 10)],
    (nets.Dense, "norms.2"): [SIDE, (2, 8, 10), (2, 8, 10)],
    (nets.ChannelsLast, "patches"): [],
    (nets.ChannelsLast, "wide"): [(4, 5, 6)],
    (nets.ChannelsLast, "norm2"): [],
    (nets.Odd, "relu#1"): [],
    (nets.Outputs, "conv1"): [],
    (nets.Outputs, "conv2"): [(3,)],  # an output itself; beside it passes one that does not depend on it
    (nets.ImageAgain, "conv1"): [(3, 16, 20)],  # the image itself
}


@pytest.mark.parametrize(("cls", "layer"), CASES)
def test_tap(tmp_path: Path, cls: type[torch.nn.Module], layer: str) -> None:
    net = nets.randomise(cls())
    done = export_torch(
        tmp_path, net, split=layer, output="scores" if cls is nets.Outputs else None, roles=HEAD_AND_TAIL
    )
    path, _, call = layer.partition("#")
    activation = hooked(net, path, int(call or 1) - 1)
    last = layer in ("wide", "norm2")
    bundle = check_bundle(
        done.path, forward(net), lambda x: activation(x).transpose(0, 3, 1, 2) if last else activation(x)
    )
    assert [side.shape for side in bundle.manifest.side] == CASES[cls, layer]
    target = bundle.manifest.target
    assert (target.asked, target.tensor) == (layer, "features" if (cls, layer) == (nets.Outputs, "conv2") else layer)
    assert target.layout == ("NHWC" if last else "NCHW")


@pytest.mark.parametrize(
    ("cls", "layer", "says"),
    [
        (nets.Odd, "relu", "the module 'relu' is called 2 times; choose one: relu#1 ... relu#2"),
        (nets.Odd, "relu#3", "the module 'relu' is called 2 times; there is no call #3"),
        (nets.Odd, "relu#0", "the module 'relu' is called 2 times; there is no call #0"),
        (nets.Odd, "pair", "the module 'pair' gives a tuple, not one tensor"),
        (nets.Odd, "unused", "the module 'unused' is never called"),
        (nets.Odd, "first", "'first' gives the image as it is; split at an activation after it"),
        (nets.Odd, "conv3", "no layer 'conv3' in this network; the nearest are 'conv2', 'conv1'"),
        (nets.Residual, "layer1.0.conv3", "no layer 'layer1.0.conv3' .* nearest are 'layer1.0.conv"),
        (nets.Residual, "zzz", "no layer 'zzz' in this network; nothing is named like it"),
        (nets.Plain, "fc", r"'fc' has shape \['N', 5\]: a layer to explain gives \[N,K,h,w\]"),
        (nets.Outputs, "beside", "the logits do not depend on 'beside'"),
    ],
)
def test_layer_refused(tmp_path: Path, cls: type[torch.nn.Module], layer: str, says: str) -> None:
    with pytest.raises(LayerError, match=says):
        export_torch(tmp_path, cls(), split=layer, output="scores" if cls is nets.Outputs else None)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("cls", "tensor", "shape"),
    [
        (nets.Plain, "conv2d_1", (6, 8, 10)),
        (nets.ChannelsLast, "layer_norm_1", (6, 4, 5)),
        (nets.Residual, "relu_3", HALF),
    ],
)
def test_auto(tmp_path: Path, cls: type[torch.nn.Module], tensor: str, shape: tuple[int, ...]) -> None:
    net = nets.randomise(cls())
    done = export_torch(tmp_path, net, roles=HEAD_AND_TAIL)
    assert (done.manifest.target.asked, done.manifest.target.tensor, done.manifest.target.shape) == (
        "auto",
        tensor,
        shape,
    )
    check_bundle(done.path, forward(net))


def test_tensor_and_node_of_a_torch_network(tmp_path: Path) -> None:
    net = nets.randomise(nets.Residual())
    for name in ("add_35", "node_add_35"):
        done = export_torch(tmp_path, net, split=name, overwrite=True, roles=HEAD_AND_TAIL)
        assert (done.manifest.target.asked, done.manifest.target.tensor) == (name, "add_35")
        check_bundle(done.path, forward(net))

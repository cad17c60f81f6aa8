"""OpenVINO Model Server: config.json beside NAME/1/model.onnx, or model.xml and model.bin.

Paths in the config are relative to it, so that the folder can be mounted anywhere. Shapes are not stated: the server keeps
the model's own, whose batch (and size, if the preprocessing is embedded) is open. The precision is stated: otherwise OpenVINO
uses bfloat16 on processors that have it, and the maps are no longer those of the float32 network. For the same reason it must not
quantise activations in layers whose weights have 8 bits. The server has no place for labels; labels.txt lies beside the version for
the clients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import onnx

from .served import Served, model_files, read_tensors, servers

_PLUGIN = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
_OF_INTEGERS = {"LP_TRANSFORMS_MODE": "NO"}
"""Low-precision transformations break maps of such networks (see `xai_deploy.foundation.exact_openvino`)."""


@servers.register("ovms")
def ovms(models: Sequence[Served]) -> Mapping[str, bytes]:
    """Lay out a repository of OpenVINO Model Server.

    Raises:
        GraphError: A model has a fixed batch other than 1.
    """
    files: dict[str, bytes] = {}
    for served in models:
        read_tensors(served)  # only for its check of the batch
        files |= model_files(served)
    entries = [{"config": {"name": m.name, "base_path": m.name, "plugin_config": _plugin(m)}} for m in models]
    files["config.json"] = (json.dumps({"model_config_list": entries}, indent=1) + "\n").encode()
    return files


def _plugin(served: Served) -> Mapping[str, str]:
    nodes = onnx.load_model_from_string(served.model).graph.node
    return _PLUGIN | (_OF_INTEGERS if any(node.op_type == "QuantizeLinear" for node in nodes) else {})

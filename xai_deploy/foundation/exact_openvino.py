"""OpenVINO as ONNX defines a network: what has to be switched off, and which graphs take one image at a time.

OpenVINO 2026.4 changes the numbers of a network of integers in three ways.

1. It quantises the activations of a layer whose weights are compressed to 8 bits, by their range at hand: results differ by 0.5 to
   1 % from the network's.
2. Its low-precision transformations turn QuantizeLinear and DequantizeLinear into layers of integers. In the graph that carries
   relevance to the pixels of a vision transformer, maps were off by 80 to 150 % of their largest value while the logits were
   right; other graphs of such networks could not be compiled at all. Without them both hold to 1e-6, and take the same time.
3. It fuses a normalisation's constants for each channel with the quantisation after it, and takes the first channel's range for
   all, if a size is open: logits of a vision transformer were off by 5 of 6. With fixed sizes they are right.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any

_OFF = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "LP_TRANSFORMS_MODE": False}
_CORE = threading.Lock()


def compute_exactly(core: Any, devices: Iterable[str]) -> None:
    """Switch off what changes numbers (1 and 2 above). AUTO and its kin open a network with a device's own properties.

    Args:
        core: An `openvino.Core`.
        devices: Real devices, without a number: "CPU", "GPU".
    """
    for device in devices:
        for name, value in _OFF.items():
            try:
                core.set_property(device, {name: value})
            except RuntimeError:  # a device without such a property has no such step
                continue


def has_cpu(core: Any) -> bool:
    """Whether an `openvino.Core` can compute on the CPU. Its `available_devices` loads the plugins of all devices, 6 MB of code."""
    try:
        core.get_property("CPU", "FULL_DEVICE_NAME")
    except RuntimeError:
        return False
    return True


def has_one_thread(core: Any, properties: Mapping[str, Any]) -> bool:
    """Whether the CPU will compute with one thread.

    Args:
        core: An `openvino.Core`.
        properties: What networks are compiled with. INFERENCE_NUM_THREADS is one for each core if it is left out, and no more.
    """
    if not has_cpu(core):
        return False
    given = str(properties.get("INFERENCE_NUM_THREADS", ""))  # OpenVINO refuses what is no number
    asked = int(given) if given.isdecimal() else core.get_property("CPU", "INFERENCE_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(asked or cores, cores) == 1


def compiled(core: Any, network: Any, device: str, properties: Mapping[str, Any], one_thread: bool) -> Any:
    """As `core.compile_model`, without OpenVINO's code generator (snippets) on the CPU if there is one thread.

    With one thread, OpenVINO 2026.4 ends the process with a segmentation fault while it compiles some graphs of relevance. A graph
    that quantises keeps the generator: without it, step 3 above goes wrong for one image, too.

    Args:
        core: An `openvino.Core`.
        network: An `openvino.Model`.
        device: Its device.
        properties: What it is compiled with.
        one_thread: See `has_one_thread`.
    """
    mode = {"SNIPPETS_MODE": "ENABLE" if needs_fixed_sizes(network) else "DISABLE"} if one_thread else {}
    if not mode or device == "CPU":
        return core.compile_model(network, device, {**properties, **mode})
    with _CORE:  # AUTO and its kin take the core's property, which must not change while another graph is compiled
        core.set_property("CPU", mode)
        return core.compile_model(network, device, properties)


def needs_fixed_sizes(network: Any) -> bool:
    """Whether a network is computed rightly only with fixed sizes (3 above).

    Args:
        network: An `openvino.Model`.
    """
    return any(node.get_type_name() == "FakeQuantize" for node in network.get_ops())

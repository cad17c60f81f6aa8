"""The process that reads a file with OpenVINO: its readers are native parsers, and the file may come from a stranger.

python -m xai_exporters.sources.openvino_ir.child translate FRONTEND FILE WEIGHTS FOLDER LIMIT C,H,W [INPUT=NUMBER...]
    writes FOLDER/net.onnx and FOLDER/said.json, what the file says of itself; FOLDER/naming is there while
    it looks for the names of nodes, and if it was there before, it does not look
python -m xai_exporters.sources.openvino_ir.child run FRONTEND FILE WEIGHTS FOLDER
    reads FOLDER/inputs.npz (see `save_inputs`), writes FOLDER/outputs.npz, the outputs by their number, one image at a time; of
    a quantised network of open sizes, these are of its fixed size, and FOLDER/as_read.npz holds those of the open sizes
python -m xai_exporters.sources.openvino_ir.child unround FRONTEND FILE WEIGHTS FOLDER LIMIT C,H,W [INPUT=NUMBER...]
    of a quantised network: `run` of the graph without its rounding, with its translation, FOLDER/net.onnx; and of each rounding
    alone, FOLDER/roundings.onnx, with roundings_in.npz, roundings_out.npz and roundings_step.npz

C,H,W is empty if the user does not give it. A refusal is one line on standard error, and exit status 2.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from xai_deploy.foundation import runtimes

from ...errors import ExportError, SourceError
from ...graph.stated_boxes import state_background
from ..tflite import custom
from ..tflite.model import TFLite
from ..tflite.readable import readable
from . import binding, compressed, detection_output, dilated, model_info, names, rounding, suppression, tensors
from .constants import Constants
from .suppression import BACKGROUND, LEFT_OUT
from .translate import translate
from .unread import reason, why_unread

log = logging.getLogger(__name__)

REFUSED = 2
BOUND = "XAI_CHILD_BYTES"
"""The environment variable with the bytes of addresses that the process may use."""
HELD = "XAI_CHILD_HELD"
"""That with the bytes that it may hold, without what it only reserves; 0 for any."""
TIME = "XAI_CHILD_SECONDS"
"""That with its seconds of processor time."""
Inputs: TypeAlias = Sequence[tuple[bool, np.ndarray[Any, Any]]]
"""The value of each input, and whether it is the same for all images, without rows."""
Numbers: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
"""What some inputs are, by the names of their nodes."""
MODEL, SAID, NAMING = "net.onnx", "said.json", "naming"
READABLE = "readable.tflite"
INPUTS, OUTPUTS, AS_READ = "inputs.npz", "outputs.npz", "as_read.npz"
ROUNDINGS = "roundings.onnx"
ROUNDINGS_IN, ROUNDINGS_OUT, ROUNDINGS_STEP = "roundings_in.npz", "roundings_out.npz", "roundings_step.npz"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h: the signal that a process gets when its parent ends
_CHANNELS_LAST = ("tf", "tflite")  # readers of frameworks whose images are NHWC
_LOST = re.compile(r"([A-Z][A-Za-z]*_)?\d+")


def main(arguments: list[str]) -> int:
    """Run one of the tasks; returns the exit status."""
    task, frontend, file, weights, folder, *rest = arguments
    try:
        _limits()
        file = _readable(frontend, Path(file), Path(folder))
        known = _names(frontend, Path(file), Path(folder)) if task == "translate" else {}
        model = _read(frontend, file, weights)
        _forget_unused(model)
        root = _rename(model, known) if frontend else ""
        if task == "run":
            _run(model, Path(folder))
        else:
            shape = [int(n) for n in rest[1].split(",")] if rest[1] else None
            numbers = binding.numbers(model, rest[2:], reason)
            resized = binding.bind(model, shape, reason, last=frontend in _CHANNELS_LAST)
            if task == "unround":
                _unround(model, Path(folder), int(rest[0]), numbers)
            else:
                _translate(model, Path(folder), int(rest[0]), frontend, root, numbers, resized)
    except MemoryError:
        return _refused("needs more memory than a file of its size may")
    except ExportError as error:
        return _refused(str(error))
    return 0


def _refused(why: str) -> int:
    sys.stderr.write(f"{' '.join(why.split())}\n")
    return REFUSED


def _limits() -> None:
    """Bound memory and time, end with the parent, and leave no core file if a file makes the parser crash."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if held := int(os.environ.get(HELD, "0")):
        _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held if hardest < 0 else min(held, hardest), hardest))
    if seconds := int(os.environ.get(TIME, "0")):
        _, hardest = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds if hardest < 0 else min(seconds, hardest), hardest))
    bound = int(os.environ.get(BOUND, "0"))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:  # `ulimit -v`: it can't be raised
        bound = min(bound, hard) or hard
    if bound:
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def _readable(frontend: str, file: Path, folder: Path) -> str:
    """The file to read: of TFLite a copy, if OpenVINO's reader needs it written in another way."""
    if frontend == "tflite":
        data = file.read_bytes()
        try:
            changed = readable(data)
        except ValueError as error:
            raise SourceError(f"a damaged or truncated TFLite file ({error})") from None
        if changed is not data:
            file = folder / READABLE
            file.write_bytes(changed)
    return str(file)


def _read(frontend: str, file: str, weights: str) -> Any:
    """The model: IR and ONNX by OpenVINO's core, other formats by the reader that is named, whatever the file's name. Of a detector
    that suppresses boxes it gives what it chooses from."""
    ov = runtimes.openvino()
    try:
        if frontend:
            reader = _reader(frontend, Path(file))
            model = reader.convert(reader.load(file))
        else:
            model = ov.Core().read_model(*((file, weights) if weights else (file,)))
        names.make_readable(model)
        detection_output.give_what_is_chosen_from(model)
        suppression.add_what_is_chosen_from(model)
    except Exception as error:  # OpenVINO's types of errors are not documented
        raise SourceError(why_unread(error, frontend, file)) from None
    return model


def _forget_unused(model: Any) -> None:
    """Take out outputs that repeat an input or are constants, and inputs that nothing reads: a frozen graph keeps those of its
    training, such as names of files, and OpenVINO's reader makes outputs of what is read by nothing."""
    for result in model.get_results():
        kind = result.input_value(0).get_node().get_type_name()
        if kind in ("Parameter", "Constant") and len(model.outputs) > 1:
            model.remove_result(result)
    nodes = model.get_ops()
    read = {node.input_value(i).get_node().get_name() for node in nodes for i in range(node.get_input_size())}
    for parameter in model.get_parameters():
        if parameter.get_name() not in read and len(model.inputs) > 1:
            model.remove_parameter(parameter)


def _reader(frontend: str, file: Path) -> Any:
    """OpenVINO's reader, with the custom operators of a TFLite file that have a definition here."""
    ov = runtimes.openvino()
    reader = ov.frontend.FrontEndManager().load_by_framework(frontend)
    if frontend == "tflite":
        for name, converter in custom.converters(ov, TFLite(file.read_bytes())).items():
            reader.add_extension(ov.frontend.ConversionExtension(name, converter))
    return reader


def _names(frontend: str, file: Path, folder: Path) -> dict[str, str]:
    """What `names` finds; nothing if the reader does not take the file so."""
    if frontend not in tensors.READERS or (folder / NAMING).exists():
        return {}
    (folder / NAMING).mkdir()
    found: dict[str, str] = {}
    try:
        reader = _reader(frontend, file)
        found = names.of_tensors(*tensors.all_as_outputs(reader, frontend, file, folder / NAMING))
    except Exception as error:  # OpenVINO's types of errors are not documented
        log.debug("nodes get no names: %s", error)
    shutil.rmtree(folder / NAMING, ignore_errors=True)
    return found


def _rename(model: Any, known: dict[str, str]) -> str:
    """Name nodes as the file does if that is known, or else by their type and its count if the reader has lost their names.

    OpenVINO's readers turn NHWC into NCHW, and call most nodes Transpose_275: by a count over everything that the process makes.

    Returns:
        The first part of all names, up to the slash, if they share it: in TensorFlow the network's name.
    """
    known = names.of_nodes(model, known)
    counts: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        outputs = sorted(node.output(0).get_names()) if node.get_output_size() else []
        if node.get_name() in known:
            node.set_friendly_name(known[node.get_name()])
        elif _LOST.fullmatch(node.get_friendly_name()) and kind not in ("Parameter", "Result", "Constant"):
            counts[kind] += 1
            node.set_friendly_name(outputs[0].removesuffix(":0") if outputs else f"{kind}_{counts[kind]}")
    first = {name.partition("/")[0] for name in known.values() if "/" in name}
    return f"{first.pop()}/" if len(first) == 1 else ""


def _translate(
    model: Any, folder: Path, limit: int, frontend: str, root: str, numbers: Numbers, resized: tuple[str, bool] | None
) -> None:
    said = _said(model) | {"resized": resized, "layout": binding.layout(model)}
    said["outputs"] = None
    network = translate(model, limit, root, numbers)
    network.producer_version = frontend
    if model.has_rt_info(BACKGROUND):
        state_background(network, int(model.get_rt_info(BACKGROUND).astype(str)))
    said["outputs"] = [value.name for value in network.graph.outputs]
    ir.save(network, folder / MODEL)
    (folder / SAID).write_text(json.dumps(said), encoding="utf-8")


def _unround(model: Any, folder: Path, limit: int, numbers: Numbers) -> None:
    alone, values, steps = rounding.roundings(model)
    if values:
        ir.save(translate(alone, limit), folder / ROUNDINGS)
        results = _listed(_compiled(alone)(values))
        for name, arrays in ((ROUNDINGS_IN, values), (ROUNDINGS_OUT, results), (ROUNDINGS_STEP, steps)):
            _save(arrays, folder / name)
    dilated.merge(model, Constants(limit).array)  # before lines replace what keeps zeros
    try:
        rounding.remove(model)
    except Exception as error:  # OpenVINO's types of errors are not documented
        raise SourceError(f"its rounding can't be taken out ({reason(error)})") from None
    ir.save(translate(model, limit, numbers=numbers), folder / MODEL)
    _run(model, folder)


_GATHERED = re.compile(r"Gather_\d+(?:_|$)")
_PLAIN_STEPS = ("Add", "Convert", "Divide", "Interpolate", "Multiply", "Pad", "Subtract", "Transpose")


def _said(model: Any) -> dict[str, Any]:
    """What the parent has to know of the model."""
    return {
        "model_info": model_info.texts(model),
        "quantised": _quantised(model),
        "drops": rounding.drops(model),
        "halves": _halves(model),
        "resizes_pixels": _resizes_pixels(model),
        "open": model.is_dynamic(),
        "merged": _merged_reversal(model),
        "left_out": model.get_rt_info(LEFT_OUT).astype(str) if model.has_rt_info(LEFT_OUT) else "",
    }


def _merged_reversal(model: Any) -> bool:
    """Whether the first convolution's weights have the name of a Gather.

    OpenVINO calls them so when it merges a reversal of channels (PrePostProcessor's from BGR to RGB) into them. Converters of
    frameworks give weights the name of a parameter.
    """
    if len(model.inputs) != 1:
        return False
    at = model.inputs[0]
    while len(readers := list(at.get_target_inputs())) == 1:
        node = readers[0].get_node()
        if node.get_type_name() == "Convolution":
            weight = node.input_value(1).get_node()
            while weight.get_type_name() == "Convert":  # weights in float16
                weight = weight.input_value(0).get_node()
            return bool(_GATHERED.match(weight.get_friendly_name()))
        if node.get_type_name() not in _PLAIN_STEPS:
            return False
        at = node.output(0)
    return False


def _halves(model: Any) -> bool:
    """Whether an output is rounded to float16, which a bundle does not do."""
    return any(port.get_element_type().get_type_name() == "f16" for port in model.outputs)


def _quantised(model: Any) -> bool:
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def _resizes_pixels(model: Any) -> bool:
    """Whether whole numbers are resized, so that they are rounded."""
    return any(
        node.get_type_name() == "Interpolate"
        and node.get_input_element_type(0).is_integral()
        and node.get_input_partial_shape(0) != node.get_output_partial_shape(0)
        for node in model.get_ops()
    )


def _run(model: Any, folder: Path) -> None:
    """Every image alone, in float32; a network with a fixed batch of several takes each image as often.

    OpenVINO 2026.4 computes FakeQuantize wrongly if sizes are open, its range is one for all channels, and the operation before it
    has a constant for each channel: it fuses both and takes the first channel's range for all. It does not round resized pixels
    either then, unlike with a fixed batch, though their type is that of whole numbers.
    """
    values = _inputs(folder)
    try:
        for port, (whole, array) in zip(model.inputs, values, strict=True):
            if port.get_partial_shape().rank.is_dynamic:  # no runtime takes that
                model.reshape({port: list(array.shape) if whole else [-1, *array.shape[1:]]})
        if _quantised(model) and model.is_dynamic() and len(model.inputs) == 1:
            _save(_outputs(model, values), folder / AS_READ)
            model.reshape([1, *values[0][1].shape[1:]])
        elif _resizes_pixels(model) and model.is_dynamic() and len(model.inputs) == 1:
            model.reshape([1, *values[0][1].shape[1:]])
        results = _in_any_size(model, values)
        plain = _in_any_size(compressed.written_out(model), values) if compressed.has_weights(model) else results
    except Exception as error:
        raise SourceError(f"OpenVINO can't run it ({reason(error)})") from None
    if not _quantised(model):  # a rounding of other sums is a step apart
        compressed.require_same(results, plain)
    _save(results, folder / OUTPUTS)


def _in_any_size(model: Any, values: Inputs) -> list[np.ndarray[Any, Any]]:
    """The outputs; with a fixed batch if OpenVINO can't run the open one: it fails so on 8-bit weights of some TFLite files."""
    try:
        return _outputs(model, values)
    except Exception as error:  # OpenVINO's types of errors are not documented
        if not model.is_dynamic() or len(model.inputs) > 1:
            raise
        log.debug("OpenVINO can't run the open batch: %s", error)
        model.reshape([1, *values[0][1].shape[1:]])
        return _outputs(model, values)


def save_inputs(values: Inputs, folder: Path) -> None:
    """Write what `run` reads: the inputs by their number, with W before those that have no rows."""
    arrays: dict[str, Any] = {f"{'W' * whole}{i}": array for i, (whole, array) in enumerate(values)}
    np.savez(folder / INPUTS, **arrays)


def _inputs(folder: Path) -> Inputs:
    with np.load(folder / INPUTS) as arrays:
        by_number = {int(name.removeprefix("W")): (name.startswith("W"), arrays[name]) for name in arrays}
    return [by_number[i] for i in range(len(by_number))]


def _outputs(model: Any, values: Inputs) -> list[np.ndarray[Any, Any]]:
    compiled = _compiled(model)
    numbers = {port.get_node().get_friendly_name(): i for i, port in enumerate(model.inputs)}
    used = [
        values[numbers[port.get_node().get_friendly_name()]] for port in compiled.inputs
    ]  # it drops what nothing reads
    typed = [
        (whole, array.astype(port.get_element_type().to_dtype()))
        for (whole, array), port in zip(used, compiled.inputs, strict=True)
    ]
    images = max(len(array) for whole, array in values if not whole)
    batch = max([_batch(port) for (whole, _), port in zip(used, compiled.inputs, strict=True) if not whole], default=1)
    rows = [
        _listed(compiled([array if whole else np.repeat(array[i : i + 1], batch, 0) for whole, array in typed]))
        for i in range(images)
    ]
    return [np.concatenate([row[i][: len(row[i]) // batch] for row in rows]) for i in range(len(compiled.outputs))]


def _batch(port: Any) -> int:
    """How many images an input takes at once; 1 if any number."""
    size = port.get_partial_shape()[0]
    return 1 if size.is_dynamic else int(size.get_length())


def _save(arrays: list[np.ndarray[Any, Any]], path: Path) -> None:
    np.savez(path, **{str(i): array for i, array in enumerate(arrays)})  # type: ignore[arg-type]


def _compiled(model: Any) -> Any:
    rounding.write_out(model)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    return runtimes.openvino().Core().compile_model(model, "CPU", options)


def _listed(row: Any) -> list[np.ndarray[Any, Any]]:
    return [np.array(row[i]) for i in range(len(row))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

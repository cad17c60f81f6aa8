"""A network quantised in many ways: by onnxruntime, NNCF, brevitas, Quark and modelopt, then optimised by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from .nets import images

Make = Callable[[Path], object]
_Q, _QDQ, _QOPERATOR = QuantType, QuantFormat.QDQ, QuantFormat.QOperator
_STATIC: dict[str, dict[str, Any]] = {
    "U8 S8": {"activation_type": _Q.QUInt8, "weight_type": _Q.QInt8},
    "U8 S8 per channel, reduced range": {
        "activation_type": _Q.QUInt8, "weight_type": _Q.QInt8, "per_channel": True, "reduce_range": True,
    },
    "S8 S8 per channel": {"activation_type": _Q.QInt8, "weight_type": _Q.QInt8, "per_channel": True},
    "S8 S8 symmetric": {
        "activation_type": _Q.QInt8, "weight_type": _Q.QInt8, "extra_options": {"ActivationSymmetric": True},
    },
    "U8 U8 asymmetric weights": {
        "activation_type": _Q.QUInt8, "weight_type": _Q.QUInt8, "extra_options": {"WeightSymmetric": False},
    },
}  # fmt: skip
_ONLY_QDQ: dict[str, dict[str, Any]] = {
    "dedicated pairs": {"extra_options": {"DedicatedQDQPair": True, "ForceQuantizeNoInputCheck": True}},
    "pairs on weights": {"extra_options": {"AddQDQPairToWeight": True, "QuantizeBias": False}},
    "U16 activations": {"activation_type": _Q.QUInt16, "weight_type": _Q.QUInt8},
    "S16 activations and weights": {"activation_type": _Q.QInt16, "weight_type": _Q.QInt16},
    "U16, operators of com.microsoft": {
        "activation_type": _Q.QUInt16, "weight_type": _Q.QInt8, "extra_options": {"UseQDQContribOps": True},
    },
    "4-bit weights": {"activation_type": _Q.QUInt8, "weight_type": _Q.QInt4},
    "4-bit weights, unsigned": {"activation_type": _Q.QInt8, "weight_type": _Q.QUInt4},
    "float8": {
        "activation_type": _Q.QFLOAT8E4M3FN, "weight_type": _Q.QFLOAT8E4M3FN,
        "calibrate_method": CalibrationMethod.Distribution,
    },
}  # fmt: skip
_DYNAMIC: dict[str, dict[str, Any]] = {
    "S8": {"weight_type": _Q.QInt8},
    "U8": {"weight_type": _Q.QUInt8},
    "S8 per channel": {"weight_type": _Q.QInt8, "per_channel": True},
    "S8 per channel, reduced range": {"weight_type": _Q.QInt8, "per_channel": True, "reduce_range": True},
    "MatMul alone": {"weight_type": _Q.QInt8, "op_types_to_quantize": ["MatMul", "Gemm"]},
}
OPTIMISED = ("QDQ U8 S8", "QOperator U8 S8", "dynamic S8")
"""Variants that are written once more at each level of ONNX Runtime's optimiser."""


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = iter(images(16, 5)[0][:, None])

    def get_next(self) -> Any:
        image = next(self.left, None)
        return None if image is None else {"image": image}


def variants(net: torch.nn.Module, source: Path, folder: Path, only: str) -> Iterator[tuple[str, Path | str]]:
    """Name of each variant that holds `only` -> its file, or why the tool does not make it."""
    prepared = folder / f"{source.stem}.prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    made: dict[str, Path] = {}
    for name, make in _all(net, source, prepared):
        if only not in name and name not in OPTIMISED:
            continue
        path = folder / f"{source.stem} {name}.onnx".replace(" ", "_").replace(",", "")
        try:
            if not path.exists():
                make(path)
        except Exception as error:  # each tool raises errors of every kind
            path.unlink(missing_ok=True)
            if only in name:
                yield name, f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            continue
        made[name] = path
        if only in name:
            yield name, path
    for name in (name for name in OPTIMISED if name in made):
        for level in ("BASIC", "EXTENDED", "ALL"):
            path = folder / f"{made[name].stem}_{level}.onnx"
            if only in (variant := f"{name}, optimised: {level}"):
                _optimise(made[name], path, level)
                yield variant, path


def _all(net: torch.nn.Module, source: Path, prepared: Path) -> Iterator[tuple[str, Make]]:
    for form in (_QDQ, _QOPERATOR):
        for name, how in _STATIC.items():
            yield f"{form.name} {name}", partial(_static, prepared, form, how)
    for name, how in _ONLY_QDQ.items():
        yield f"QDQ {name}", partial(_static, prepared, _QDQ, how)
    for name, how in _DYNAMIC.items():
        yield f"dynamic {name}", partial(_dynamic, prepared, how)
    blocks = ((4, 16, _QOPERATOR, True), (4, 32, _QOPERATOR, False), (8, 16, _QOPERATOR, True), (4, 16, _QDQ, False))
    for bits, block, form, symmetric in blocks:
        config = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=symmetric, bits=bits, quant_format=form)
        centre = "symmetric" if symmetric else "asymmetric"
        yield f"MatMulNBits {form.name} {bits} bits, blocks of {block}, {centre}", partial(_n_bits, source, config)
    hqq = HQQWeightOnlyQuantConfig(block_size=16, bits=4, quant_format=_QOPERATOR)
    yield "MatMulNBits HQQ 4 bits, blocks of 16", partial(_n_bits, source, hqq)
    yield "NNCF quantize", partial(_nncf, source)
    compressed: dict[str, dict[str, Any]] = {
        "INT8_ASYM": {},
        "INT8_SYM": {},
        "INT4_SYM": {"group_size": 8, "all_layers": True},
    }
    for mode, options in compressed.items():
        yield f"NNCF compress_weights {mode}", partial(_compressed, source, mode, options)
    for written in ("QCDQ", "QONNX"):
        yield f"brevitas {written}", partial(_brevitas, net, written)
    for chosen in ("XINT8", "A8W8", "U8U8_AAWA", "BFP16", "MX"):
        yield f"Quark {chosen}", partial(_quark, source, chosen)
    for mode in ("int8", "fp8", "int4"):
        yield f"modelopt {mode}", partial(_modelopt, source, mode)


def _static(source: Path, form: QuantFormat, how: dict[str, Any], path: Path) -> None:
    quantize_static(str(source), str(path), _Images(), quant_format=form, **how)


def _dynamic(source: Path, how: dict[str, Any], path: Path) -> None:
    quantize_dynamic(str(source), str(path), **how)


def _n_bits(source: Path, config: Any, path: Path) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path), False)


def _nncf(source: Path, path: Path) -> None:
    import nncf

    data = nncf.Dataset(list(images(16, 5)[0][:, None]), lambda x: {"image": x})
    onnx.save(nncf.quantize(onnx.load(source), data, preset=nncf.QuantizationPreset.MIXED), path)


def _compressed(source: Path, mode: str, options: dict[str, Any], path: Path) -> None:
    import nncf

    onnx.save(nncf.compress_weights(onnx.load(source), mode=getattr(nncf.CompressWeightsMode, mode), **options), path)


def _brevitas(net: torch.nn.Module, form: str, path: Path) -> None:
    from brevitas.export import export_onnx_qcdq, export_qonnx
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    x = torch.from_numpy(images(16, 5)[0])
    model = quantize(preprocess_for_quantize(torch.fx.symbolic_trace(net)))
    with torch.no_grad(), calibration_mode(model):
        model(x)
    write = export_onnx_qcdq if form == "QCDQ" else export_qonnx
    write(model.eval(), args=x[:1], export_path=str(path), opset_version=17, dynamo=False, input_names=["image"])


def _quark(source: Path, config: str, path: Path) -> None:
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    chosen = get_default_config({"BFP16": "BFP16", "MX": "MXINT8"}.get(config, config))
    ModelQuantizer(Config(global_quant_config=chosen)).quantize_model(str(source), str(path), _Images())


def _modelopt(source: Path, mode: str, path: Path) -> None:
    from modelopt.onnx.quantization import quantize

    data = {"image": images(16, 5)[0]}
    quantize(
        onnx_path=str(source), quantize_mode=mode, calibration_data=data, output_path=str(path), calibration_eps=["cpu"],
        high_precision_dtype="fp32",
    )  # fmt: skip


def _optimise(source: Path, path: Path, level: str) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

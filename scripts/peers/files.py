"""The ONNX files that packages are asked to open: which, how they are made, and what they are given to see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("XAI_TEST_DATA", ROOT.parent / "shared" / "data"))
TRAINED = (
    "weights/mobilenet_v2_1.0_224_fp32_nchw_logits.onnx",
    "weights/mobilenet_v2_1.0_224_int8qdq_tf2onnx.onnx",
    "weights/mobilenet_v1_0.25_224_keras_tf2onnx.onnx",
    "weights/mobilenet_v1_0.25_128_int8qdq_tf2onnx.onnx",
    "weights/squeezenet1_0_deepcompressed.onnx",
    "weights/cifar10_resnet20-12fca82f.onnx",
    "weights/cifar10_resnet8_mlperftiny_keras_tf2onnx.onnx",
    "weights/ultraface_rfb320.onnx",
    "weights/picodet_layout_cdla.onnx",
    "weights/deeplabv3_mnv2_dm05_pascal_int8qdq_tf2onnx.onnx",
    "weights/ch_PP-OCRv4_det_infer.onnx",
    "weights/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "cases/fp16_keep_io_gemm.onnx",
    "cases/opset6_gemm.onnx",
    "cases/qdq_float_input.onnx",
    "cases/qoperator.onnx",
    "cases/quantize_dynamic.onnx",
    "cases/cntk_mnist_quantized.onnx",
    "cases/mlperf_vww_int8_input.onnx",
)
"""Files of XAI_TEST_DATA; its README.md says where they are from."""
TORCHVISION = (
    "resnet18",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "mnasnet0_5",
    "convnext_tiny",
    "swin_t",
)
TIMM = (
    "vit_tiny_patch16_224",
    "mobilevit_xxs",
    "ghostnet_100",
    "levit_128s",
    "resmlp_12_224",
    "poolformer_s12",
    "edgenext_xx_small",
    "resnest14d",
    "tinynet_e",
    "repvit_m0_9",
    "fastvit_t8",
    "hrnet_w18_small",
)
NAMES = (*TRAINED, *(f"torchvision:{name}" for name in TORCHVISION), *(f"timm:{name}" for name in TIMM))
OPEN_SIZES = {"ch_PP-OCRv4_det_infer.onnx": (224, 224), "ch_ppocr_mobile_v2.0_cls_infer.onnx": (48, 192)}
"""Height and width for files that leave them open; 224 x 224 for others."""


def obtain(name: str, folder: Path) -> Path | None:
    """The file of a name; None: it is one of XAI_TEST_DATA that is not there."""
    if ":" not in name:
        return DATA / name if (DATA / name).exists() else None
    file = folder / f"{name.replace(':', '_')}.onnx"
    if not file.exists():
        _export(name, file)
    return file


def _export(name: str, file: Path) -> None:
    """Write a network with seeded random weights as ONNX, by torch's exporter, its batch open."""
    import torch
    from zoo.networks import randomised

    torch.manual_seed(0)
    library, _, variant = name.partition(":")
    if library == "timm":
        import timm

        network = timm.create_model(variant)
    else:
        import torchvision

        network = torchvision.models.get_model(variant, weights=None)
    torch.onnx.export(
        randomised(network.eval()), (torch.rand(2, 3, 224, 224),), file, dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )  # fmt: skip


def given(file: Path) -> NDArray[Any]:
    """One image in the form of the file's input: a photograph of the project's samples, standardised, or codes of integers."""
    import cv2
    import onnxruntime

    from xai_deploy import read_image

    [port] = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_inputs()
    last = isinstance(port.shape[-1], int) and port.shape[-1] in (1, 3)
    sides = port.shape[1:3] if last else port.shape[2:]
    opened = zip(sides, OPEN_SIZES.get(file.name, (224, 224)), strict=True)
    height, width = (side if isinstance(side, int) else own for side, own in opened)
    channels = port.shape[-1] if last else port.shape[1]
    sample = read_image(ROOT / "models" / "clutter_digits" / "samples" / "03_three.png")
    pixels = cv2.resize(sample, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, :channels].astype(np.float32)
    if port.type == "tensor(uint8)":
        image = pixels.astype(np.uint8)
    elif port.type == "tensor(int8)":
        image = (pixels - 128).astype(np.int8)
    else:
        image = ((pixels / 255 - 0.45) / 0.225).astype(np.float16 if "float16" in port.type else np.float32)
    return np.ascontiguousarray(image[None] if last else image.transpose(2, 0, 1)[None])

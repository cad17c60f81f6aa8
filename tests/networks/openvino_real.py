"""Trained networks, quantised by NNCF with photographs, as OpenVINO IR: the quantised IR against its translation.

    python -m tests.networks.openvino_real FOLDER NAME       prints a result; scripts/check_openvino writes the tables in docs/

    python -m tests.networks.openvino_real FOLDER            compares the maps of the IR in weights/openvino_ir with its ONNX's

FOLDER holds weights/NAME.onnx, images/coco/*.jpg for the calibration and images/imagenet_samples/* for the comparison. NNCF has to
be installed. A file that is quantised already is converted as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from xai_exporters import Request, export

from xai_deploy import Explainer

from .openvino_ir import BACKENDS, Quantised, distance, measured, ov, single

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of 0 to 255
HALF = (127.5,) * 3


@dataclass(frozen=True)
class Trained:
    """A classifier and what it takes.

    Attributes:
        size: (h,w) of its images.
        mean, std: Of pixels of 0 to 255, by channel (RGB).
        last: Whether the channels are last.
        quantised: Whether the file is in int8 already, with pixels as they are.
    """

    size: tuple[int, int] = (224, 224)
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD
    last: bool = False
    quantised: bool = False

    def images(self, paths: Sequence[Path]) -> NDArray[Any]:
        """The middles of photographs, [n,c,h,w] or [n,h,w,c]."""
        return np.stack([self._image(cv2.imread(str(path))) for path in paths])

    def _image(self, image: Any) -> NDArray[Any]:
        h, w = self.size
        scale = 256 / 224 * max(h / image.shape[0], w / image.shape[1])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
        pixels = image[top : top + h, left : left + w, ::-1]
        if not self.quantised:
            pixels = ((pixels - np.array(self.mean)) / np.array(self.std)).astype(np.float32)
        return np.ascontiguousarray(pixels if self.last else pixels.transpose(2, 0, 1))


NETWORKS = {
    "mobilenet_v2_1.0_224_fp32_nchw_logits": Trained(mean=HALF, std=HALF),
    "mobilenet_v1_0.25_224_keras_tf2onnx": Trained(mean=HALF, std=HALF, last=True),
    "squeezenet1_0_deepcompressed": Trained(),
    "cifar10_resnet20-12fca82f": Trained((32, 32)),
    "cifar10_resnet8_mlperftiny_keras_tf2onnx": Trained((32, 32), (0,) * 3, (1,) * 3, last=True),
    "ch_ppocr_mobile_v2.0_cls_infer": Trained((48, 192), HALF, HALF),
    "mobilenet_v2_1.0_224_int8qdq_tf2onnx": Trained(last=True, quantised=True),
    "mobilenet_v1_0.25_128_int8qdq_tf2onnx": Trained((128, 128), last=True, quantised=True),
}


def converted(path: Path, network: Trained, calibration: Sequence[Path], folder: Path) -> Path:
    """The network as a quantised IR."""
    import nncf  # not installed for the tests

    model = ov.convert_model(path)
    if not network.quantised:
        shape = model.inputs[0].get_partial_shape()
        model.reshape([shape[0], *network.images(calibration[:1]).shape[1:]])
        data = nncf.Dataset([network.images([image]) for image in calibration])
        model = nncf.quantize(model, data, subset_size=len(calibration))
    ov.save_model(model, folder / "int8.xml", compress_to_fp16=False)
    return folder / "int8.xml"


def check(name: str, folder: Path, work: Path) -> Quantised:
    """One network, quantised with photographs and compared on others."""
    network = NETWORKS[name]
    calibration = sorted((folder / "images/coco").glob("*.jpg"))
    samples = sorted((folder / "images/imagenet_samples").glob("*.*"))
    path = converted(folder / f"weights/{name}.onnx", network, calibration, work)
    return measured(name, path, network.images(samples))


@dataclass(frozen=True)
class Maps:
    """Method -> runtime -> the distance of the IR's map from the ONNX file's."""

    methods: dict[str, dict[str, float]]


def compare_maps(folder: Path, work: Path) -> Maps:
    """Every method's map of one photograph: the IR's bundle against that of the ONNX file, by runtime."""
    [source] = (folder / "weights/openvino_ir").glob("*.xml")
    x = NETWORKS[source.stem].images(sorted((folder / "images/imagenet_samples").glob("*.*"))[:1])
    paths = [work / file for file in ("ir.xai", "onnx.xai")]
    for path, network in zip(paths, (source, folder / f"weights/{source.stem}.onnx"), strict=True):
        options: dict[str, Any] = {"input_gradient": True, "pixel_relevance": True, "guided": True}
        export(Request(network, output_path=path, preprocess="none", **options))
    opened = {backend: [Explainer(path, backend) for path in paths] for backend in BACKENDS}
    methods = {}
    for method in opened[BACKENDS[0]][0].methods("all"):
        given = {"masks": 200} if method == "rise" else {}
        maps = {backend: [e.explain(x, method, -1, **given).raw for e in pair] for backend, pair in opened.items()}
        methods[method] = {backend: distance(*pair) for backend, pair in maps.items()}
    return Maps(methods)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("network", nargs="?", choices=NETWORKS, help="left out: compares maps")
    options = parser.parse_args()
    name = options.network
    single(name or "maps", partial(check, name, options.folder) if name else partial(compare_maps, options.folder))


if __name__ == "__main__":
    main()

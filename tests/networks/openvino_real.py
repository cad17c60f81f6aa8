"""Trained networks, quantised by NNCF with photographs, as OpenVINO IR: the quantised IR against its translation.

    python -m tests.networks.openvino_real FOLDER [NAME ...]     prints the table; scripts/check_openvino writes it to docs/

    python -m tests.networks.openvino_real FOLDER --maps         compares the maps of the IR in weights/openvino_ir with its ONNX's

FOLDER holds weights/NAME.onnx, images/coco/*.jpg for the calibration and images/imagenet_samples/* for the comparison. NNCF has to
be installed. A file that is quantised already is converted as it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from xai_exporters import Request, export

from xai_deploy import Explainer

from .openvino_ir import BACKENDS, distance, int8_table, measured, ov

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


def compare_maps(folder: Path) -> str:
    """Every method's map of one photograph: the IR's bundle against that of the ONNX file, by runtime, as a Markdown table."""
    [source] = (folder / "weights/openvino_ir").glob("*.xml")
    x = NETWORKS[source.stem].images(sorted((folder / "images/imagenet_samples").glob("*.*"))[:1])
    lines = ["| Method | " + " | ".join(BACKENDS) + " |", "|-|-|-|"]
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / file for file in ("ir.xai", "onnx.xai")]
        for path, network in zip(paths, (source, folder / f"weights/{source.stem}.onnx"), strict=True):
            options: dict[str, Any] = {"input_gradient": True, "pixel_relevance": True, "guided": True}
            export(Request(network, output_path=path, preprocess="none", **options))
        opened = {backend: [Explainer(path, backend) for path in paths] for backend in BACKENDS}
        for method in opened[BACKENDS[0]][0].methods("all"):
            given = {"masks": 200} if method == "rise" else {}
            maps = [[e.explain(x, method, -1, **given).raw for e in pair] for pair in opened.values()]
            lines.append(f"| {method} | " + " | ".join(f"{distance(*pair):.1e}" for pair in maps) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--maps", action="store_true")
    options = parser.parse_args()
    if options.maps:
        sys.stdout.write(compare_maps(options.folder) + "\n")
        return
    calibration = sorted((options.folder / "images/coco").glob("*.jpg"))
    samples = sorted((options.folder / "images/imagenet_samples").glob("*.*"))
    results = []
    for name in options.networks or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            network = NETWORKS[name]
            path = converted(options.folder / f"weights/{name}.onnx", network, calibration, Path(folder))
            results.append(measured(name, path, network.images(samples)))
            sys.stderr.write(f"{results[-1]}\n")
    sys.stdout.write(int8_table(results) + "\n")


if __name__ == "__main__":
    main()

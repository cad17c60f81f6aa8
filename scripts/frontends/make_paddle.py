"""Makes networks of paddle.vision with random weights as .pdmodel files, with Paddle's own predictions.

    PYTHON scripts/frontends/make_paddle.py FOLDER NAME...

Run it with a Python that has paddlepaddle. For each network: NAME.pdmodel, NAME.pdiparams, and NAME.npz with images x and scores y.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 (Paddle 3 writes JSON otherwise, which OpenVINO does not read)

import numpy as np
import paddle

SIZE, IMAGES = 64, 4


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        paddle.seed(0)
        rng = np.random.default_rng(0)
        network = getattr(paddle.vision.models, name)()
        network.eval()
        for layer in network.sublayers():
            if isinstance(layer, paddle.nn.BatchNorm2D):
                layer._mean.set_value((rng.normal(size=layer._mean.shape) * 0.1).astype("float32"))
                layer._variance.set_value((rng.random(layer._variance.shape) + 0.5).astype("float32"))
        spec = paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", name="image")
        paddle.jit.save(network, str(folder / name), input_spec=[spec])
        x = rng.normal(size=(IMAGES, 3, SIZE, SIZE)).astype("float32")
        np.savez(folder / f"{name}.npz", x=x, y=network(paddle.to_tensor(x)).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

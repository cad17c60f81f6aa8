"""Makes one of keras.applications with random weights as a TFLite file: scripts/check_memory exports large ones.

    PYTHON scripts/frontends/large.py NAME FILE.tflite

Run it with a Python that has tensorflow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf


def main(name: str, file: Path) -> None:
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

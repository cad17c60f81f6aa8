"""Makes networks of keras.applications with random weights as files, with TensorFlow's own predictions.

    PYTHON scripts/frontends/make.py FOLDER NAME...

Run it with a Python that has tensorflow. For each network: NAME (a SavedModel), NAME.pb (frozen), NAME.tflite and its conversions
to float16, with dynamic ranges and in integers (int8, uint8), and NAME.npz with images x, TensorFlow's scores y, and the gradient
g of the first class at the images (GradientTape). NAME is one of keras.applications, or of small.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import small  # type: ignore[import-not-found]  # beside this script
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

SIZE, IMAGES = 128, 4
PIXELS = ("EfficientNetB0",)  # take pixels of 0 to 255 and normalise inside; the others take -1 to 1
CONVERSIONS = ("", "_float16", "_dynamic", "_int8", "_uint8")


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        keras.utils.set_random_seed(0)
        network = made(name)
        normalise(network)
        network.export(folder / name, verbose=False)
        freeze(network, folder / f"{name}.pb")
        for conversion in () if name in small.WITHOUT_TFLITE else CONVERSIONS:
            (folder / f"{name}{conversion}.tflite").write_bytes(convert(network, name, conversion))
        x = tf.Variable(images(name, 7))
        with tf.GradientTape() as tape:
            y = network(x, training=False)
            first = tf.reduce_sum(y[:, 0])
        np.savez(folder / f"{name}.npz", x=x.numpy(), y=y.numpy(), g=tape.gradient(first, x).numpy())


def made(name: str) -> keras.Model:
    if name in small.NETWORKS:
        return small.NETWORKS[name](SIZE)
    options = {"weights": None, "input_shape": (SIZE, SIZE, 3), "classifier_activation": None, "classes": 10}
    return getattr(keras.applications, name)(**options)


def normalise(network: keras.Model) -> None:
    """Statistics as of a trained network, and a last layer whose scores differ."""
    rng = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = layer.moving_mean, layer.moving_variance
            mean.assign(rng.normal(size=mean.shape) * 0.1)
            variance.assign(rng.random(variance.shape) + 0.5)


def images(name: str, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).random((IMAGES, SIZE, SIZE, 3))
    return (x * 255 if name in PIXELS else x * 2 - 1).astype(np.float32)


def freeze(network: keras.Model, path: Path) -> None:
    spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="image")
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(spec)
    graph = convert_variables_to_constants_v2(function).graph
    tf.io.write_graph(graph, str(path.parent), path.name, as_text=False)


def convert(network: keras.Model, name: str, conversion: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if conversion:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if conversion == "_float16":
        converter.target_spec.supported_types = [tf.float16]
    if conversion in ("_int8", "_uint8"):
        converter.representative_dataset = lambda: ([images(name, seed)[:1]] for seed in range(20))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, conversion[1:])
    return bytes(converter.convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

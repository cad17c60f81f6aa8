"""Small networks of Keras with layers that keras.applications has not, for make.py; random weights.

`Tokens`: attention over patches, a learned place for each. `Rows`: an LSTM over the rows of a map. `Dilated`: a dilated convolution
on a map of fewer than two of its kernels, a split and a shuffle of channels, a depthwise convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

CLASSES = 10


def tokens(size: int) -> keras.Model:
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(24, 16, 16, activation="relu", name="patches")(image)
    count = (size // 16) ** 2
    x = layers.Reshape((count, 24))(x) + layers.Embedding(count, 24)(keras.ops.arange(count))
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 12)(y, y)
    x = x + layers.Dense(24)(layers.Dense(48, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


def rows(size: int) -> keras.Model:
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 7, 8, "same", activation="relu")(image)
    x = layers.Reshape((size // 8, size))(x)  # 8 channels of size / 8 columns
    return keras.Model(image, layers.Dense(CLASSES)(layers.LSTM(12)(x)))


def dilated(size: int) -> keras.Model:
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(16, 9, 8, "same", activation="relu")(image)
    first, second = keras.ops.split(x, 2, axis=-1)
    second = layers.SeparableConv2D(8, 3, padding="same", activation="relu6")(second)
    x = layers.Concatenate()([first, second])
    side = size // 8
    x = layers.Reshape((side, side, 16))(layers.Permute((1, 2, 4, 3))(layers.Reshape((side, side, 2, 8))(x)))
    x = layers.Conv2D(12, 3, dilation_rate=3, padding="valid", activation="elu")(x)
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


WITHOUT_TFLITE = ("Rows",)
"""Its loop needs operators of TensorFlow's, which TFLite's own do not replace."""

NETWORKS: dict[str, Callable[[int], keras.Model]] = {"Tokens": tokens, "Rows": rows, "Dilated": dilated}

"""Networks that are no plain stack of dense layers; the recipes beside this file train them.

hgq train examples/recipes/mnist_lenet.toml --data mnist.npz

Each function gets the shape of one sample and the number of outputs, and returns a Keras model: what ``model.build`` in a recipe asks for.
Data of images and sequences share a multiplier between positions, so their bits are those of a channel, not of an element: the hardware of
a stream needs that, and training is faster.
"""

from __future__ import annotations

import keras

from hgq.layers import QAdd, QConv2D, QDense, QGlobalAveragePooling2D

WEIGHT = "weight(b0=6, adapt_to_magnitude=True, i_bounds=(-6, 8))"
DATA = "data(granularity=channel, i0=1, f0=6)"
BITS = {"kernel_quantizer": WEIGHT, "input_quantizer": DATA}


def lenet(shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Two convolutions with pooling, two dense layers (LeCun et al. 1998), for images of one channel."""
    x = inputs = keras.Input(shape)
    x = keras.layers.Reshape((*shape, 1))(x)
    x = QConv2D(6, 3, 2, activation="relu", **BITS)(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = QConv2D(12, 3, activation="relu", **BITS)(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = QDense(32, "relu", **BITS)(x)
    return keras.Model(inputs, QDense(outputs, **BITS)(x), name="lenet")


def resnet(shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Two residual blocks of two convolutions each (He et al. 2016, arXiv:1512.03385), for images of one channel."""
    x = inputs = keras.Input(shape)
    x = keras.layers.Reshape((*shape, 1))(x)
    x = QConv2D(8, 4, 4, activation="relu", **BITS)(x)
    x = _block(x, 8)
    x = QConv2D(12, 2, 2, activation="relu", **BITS)(keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = _block(x, 12)
    x = QGlobalAveragePooling2D(quantizer=DATA)(x)
    return keras.Model(inputs, QDense(outputs, **BITS)(x), name="resnet")


def _block(x, filters: int):
    y = QConv2D(filters, 3, padding="same", activation="relu", **BITS)(x)
    y = QConv2D(filters, 3, padding="same", **BITS)(y)
    return keras.layers.ReLU()(QAdd(input_quantizers=DATA)([x, y]))

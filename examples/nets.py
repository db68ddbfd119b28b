"""Networks that are no plain stack of dense layers; the recipes beside this file train them.

hgq train examples/recipes/mnist_lenet.toml --data mnist.npz

Each function gets the shape of one sample and the number of outputs, and returns a Keras model: what ``model.build`` in a recipe asks for.
Data of images and sequences share a multiplier between positions, so their bits are those of a channel, not of an element: the hardware of
a stream needs that, and training is faster.
"""

from __future__ import annotations

import keras

from hgq.layers import QGRU, QAdd, QConv2D, QDense, QGlobalAveragePooling2D, QInput, QMaxPooling2D, QMultiHeadAttention, QSum

WEIGHT = "weight(b0=6, adapt_to_magnitude=True, i_bounds=(-6, 8))"
DATA = "data(granularity=channel, i0=1, f0=6)"
BITS = {"kernel_quantizer": WEIGHT, "input_quantizer": DATA}


def lenet(shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Two convolutions with pooling, two dense layers (LeCun et al. 1998), for images of one channel."""
    x = inputs = keras.Input(shape)
    x = keras.layers.Reshape((*shape, 1))(x)
    x = QConv2D(6, 3, 2, activation="relu", **BITS)(x)
    x = QMaxPooling2D(2)(x)
    x = QConv2D(12, 3, activation="relu", **BITS)(x)
    x = QMaxPooling2D(2)(x)
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


def deep_sets(shape: tuple[int, ...], outputs: int) -> keras.Model:
    """The same small network for each particle, a sum over particles, a network for the sum (Zaheer et al. 2017, arXiv:1703.06114)."""
    inputs, x = _particles(shape, 16)
    x = QDense(16, "relu", **BITS)(x)
    x = QDense(16, "relu", **BITS)(x)
    x = QSum(axes=1, scale=0.0625, quantizer=DATA)(x)
    x = QDense(16, "relu", **BITS)(x)
    return keras.Model(inputs, QDense(outputs, **BITS)(x), name="deep_sets")


def attention(shape: tuple[int, ...], outputs: int) -> keras.Model:
    """One head of self-attention between particles (Vaswani et al. 2017, arXiv:1706.03762), then a sum over them."""
    inputs, x = _particles(shape, 8)
    x = QDense(8, "relu", **BITS)(x)
    y = QMultiHeadAttention(num_heads=1, key_dim=4)(x, x)
    x = QAdd(input_quantizers=DATA)([x, y])
    x = QSum(axes=1, scale=0.125, quantizer=DATA)(x)
    x = QDense(16, "relu", **BITS)(x)
    return keras.Model(inputs, QDense(outputs, **BITS)(x), name="attention")


def gru(shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Particles read one after the other by gated recurrent units (Cho et al. 2014, arXiv:1406.1078), unrolled in hardware."""
    inputs, x = _particles(shape, 8)
    x = QGRU(8, kernel_quantizer=WEIGHT, recurrent_quantizer=WEIGHT)(x)
    return keras.Model(inputs, QDense(outputs, **BITS)(x), name="gru")


def _particles(shape: tuple[int, ...], count: int):
    """The `count` hardest particles of each jet; they come sorted."""
    inputs = keras.Input(shape)
    return inputs, keras.layers.Cropping1D((0, shape[0] - count))(QInput(DATA)(inputs))

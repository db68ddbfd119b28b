"""Depthwise, separable, transposed and normalised convolutions compute what the stock layers compute on quantized numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.layers import (
    QConv1DTranspose,
    QConv2DBatchNorm,
    QConv2DTranspose,
    QConv3DTranspose,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
    QDepthwiseConv2DBatchNorm,
    QSeparableConv1D,
    QSeparableConv2D,
)
from tests.layers.test_layers import FINE, trained

RNG = np.random.default_rng(41)
NAMES = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias", "depth_multiplier", "output_padding")
CASES = {
    "depthwise_1d": (lambda: QDepthwiseConv1D(3, 2, "same", activation="relu"), (7, 3)),
    "depthwise_1d_multiplied": (lambda: QDepthwiseConv1D(2, depth_multiplier=3, use_bias=False), (5, 2)),
    "depthwise_2d": (lambda: QDepthwiseConv2D((3, 2), padding="same", depth_multiplier=2), (5, 4, 3)),
    "depthwise_2d_dilated": (lambda: QDepthwiseConv2D(2, dilation_rate=2), (5, 4, 3)),
    "transposed_1d": (lambda: QConv1DTranspose(2, 3, 2, activation="relu"), (4, 3)),
    "transposed_1d_gaps": (lambda: QConv1DTranspose(2, 2, 3, "same"), (4, 3)),
    "transposed_1d_gaps_valid": (lambda: QConv1DTranspose(2, 1, 3), (4, 3)),
    "transposed_1d_even": (lambda: QConv1DTranspose(2, 4, 2, "same"), (3, 2)),
    "transposed_1d_padded_valid": (lambda: QConv1DTranspose(2, 3, 3, output_padding=2), (4, 2)),
    "transposed_2d": (lambda: QConv2DTranspose(2, (3, 2), (2, 1), "same", use_bias=False), (3, 4, 2)),
    "transposed_2d_padded": (lambda: QConv2DTranspose(2, 3, 2, "same", output_padding=1), (3, 4, 2)),
    "transposed_2d_padded_zero": (lambda: QConv2DTranspose(2, (3, 5), 2, "same", output_padding=0), (3, 4, 2)),
    "transposed_3d": (lambda: QConv3DTranspose(2, 2, 2, "same"), (2, 3, 2, 2)),
}


def twin_of(layer, shape):
    config = layer.get_config()
    twin = getattr(keras.layers, type(layer).__name__[1:])(**{name: config[name] for name in NAMES if name in config})
    twin.build((None, *shape))
    return twin


@pytest.mark.parametrize("name", CASES)
def test_computes_what_the_stock_layer_computes_on_quantized_numbers(name):
    make, shape = CASES[name]
    layer = trained(make(), shape)
    twin = twin_of(layer, shape)
    x = RNG.normal(0.5, 2, (50, *shape)).astype(np.float32)
    kernel = layer.kernel_quantizer(layer.arranged(layer.kernel)).numpy()
    if "transposed" in name:
        kernel = np.swapaxes(np.flip(kernel, tuple(range(layer.rank))), -1, -2)
    twin.kernel.assign(kernel.reshape(twin.kernel.shape))
    if layer.use_bias:
        twin.bias.assign(layer.bias_quantizer(layer.bias.value))
    y = twin(layer.input_quantizer(x))
    np.testing.assert_allclose(layer(x).numpy(), y.numpy(), atol=1e-5)
    assert layer.compute_output_shape((None, *shape)) == (None, *y.shape[1:])


@pytest.mark.parametrize(("padding", "low"), [("valid", 0), ("same", 2)])
def test_dilated_transposed_convolution_is_its_formula(padding, low):
    """TensorFlow has none on a CPU: element i with tap t falls on output ``i + 2 t - low``."""
    layer = trained(QConv1DTranspose(2, 3, padding=padding, dilation_rate=2), (5, 2))
    x = layer.input_quantizer(RNG.normal(0.5, 2, (20, 5, 2)).astype(np.float32)).numpy()
    kernel = np.flip(layer.kernel_quantizer(layer.arranged(layer.kernel)).numpy(), 0)
    y = np.zeros((20, 9, 2), np.float32)
    for i, t in np.ndindex(5, 3):
        y[:, i + 2 * t] += x[:, i] @ kernel[t]
    y = y[:, low : 9 - low] + layer.bias_quantizer(layer.bias.value).numpy()
    np.testing.assert_array_equal(layer(x), y)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: QSeparableConv1D(3, 2, depth_multiplier=2), (6, 2)), (lambda: QSeparableConv2D(2, 3, 2, "same"), (5, 5, 2))],
)
def test_separable_is_that_of_keras_in_the_limit_of_many_bits(make, shape):
    layer = make()
    fine = ("depthwise_quantizer", "pointwise_quantizer", "bias_quantizer", "input_quantizer", "intermediate_quantizer")
    layer = type(layer).from_config({**layer.get_config(), **dict.fromkeys(fine, FINE), "bias_initializer": "ones"})
    x = RNG.normal(size=(20, *shape)).astype(np.float32)
    y = layer(x)
    twin = twin_of(layer, shape)
    twin.set_weights([layer.depthwise.kernel, layer.pointwise.kernel, layer.pointwise.bias])
    np.testing.assert_allclose(y, twin(x), atol=2e-3)


@pytest.mark.parametrize(
    ("make", "stock"),
    [
        (
            lambda **q: QConv2DBatchNorm(3, 2, epsilon=0.05, momentum=0.7, **q),
            lambda: keras.layers.Conv2D(3, 2, use_bias=False),
        ),
        (
            lambda **q: QDepthwiseConv2DBatchNorm(2, depth_multiplier=2, epsilon=0.05, momentum=0.7, **q),
            lambda: keras.layers.DepthwiseConv2D(2, depth_multiplier=2, use_bias=False),
        ),
    ],
)
def test_batch_norm_forms_are_the_convolution_then_batch_norm(make, stock):
    x = RNG.normal(1, 2, (100, 4, 4, 2)).astype(np.float32)
    ours = make(kernel_quantizer=FINE, bias_quantizer=FINE, input_quantizer=FINE)
    ours.build((None, 4, 4, 2))
    conv, norm = stock(), keras.layers.BatchNormalization(epsilon=0.05, momentum=0.7)
    channels = norm(conv(x)).shape[-1]
    conv.kernel.assign(ours.kernel)
    for own, other in ((ours.gamma, norm.gamma), (ours.offset, norm.beta)):
        own.assign(np.linspace(-1, 2, channels))
        other.assign(own)
    for _ in range(3):
        np.testing.assert_allclose(ours(x, training=True), norm(conv(x), training=True), atol=4e-3)
    np.testing.assert_allclose(ours.moving_variance, norm.moving_variance, rtol=1e-3)
    np.testing.assert_allclose(ours(x), norm(conv(x)), atol=4e-3)
    before = ours.moving_mean.numpy()
    ours.trainable = False
    ours(x + 9, training=True)
    np.testing.assert_array_equal(ours.moving_mean, before)


def test_channel_granularity_of_a_depthwise_kernel_means_its_outputs():
    layer = QDepthwiseConv2D(3, depth_multiplier=2, kernel_quantizer="kbi(granularity=channel)")
    layer.build((None, 5, 5, 3))
    assert layer.kernel.shape == (3, 3, 3, 2)
    assert layer.kernel_quantizer._b.shape == (1, 1, 1, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QDepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier is the number of outputs"),
        (lambda: QConv2DTranspose(2, 3, 2, output_padding=2), r"padding means nothing[\s\S]*less than the strides"),
        (lambda: QConv1DTranspose(2, 3, padding="causal"), "padding means nothing"),
        (lambda: QConv2DTranspose(2, 3).build((None, 8, 8)), "an input of 4 axes"),
        (lambda: QSeparableConv2D(2, 3, intermediate_quantizer=None), "needs its input_quantizer"),
        (lambda: QConv2DBatchNorm(2, 3, use_bias=False), "use_bias"),
        (lambda: QConv2DBatchNorm(2, 3, parallelization_factor=5).build((None, 4, 5, 1)), r"take turns[\s\S]*6 positions: 1, 2, 3, 6"),
        (lambda: QConv2DTranspose(2, 3, parallelization_factor=0).build((None, 1, 1, 1)), r"take turns[\s\S]*9 positions: 1, 3, 9"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        make()

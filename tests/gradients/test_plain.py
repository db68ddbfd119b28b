"""Keras' own layers with gradients on few bits: the same values and weights, other gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import packing
from hgq.layers import QDense, with_gradients
from hgq.layers.plain import STOCK, GradientDense
from tests.gradients.bounds import deviation_and_bound
from tests.gradients.saving import check_goes_on_the_same

RNG = np.random.default_rng(31)

LAYERS = {
    "dense": (lambda: keras.layers.Dense(5, "relu"), (24, 6)),
    "positions": (lambda: keras.layers.Dense(5, use_bias=False), (6, 4, 6)),
    "conv1d": (lambda: keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (6, 7, 3)),
    "conv2d": (lambda: keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), (6, 5, 5, 2)),
    "conv3d": (lambda: keras.layers.Conv3D(2, 2), (4, 3, 3, 3, 2)),
    "depthwise1d": (lambda: keras.layers.DepthwiseConv1D(3, depth_multiplier=2), (6, 7, 3)),
    "depthwise2d": (lambda: keras.layers.DepthwiseConv2D(3, activation="tanh"), (6, 5, 5, 2)),
    "einsum": (lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (6, 4, 6)),
    "kept": (lambda: keras.layers.EinsumDense("abc,bcd->abd", (4, 3)), (6, 4, 6)),
}


def pair(make, shape, scheme):
    keras.utils.set_random_seed(8)
    model = keras.Sequential([keras.Input(shape[1:]), make()])
    for variable in model.variables:
        variable.assign(RNG.normal(size=variable.shape) * 0.5)
    return model, with_gradients(model, scheme)


def gradients_of(model, x, target):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.square(model(x, training=True) - target))
    return tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])


@pytest.mark.parametrize("name", LAYERS)
def test_values_are_the_same_bits_and_gradients_unbiased(name):
    """Power: as in test_layers."""
    make, shape = LAYERS[name]
    model, copy = pair(make, shape, "luq4")
    assert type(copy.layers[0]) is STOCK[type(model.layers[0])]
    assert [(v.name, v.shape) for v in copy.layers[0].trainable_variables] == [
        (v.name, v.shape) for v in model.layers[0].trainable_variables
    ]
    x = tf.constant(RNG.normal(size=shape).astype(np.float32))
    for training in (False, True):
        np.testing.assert_array_equal(copy(x, training=training), model(x, training=training))
    target = tf.constant(RNG.normal(size=model(x).shape).astype(np.float32))
    expected = [part.numpy() for part in gradients_of(model, x, target)]
    step, draws = tf.function(lambda: gradients_of(copy, x, target)), 200
    values = [[part.numpy().astype(np.float64) for part in step()] for _ in range(draws)]
    for number, exact in enumerate(expected):
        stacked = np.stack([value[number] for value in values])
        spread, bound = deviation_and_bound(stacked)
        assert np.linalg.norm(stacked.mean(0) - exact) <= bound + 1e-4 * np.linalg.norm(exact)
        assert spread > 0 or number == 2  # the bias gets its gradient from behind


@pytest.mark.parametrize("jit", [True, False])
def test_fit_save_and_go_on(tmp_path, jit):
    def copy():
        keras.utils.set_random_seed(9)
        conv = keras.layers.Conv2D(4, 3, activation="relu", name="conv")
        dense = [keras.layers.Dense(8, "relu", name="dense"), keras.layers.Dense(2, name="last")]
        model = keras.Sequential([keras.Input((8, 8, 1)), conv, keras.layers.Flatten(), *dense])
        found = with_gradients(model, lambda place: "hlq" if place.name == "conv" else None if place.name == "last" else "luq4")
        found.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(True), jit_compile=jit)
        return found

    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 256)
    x = (rng.normal(size=(256, 8, 8, 1)) + np.where(y == 1, 0.4, -0.4)[:, None, None, None]).astype(np.float32)
    model = copy()
    assert [type(layer).__name__ for layer in model.layers] == ["GradientConv2D", "Flatten", "GradientDense", "Dense"]
    losses = model.fit(x, y, 32, 3, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    check_goes_on_the_same(model, tmp_path, x, y, 1)


def test_what_is_not_float32_or_not_channels_last_is_refused():
    with pytest.raises(ConfigError, match="start from float32"):
        GradientDense(3, gradients="luq4", dtype="mixed_bfloat16")
    with pytest.raises(ConfigError, match="Channels come last"):
        STOCK[keras.layers.Conv2D](3, 3, data_format="channels_first")


def test_stock_and_quantized_layers_mix():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), QDense(3)])
    copy = with_gradients(model, "int4")
    assert [layer.backward.scheme.bits for layer in copy.layers] == [4, 4]
    x = RNG.normal(size=(5, 6)).astype(np.float32)
    np.testing.assert_array_equal(copy(x), model(x))


@pytest.mark.parametrize(("bits", "count"), [(1, 37), (2, 9), (4, 15), (4, 16)])
def test_packing_is_undone_and_is_small(bits, count):
    codes = RNG.integers(0, 2**bits, (count, 3))
    held = packing.packed(tf.constant(codes), bits)
    assert held.dtype == tf.uint8 and held.shape[0] == -(-codes.size * bits // 8)
    np.testing.assert_array_equal(packing.unpacked(held, bits, codes.shape), codes)


def test_the_compact_relu_is_relu():
    x = tf.constant(np.array([-1.0, -0.0, 0.0, 1e-30, 2.0, np.inf], np.float32))
    found = []
    for function in (tf.nn.relu, packing.relu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append((y.numpy(), tape.gradient(y, x, output_gradients=tf.range(1.0, 7.0)).numpy()))
    np.testing.assert_array_equal(*(pair[0] for pair in found))
    np.testing.assert_array_equal(*(pair[1] for pair in found))

"""Native ops of layers against TensorFlow's own: whole numbers, whose sums are exact in any order, to the last bit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hgq import native
from hgq.layers import QConv1D, QConv2D, QDense, QMaxPooling2D, native_dense, native_relu, native_windows
from hgq.layers.conv import convolve

pytestmark = pytest.mark.skipif(native.instructions() is None, reason="no native ops here")


def whole(rng: np.random.Generator, *shape: int) -> tf.Tensor:
    return tf.constant(rng.integers(-9, 10, shape).astype(np.float32))


@st.composite
def geometries(draw) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes of data and kernel, and strides, of one or two axes."""
    axes = draw(st.integers(1, 2))
    taps = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    sizes = tuple(tap + draw(st.integers(0, 9)) for tap in taps)
    channels, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    return (draw(st.integers(0, 5)), *sizes, channels), (*taps, channels, outputs), tuple(draw(st.integers(1, 3)) for _ in range(axes))


@settings(deadline=None, max_examples=60)
@given(geometry=geometries(), seed=st.integers(0, 2**16))
def test_convolutions_and_their_gradients_are_tensorflows(geometry, seed):
    shape, taps, strides = geometry
    rng = np.random.default_rng(seed)
    x, kernel = whole(rng, *shape), whole(rng, *taps)
    results = []
    for function in (native_windows.convolve, lambda x, kernel, strides: tf.nn.convolution(x, kernel, strides, "VALID")):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel, strides)
        weights = whole(np.random.default_rng(seed + 1), *y.shape)
        results.append([y, *(tape.gradient(y, [x, kernel], weights) if shape[0] else [])])
    for own, peer in zip(*results, strict=True):
        np.testing.assert_array_equal(own, peer)


@settings(deadline=None, max_examples=30)
@given(geometry=geometries(), seed=st.integers(0, 2**16))
def test_gradients_of_a_max_pooling_and_their_gradients_go_where_tensorflow_sends_them(geometry, seed):
    shape, (*pool, _, _), strides = geometry
    rng = np.random.default_rng(seed)
    x = tf.nn.relu(whole(rng, max(1, shape[0]), *shape[1:]))  # many are greatest at once
    above = whole(np.random.default_rng(seed + 1), *x.shape)
    results = []
    for function in (native_windows.max_pool, lambda x, pool, strides: tf.nn.max_pool(x, pool, strides, "VALID")):
        with tf.GradientTape() as second:
            second.watch(x)
            with tf.GradientTape() as first:
                first.watch(x)
                y = function(x, tuple(pool), strides)
                loss = tf.reduce_sum(whole(np.random.default_rng(seed + 2), *y.shape) * y**2)
            of_x = first.gradient(loss, x)
        results.append([y, of_x, second.gradient(of_x, x, above)])
    for own, peer in zip(*results, strict=True):
        np.testing.assert_array_equal(own, peer)


def test_gradients_of_gradients():
    rng = np.random.default_rng(3)
    x, kernel = whole(rng, 2, 5, 6, 3), whole(rng, 2, 3, 3, 4)

    def second(function):
        with tf.GradientTape() as outer:
            outer.watch([x, kernel])
            with tf.GradientTape() as inner:
                inner.watch([x, kernel])
                y = tf.reduce_sum(function(x, kernel) ** 2)
            loss = tf.add_n([tf.reduce_sum(part**2) for part in inner.gradient(y, [x, kernel])])
        return outer.gradient(loss, [x, kernel])

    plain = {"strides": (2, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}
    peers = second(lambda x, kernel: convolve(x, kernel, **plain, exact=True))  # by matrix products
    for own, peer in zip(second(lambda x, kernel: native_windows.convolve(x, kernel, (2, 1))), peers, strict=True):
        np.testing.assert_allclose(own, peer, rtol=1e-6)  # squares of sums no longer fit into 24 bits


def test_shapes_are_known_in_a_graph_and_operands_that_do_not_fit_are_refused():
    with native.in_graphs():
        traced = tf.function(lambda x, k: native_windows.convolve(x, k, (2,))).get_concrete_function(
            tf.TensorSpec((None, 9, 3)), tf.TensorSpec((2, 3, 5))
        )
    assert traced.structured_outputs.shape.as_list() == [None, 4, 5]
    with pytest.raises(tf.errors.InvalidArgumentError, match="do not fit"):
        native_windows.convolve(tf.zeros((1, 5, 5, 3)), tf.zeros((3, 3, 2, 4)), (1, 1))


@pytest.mark.parametrize("rank", [1, 2])
def test_training_takes_the_same_steps_with_and_without(rank, monkeypatch):
    """Layers of both kinds for a few steps: losses to the rounding of sums, and predictions bit for bit those of the same weights."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(32, *(9,) * rank, 2)).astype(np.float32)
    y = rng.normal(size=(32, 1)).astype(np.float32)

    def losses() -> list[float]:
        keras.utils.set_random_seed(5)
        layer, pool = (QConv1D, keras.layers.MaxPooling1D) if rank == 1 else (QConv2D, QMaxPooling2D)
        model = keras.Sequential([keras.Input(x.shape[1:]), layer(5, 3, activation="relu"), pool(2), keras.layers.Flatten(), QDense(1)])
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
        with native.in_graphs():
            return model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]

    own = losses()
    monkeypatch.setattr(native_windows, "convolve", lambda *_: None)
    monkeypatch.setattr(native_windows, "max_pool", lambda *_: None)
    monkeypatch.setattr(native_dense, "dense", lambda *_: None)
    np.testing.assert_allclose(own, losses(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 6, 20), (4001, 64), (0, 3)])
def test_the_gradient_of_a_relu_and_its_bias(shape):
    rng = np.random.default_rng(6)
    y, bias, weights = whole(rng, *shape), whole(rng, shape[-1]), whole(rng, *shape)
    results = []
    for function in (native_relu.bias_relu, lambda y, bias: tf.nn.relu(tf.nn.bias_add(y, bias))):
        with tf.GradientTape() as second:
            second.watch(bias)
            with tf.GradientTape() as first:
                first.watch([y, bias])
                z = function(y, bias)
                loss = tf.reduce_sum(weights * z**2)
            of_y, of_bias = first.gradient(loss, [y, bias])
        results.append([z, of_y, of_bias, second.gradient(of_bias, bias)])
    for own, peer in zip(*results, strict=True):
        np.testing.assert_array_equal(own, peer)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.booleans(), st.integers(0, 99))
def test_dense_layers_and_their_first_and_second_gradients_are_tensorflows(rows, inputs, outputs, biased, relu, seed):
    rng = np.random.default_rng(seed)
    x, kernel, bias = whole(rng, 2, rows, inputs), whole(rng, inputs, outputs), whole(rng, outputs)
    arguments = [x, kernel, bias] if biased else [x, kernel]
    relu = relu and biased

    def reference(x, kernel, bias=None, relu=False):
        y = tf.matmul(tf.reshape(x, (-1, inputs)), kernel)
        y = tf.reshape(y if bias is None else y + bias, (2, rows, outputs))
        return tf.nn.relu(y) if relu else y

    results = []
    for function in (native_dense.dense, reference):
        with tf.GradientTape() as second:
            second.watch(arguments)
            with tf.GradientTape() as first:
                first.watch(arguments)
                y = function(*arguments, relu=relu)
                loss = tf.reduce_sum(whole(np.random.default_rng(seed), *y.shape) * y)
            ones = first.gradient(loss, arguments)
            total = tf.add_n([tf.reduce_sum(whole(np.random.default_rng(seed + 1), *g.shape) * g) for g in ones])
        results.append([y, *ones, *second.gradient(total, arguments[:2])])
    for own, peer in zip(*results, strict=True):
        np.testing.assert_array_equal(own, peer)

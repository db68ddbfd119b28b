"""Four bits by the moments of the values, against the formula in NumPy, and as layers use them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import quantizers
from hgq.errors import ConfigError, FreezeError
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import QDense, with_gradients
from hgq.numerics import Fixed

RNG = np.random.default_rng(41)


def clip_of(x, c1, c2):
    clip = c1 * np.sqrt((x.astype(np.float64) ** 2).mean()) - c2 * np.abs(x.astype(np.float64)).mean()
    return clip if clip > 0 else np.abs(x).max()


def by_formula(x, scale, low, high):
    return np.clip(np.floor(x / scale + 0.5), low, high) * scale


@pytest.mark.parametrize(("coefficients", "c1", "c2"), [("sawb", 12.68, 12.80), ("luq", 12.1, 12.2)])
@pytest.mark.parametrize("scale", ["po2", "real"])
def test_weights_follow_the_formula(coefficients, c1, c2, scale):
    w = RNG.laplace(0, 0.2, (40, 5)).astype(np.float32)
    step = clip_of(w, c1, c2) / 7
    if scale == "po2":
        step = 2.0 ** np.rint(np.log2(step))
    quantizer = quantizers.get(f"sawb4(coefficients={coefficients}, scale={scale})", "weight")
    quantizer.build_for(tf.Variable(w))
    x = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(x)
        q = quantizer(x, training=True)
    np.testing.assert_allclose(q, by_formula(w, step, -7, 7), rtol=1e-6)
    assert 10 <= len(np.unique(q)) <= 15
    upstream = RNG.normal(size=w.shape).astype(np.float32)
    inside = np.abs(w) <= 7 * step
    assert 0 < (~inside).mean() < 0.2
    np.testing.assert_array_equal(tape.gradient(q, x, upstream), np.where(inside, upstream, 0))
    codes = np.rint(np.asarray(q) / step).astype(np.int64)
    np.testing.assert_array_equal(quantizer.effective_bits(w), Fixed.minimal(codes, 0).width)


def test_zeros_are_zero():
    quantizer = quantizers.get("sawb4", "weight")
    quantizer.build_for(tf.Variable(np.zeros((3, 2), np.float32)))
    np.testing.assert_array_equal(quantizer(np.zeros((3, 2), np.float32)), 0)


def test_almost_equal_magnitudes_fall_back():
    """E x² of equal magnitudes is (E|x|)², and c1 - c2 is negative; then the greatest magnitude is the clip."""
    w = np.float32([[0.5, -0.5], [0.5, 0.5]])
    quantizer = quantizers.get("sawb4(scale=real)", "weight")
    quantizer.build_for(tf.Variable(w))
    np.testing.assert_allclose(quantizer(w), w, rtol=1e-6)


def test_data_follow_moving_averages_and_become_signed_once():
    quantizer = quantizers.get("sawb4(scale=real, momentum=0.75)", "data")
    quantizer.build((None, 6))
    square = magnitude = None
    for number, sign in enumerate((1, 1, -1)):
        x = np.abs(RNG.normal(size=(50, 6))).astype(np.float32)
        x[0, 0] *= sign
        new = (x.astype(np.float64) ** 2).mean(), np.abs(x).mean()
        square, magnitude = new if number == 0 else (0.75 * square + 0.25 * new[0], 0.75 * magnitude + 0.25 * new[1])
        q = quantizer(x, training=True).numpy()
        clip = 12.68 * np.sqrt(square) - 12.80 * magnitude
        low, high = (0, 15) if sign > 0 else (-7, 7)
        np.testing.assert_allclose(q, by_formula(x, clip / high, low, high), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(quantizer(x, training=False), q)


@pytest.mark.parametrize("jit", [True, False])
def test_a_network_in_four_bits_trains_and_freezes_exactly(jit):
    keras.utils.set_random_seed(3)
    four = {"kernel_quantizer": "sawb4", "input_quantizer": "sawb4"}
    model = keras.Sequential([keras.Input((6,)), QDense(16, "relu", **four), QDense(8, "relu", **four), QDense(2, **four)])
    model = with_gradients(model, "luq4")
    x = RNG.normal(size=(512, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(True), jit_compile=jit)
    losses = model.fit(x, y, 64, 15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    graph = freeze(model, x)
    data = np.concatenate([x, 5 * x])
    (port,) = graph.inputs
    (golden,) = run(graph, {port.name: data}).values()
    np.testing.assert_array_equal(golden, model.predict(data, verbose=0))
    formats = [layer.input_quantizer.format() for layer in model.layers]
    assert [int(fixed.k.flat[0]) for fixed in formats] == [1, 0, 0] and all((fixed.width == 4).all() for fixed in formats)


def test_a_real_scale_does_not_freeze():
    for argument in ("kernel_quantizer", "input_quantizer"):
        model = keras.Sequential([keras.Input((4,)), QDense(3, **{argument: "sawb4(scale=real)"})])
        x = RNG.normal(size=(20, 4)).astype(np.float32)
        model(x, training=True)
        with pytest.raises(FreezeError, match=r"real scale is no fixed-point number[\s\S]*scale=\"po2\""):
            freeze(model, x)


def test_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((4,)), QDense(3, kernel_quantizer="sawb4(coefficients=luq)", input_quantizer="sawb4")])
    x = RNG.normal(size=(20, 4)).astype(np.float32)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.layers[0].kernel_quantizer.coefficients == "luq"


def test_unknown_arguments():
    for text, message in (("sawb4(scale=float)", "Unknown scale"), ("sawb4(coefficients=best)", "Unknown coefficients")):
        with pytest.raises(ConfigError, match=message):
            quantizers.get(text, "weight")

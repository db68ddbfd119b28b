"""Binary and ternary quantizers against their formulas in NumPy, and as layers use them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import plugins, quantizers
from hgq.errors import ConfigError
from hgq.estimate.ebops import ebops_of
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import QActivation, QConv1D, QDense, total_ebops
from hgq.numerics import Fixed
from hgq.quantizers import Quantizer, register_quantizer

RNG = np.random.default_rng(5)
LN2 = np.log(2.0)


def built(identifier, place, shape=(7, 5), constant=None):
    quantizer = quantizers.get(identifier, place)
    quantizer.build_for(constant) if constant is not None else quantizer.build(shape)
    return quantizer


def gradients(quantizer, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        q = quantizer(x, training=True)
    return q.numpy(), [g.numpy() for g in tape.gradient(q, [x, *(v.value for v in quantizer.trainable_variables)], upstream)]


@pytest.mark.parametrize("granularity", ["element", "channel", "tensor"])
def test_binary_weights(granularity):
    w = RNG.normal(0, 0.3, (7, 5)).astype(np.float32)
    w[0, 0], w[1, 1] = 0.0, -0.0
    axes = {"element": (), "channel": 0, "tensor": (0, 1)}[granularity]
    q = built(f"binary(granularity={granularity})", "weight", constant=tf.Variable(w))
    mean = np.abs(w).mean(axes, keepdims=True)
    s = np.exp2(np.rint(np.log2(np.where(mean > 0, mean, 1))))
    upstream = RNG.normal(size=w.shape).astype(np.float32)
    y, (d_w, d_e) = gradients(q, w, upstream)
    np.testing.assert_array_equal(y, np.where(w >= 0, s, -s))
    np.testing.assert_array_equal(d_w, upstream)
    np.testing.assert_allclose(d_e, LN2 * (upstream * y).sum(axes, keepdims=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(q.effective_bits(w), 1)


def test_binary_data():
    x = np.float32([[-2, -0.5, -0.25, -1e-9, 0.0, 0.1, 0.5, 3]]).T
    q = built("binary(e0=-1, granularity=tensor)", "data", (None, 1))
    y, (d_x, d_e) = gradients(q, x, np.ones_like(x))
    np.testing.assert_array_equal(y[:, 0], [-0.5] * 4 + [0.5] * 4)
    np.testing.assert_array_equal(d_x[:, 0], [0, 1, 1, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(d_e, [[LN2 * y.sum()]], atol=1e-6)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_ternary_weights_start_as_twn(granularity):
    w = RNG.normal(0, 0.3, (40, 5)).astype(np.float32)
    axes = {"channel": 0, "tensor": (0, 1)}[granularity]
    q = built(f"ternary(granularity={granularity})", "weight", constant=tf.Variable(w))
    threshold = 0.7 * np.abs(w.astype(np.float64)).mean(axes, keepdims=True)
    kept = np.abs(w) > threshold
    s = np.exp2(np.rint(np.log2((np.abs(w) * kept).sum(axes, keepdims=True) / kept.sum(axes, keepdims=True))))
    upstream, d_bits = RNG.normal(size=(2, *w.shape)).astype(np.float32)
    y, (d_w, d_e, d_t) = gradients(q, w, upstream)
    np.testing.assert_array_equal(y, np.where(kept, np.copysign(s, w), 0))
    near = np.abs(np.abs(w) - threshold) <= s / 2
    np.testing.assert_array_equal(d_w, upstream)
    np.testing.assert_allclose(d_e, LN2 * (upstream * y).sum(axes, keepdims=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(d_t, (-s * np.sign(w) * upstream * near).sum(axes, keepdims=True), rtol=1e-4, atol=1e-5)
    with tf.GradientTape() as tape:
        bits = q.effective_bits(tf.constant(w))
    np.testing.assert_array_equal(bits, kept)
    shared = w.size / threshold.size
    np.testing.assert_allclose(
        tape.gradient(bits, q._t.value, d_bits), -(d_bits * near).sum(axes, keepdims=True) / np.sqrt(shared), rtol=1e-4, atol=1e-5
    )


def test_the_ramp_is_the_mean_slope_of_the_step():
    """Averaged over weights spread evenly, the surrogate of dq/dt is what moving t really does."""
    w = np.linspace(0, 4, 40001, dtype=np.float32)[:, None]
    q = built("ternary(e0=0, t0=0.75)", "weight", w.shape)
    _, (_, _, d_t) = gradients(q, w, np.ones_like(w))
    q._t.assign(q._t + 0.25)
    high = q(w).numpy().sum()
    q._t.assign(q._t - 0.5)
    assert float(d_t[0, 0]) == pytest.approx((high - q(w).numpy().sum()) / 0.5, rel=1e-3)


def test_ternary_data_rounds():
    x = np.float32([[-9, -2.9, -1.01, -1, -0.3, 0, 0.99, 1, 2, 3, 3.01]]).T
    q = built("ternary(e0=1)", "data", (None, 1))
    y, (d_x, d_e) = gradients(q, x, np.ones_like(x))
    np.testing.assert_array_equal(y[:, 0], [-2, -2, -2, 0, 0, 0, 0, 2, 2, 2, 2])
    np.testing.assert_array_equal(d_x[:, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(d_e, [[LN2 * y.sum()]], rtol=1e-5)
    fixed = q.format()
    np.testing.assert_array_equal(y, fixed.value(fixed.quantize(x, "RND", "SAT_SYM")))


KINDS = [
    "binary",
    "ternary",
    "binary(granularity=element)",
    "ternary(granularity=tensor, t0=0.3)",
    "minifloat",
    "minifloat(m=1, e=2)",
    "po2",
]


def scattered(model):
    for v in model.trainable_variables:
        name = v.path.rsplit("/", 1)[-1]
        spread = {"kernel": 0.5, "bias": 0.5, "f": 1.0, "e": 0.6, "m": 0.8, "e0": 0.8, "t": 0.1}.get(name)
        if spread:
            v.assign(v.numpy() + RNG.normal(0, spread, v.shape))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_frozen_exactly(kind):
    dense = QDense(4, kernel_quantizer=kind, bias_quantizer=kind)
    layers = [QConv1D(3, 2, activation="relu", kernel_quantizer=kind), keras.layers.Flatten(), dense]
    model = scattered(keras.Sequential([keras.Input((5, 3)), *layers]))
    x = RNG.normal(0, 2, (300, 5, 3)).astype(np.float32)
    check_chain(model, x)
    kernel = layers[2].kernel_quantizer
    mantissa, fixed = kernel.quantized_constant(layers[2].kernel.numpy())
    np.testing.assert_array_equal(fixed.value(mantissa), kernel(layers[2].kernel))
    np.testing.assert_array_equal(kernel.effective_bits(layers[2].kernel), Fixed.minimal(mantissa, fixed.f).width)


@pytest.mark.parametrize("kind", ["binary", "ternary", "binary(granularity=element)", "ternary(granularity=channel, e0=1)"])
def test_data_are_frozen_exactly(kind):
    layers = [QDense(6), QActivation("linear", kind), QDense(5, input_quantizer=kind, output_quantizer=kind), QDense(3)]
    model = scattered(keras.Sequential([keras.Input((4,)), *layers]))
    check_chain(model, np.round(RNG.normal(0, 2, (300, 4)) * 4).astype(np.float32) / 4)
    first = scattered(keras.Sequential([keras.Input((4,)), QDense(6, input_quantizer=kind)]))
    check_chain(first, RNG.normal(0, 2, (300, 4)).astype(np.float32))


def check_chain(model, x):
    graph = freeze(model, x[:100], optimize=False)
    (golden,) = run(graph, x).values()
    assert np.unique(golden).size > 2
    np.testing.assert_array_equal(golden, model.predict(x, verbose=0))
    (rtl,) = plugins.backend("rtl").comb_predict(graph, {graph.inputs[0].name: x}).values()
    np.testing.assert_array_equal(rtl, golden)
    assert ebops_of(graph) == total_ebops(model)


def test_training_charges_a_quantizer_of_data():
    layer = QActivation("linear", "binary")
    layer(np.zeros((2, 3, 4), np.float32), training=True)
    assert float(layer.ebops.numpy()) == 12
    assert len(layer.losses) == 1


@pytest.mark.parametrize(
    "kind",
    [
        "binary",
        "ternary",
        "minifloat",
        "po2",
    ],
)
def test_a_network_learns_with_them_and_is_saved(kind, tmp_path):
    x = RNG.normal(size=(512, 8)).astype(np.float32)
    y = (x @ RNG.normal(size=(8, 3))).argmax(1)
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((8,)), QDense(24, "relu", kernel_quantizer=kind), QDense(3, kernel_quantizer=kind)])
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(x, y, epochs=15, batch_size=64, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.8
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.layers[0].kernel_quantizer.get_config() == model.layers[0].kernel_quantizer.get_config()


def test_a_quantizer_of_ones_own_is_one_class():
    @register_quantizer("thirds")
    @keras.saving.register_keras_serializable(package="tests")
    class Thirds(Quantizer):
        places = ("weight", "bias")

        def call(self, inputs, training=None):
            return tf.round(inputs * 2.0) / 4.0

    try:
        model = scattered(keras.Sequential([keras.Input((4,)), QDense(3, kernel_quantizer="thirds", bias_quantizer="thirds")]))
        check_chain(model, RNG.normal(0, 2, (100, 4)).astype(np.float32))
        with pytest.raises(ConfigError, match=r"Thirds has no exact[\s\S]*'weight' or 'bias'"):
            QDense(3, input_quantizer="thirds")
    finally:
        del quantizers.QUANTIZERS["thirds"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantizers.get("binary(i0=3)"), r"no argument 'i0'[\s\S]*e_bounds"),
        (lambda: quantizers.get("binary(e_bounds=(3, 1))"), "e_bounds are no bounds"),
        (lambda: quantizers.get("ternary(granularity=row)"), "Unknown granularity"),
        (lambda: quantizers.get("ternary(t_bounds=(-1, 1))"), "t_bounds are no bounds"),
        (lambda: QDense(2, input_quantizer="minifloat"), "no exact and cheap hardware"),
        (lambda: quantizers.get(quantizers.BinaryQuantizer(place="data"), "weight"), "made for another place"),
        (lambda: quantizers.get("quaternary"), r"Not a quantizer[\s\S]*'minifloat'"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()

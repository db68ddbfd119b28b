"""Loss-aware scales: the closed form, brute force, an error that never rises; exact firmware or a refusal."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError, FreezeError
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QConv1D, QDense, QDenseBatchNorm
from hgq.quantizers import get
from hgq.quantizers.laq import loss_aware_scale, nearest_code

RNG = np.random.default_rng(12)


def error(w, d, scale, bits):
    codes = np.where(w < 0, -1.0, 1.0) if bits == 1 else np.clip(np.round(w / scale), -1, 1)
    return (d * (w - scale * codes) ** 2).sum(0)


def weights(count=40):
    return RNG.normal(size=(count, 3)).astype(np.float32), RNG.lognormal(0, 1.5, (count, 3)).astype(np.float32)


def test_one_bit_has_a_closed_form():
    w, d = weights()
    found = loss_aware_scale(w, d, 1, [0]).numpy()[0]
    np.testing.assert_allclose(found, (d * np.abs(w)).sum(0) / d.sum(0), rtol=1e-6)
    best = error(w, d, found, 1)
    for other in np.linspace(0.1, 3, 200):
        assert (best <= error(w, d, other, 1) * (1 + 1e-5)).all()


def test_two_bits_never_raise_the_error_and_end_where_neither_step_helps():
    for _ in range(20):
        w, d = weights()
        scales = [loss_aware_scale(w, d, 2, [0], n).numpy()[0].astype(float) for n in range(12)]
        errors = np.array([error(w, d, scale, 2) for scale in scales])
        assert (np.diff(errors, axis=0) <= 1e-5 * errors[:-1]).all() and (errors[-1] < errors[0]).any()
        codes = np.clip(np.round(w / scales[-1]), -1, 1)
        np.testing.assert_allclose(scales[-1], (d * codes * w).sum(0) / (d * codes**2).sum(0), rtol=1e-4)


def test_curvature_matters():
    w = np.float32([[1.0], [0.2]])
    assert loss_aware_scale(w, np.float32([[100], [1]]), 1, [0]).numpy().item() == pytest.approx(100.2 / 101)
    assert loss_aware_scale(w, np.float32([[1], [100]]), 1, [0]).numpy().item() == pytest.approx(21 / 101)


def test_zeros_and_halves():
    assert loss_aware_scale(np.zeros((4, 1), np.float32), np.ones((4, 1), np.float32), 2, [0]).numpy().item() == 1
    np.testing.assert_array_equal(nearest_code(tf.constant([-2.0, -0.6, 0.0, 0.4, 0.9]), 1.0, 2), [-1, -1, 0, 0, 1])
    np.testing.assert_array_equal(nearest_code(tf.constant([-2.0, -0.0, 0.4]), 1.0, 1), [-1, 1, 1])


@pytest.mark.parametrize("kind", ["laq", "laq(code_bits=2, granularity=tensor)"])
def test_training_sets_the_scale_and_passes_the_gradient(kind):
    quantizer = get(kind, "weight")
    w, d = weights()
    quantizer.build_for(tf.constant(w))
    before = quantizer(w, training=False).numpy()
    quantizer.curvature.assign(d)
    np.testing.assert_array_equal(quantizer(w, training=False), before)  # inference takes what training left
    x, upstream = tf.constant(w), RNG.normal(size=w.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizer(x, training=True)
    np.testing.assert_array_equal(tape.gradient(y, x, upstream), upstream)
    np.testing.assert_array_equal(y, quantizer(w, training=False))
    for column in y.numpy().T:
        assert len(np.unique(np.abs(column[column != 0]))) == 1 and np.log2(np.abs(column).max()) % 1 == 0
    axes = [0] if kind == "laq" else [0, 1]
    exact = loss_aware_scale(w, d, quantizer.code_bits, axes).numpy()
    ratio = np.abs(y.numpy()).max(tuple(axes), keepdims=True) / exact
    assert (ratio >= 2**-0.5 - 1e-6).all() and (ratio <= 2**0.5 + 1e-6).all()


@pytest.mark.parametrize("bits", [1, 2])
def test_it_freezes_exactly(bits):
    kind = f"laq(code_bits={bits})"
    layers = [QConv1D(3, 2, activation="relu", kernel_quantizer=kind), keras.layers.Flatten(), QDenseBatchNorm(4, kernel_quantizer=kind)]
    model = keras.Sequential([keras.Input((5, 3)), *layers, QDense(2, kernel_quantizer=kind)])
    x = RNG.normal(0, 2, (200, 5, 3)).astype(np.float32)
    model(x, training=True)
    graph = freeze(model, x)
    (golden,) = interpret.run(graph, x).values()
    np.testing.assert_array_equal(golden, model.predict(x, verbose=0))
    assert len(np.unique(np.abs(golden))) > 20


def test_what_is_refused():
    with pytest.raises(ConfigError, match="one or two bits"):
        QDense(2, kernel_quantizer="laq(code_bits=3)")
    with pytest.raises(ConfigError, match="no exact and cheap hardware"):
        QDense(2, input_quantizer="laq")
    model = keras.Sequential([keras.Input((3,)), QDense(2, kernel_quantizer="laq(power_of_two=False)")])
    with pytest.raises(FreezeError, match="no powers of two"):
        freeze(model, RNG.normal(size=(20, 3)).astype(np.float32))

"""MetaGrad: its hypernetwork's gradient against finite differences and closed forms, and what starts and ends as ordinary training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.training.hypernetworks import HYPERNETWORKS
from hgq.training.step import with_step
from tests.training.test_step import fitted

RNG = np.random.default_rng(17)
DATA = RNG.normal(size=(40, 5)).astype(np.float32).astype(np.float64)  # Keras hands data over in float32
TARGET = np.tanh(DATA @ RNG.normal(size=(5, 2))).astype(np.float32).astype(np.float64)
RATE = 0.05


def double(network, optimizer=None, **arguments):
    """A small network in float64 with `method`, and its loss as a function of its kernels."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh", dtype="float64"), keras.layers.Dense(2, use_bias=False, dtype="float64")]
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    model = with_step(keras.Sequential([keras.Input((5,), dtype="float64"), *layers]), f"metagrad(network={network!r}, seed=5{given})")
    model.compile(optimizer or keras.optimizers.SGD(RATE), lambda y, outputs: tf.reduce_mean(tf.square(y - outputs)), run_eagerly=True)
    return model


def loss_of(kernels, bias):
    return np.mean((TARGET - np.tanh(DATA @ kernels[0] + bias) @ kernels[1]) ** 2)


def state_of(model):
    return [model.trainable_variables[n].numpy() for n in model.step.kernels], model.layers[1].bias.numpy()


@pytest.mark.parametrize("network", HYPERNETWORKS)
def test_the_hypergradient_is_that_of_finite_differences(network):
    """``L(phi)`` is the loss at the weights that the update by phi would have made, computed in NumPy: central differences, float64."""
    model = double(network, hidden=3, rate=0.01)
    for _ in range(3):
        model.train_on_batch(DATA, TARGET)
    before, bias_before = state_of(model)
    last = gradients_at(before, bias_before)
    model.train_on_batch(DATA, TARGET)
    after, bias = state_of(model)
    phi = [p.numpy() for p in model.step.parameters]
    rate = float(np.float32(RATE))

    def corrected(parameters, g, w):
        flat = HYPERNETWORKS[network].corrected([tf.constant(p) for p in parameters], g.ravel(), w.ravel())
        return flat.numpy().reshape(w.shape)

    def loss(parameters):
        kernels = [w - rate * corrected(parameters, g, w) for w, g in zip(before, last[:2], strict=True)]
        return loss_of(kernels, bias), kernels

    np.testing.assert_allclose(loss(phi)[1][0], after[0], rtol=1e-7, atol=1e-9)  # Keras computes losses in float32
    found = model.step.hypergradient([tf.constant(g) for g in gradients_at(after, bias)[:2]])
    checked = 0
    for number, parameter in enumerate(phi):
        for index in np.ndindex(parameter.shape):
            pair = []
            for sign in (1, -1):
                moved = [np.array(p) for p in phi]
                moved[number][index] += sign * 1e-5
                pair.append(loss(moved)[0])
            np.testing.assert_allclose(found[number].numpy()[index], (pair[0] - pair[1]) / 2e-5, rtol=1e-5, atol=1e-9)
            checked += abs(pair[0] - pair[1]) > 1e-11
    assert checked == sum(p.size for p in phi) or network == "gate"
    assert checked > 0


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("count", [7, 2048, 5000])
def test_the_gate_of_many_weights_is_computed_in_parts(count, jit_compile):
    """Values and gradients against the closed form, in NumPy; part of a block, one, and two and a bit."""
    rng = np.random.default_rng(count)
    g, w, upstream = rng.normal(size=(3, count))
    a, b, o = rng.normal(size=(1, 6)), rng.normal(size=(1, 6)), rng.normal(size=(6, 1))
    parameters = [tf.constant(p) for p in (a, b, o, np.array(0.3))]

    @tf.function(jit_compile=jit_compile)
    def both(g, w):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            corrected = HYPERNETWORKS["gate"].corrected(parameters, g, w)
            total = tf.reduce_sum(corrected * upstream)
        return corrected, tape.gradient(total, parameters)

    corrected, slopes = both(tf.constant(g), tf.constant(w))
    hidden = np.tanh(w[:, None] * a + b)
    np.testing.assert_allclose(corrected, g * (1.3 + (hidden @ o)[:, 0]), rtol=1e-10)
    c = (upstream * g)[:, None]
    slope = c * (1 - hidden**2) * o.T
    expected = [(slope * w[:, None]).sum(0)[None], slope.sum(0)[None], hidden.T @ c, c.sum()]
    for found, value in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-8)


def gradients_at(kernels, bias):
    """Of the loss by both kernels and the bias, by hand."""
    hidden = np.tanh(DATA @ kernels[0] + bias)
    error = 2 * (hidden @ kernels[1] - TARGET) / TARGET.size
    inner = (error @ kernels[1].T) * (1 - hidden**2)
    return DATA.T @ inner, hidden.T @ error, inner.sum(0)


def test_one_factor_is_hypergradient_descent():
    """``s <- Adam(s, -rate <g_t, g_(t-1)>)`` and ``w <- w - rate s g``, in NumPy."""
    model = double("scalar", rate=0.02)
    kernels, bias = state_of(model)
    s, m, v, last = 1.0, 0.0, 0.0, None
    rate = float(np.float32(RATE))
    for step in range(1, 7):
        *now, d_bias = gradients_at(kernels, bias)
        slope = 0.0 if last is None else -rate * sum(np.sum(a * b) for a, b in zip(now, last, strict=True))
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        s -= 0.02 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
        kernels, bias, last = [w - rate * s * g for w, g in zip(kernels, now, strict=True)], bias - rate * d_bias, now
        model.train_on_batch(DATA, TARGET)
        found, found_bias = state_of(model)
        np.testing.assert_allclose(float(model.step.parameters[0]), s, rtol=1e-5)
        np.testing.assert_allclose(found_bias, bias, rtol=1e-6)
        for a, b in zip(found, kernels, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    assert abs(s - 1) > 0.05


def test_the_first_step_is_that_of_the_method_without_bit_for_bit():
    model, _ = fitted("metagrad", keras.optimizers.Adam(1e-2), epochs=1, jit_compile=False, steps=1)
    expected, _ = fitted(None, keras.optimizers.Adam(1e-2), epochs=1, jit_compile=False, steps=1)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_training_phi_the_whole_run_is_that_without():
    """Identity at a rate of 0; kernels, biases and bitwidths are updated once a step, by the user's optimizer."""
    model, history = fitted("metagrad(rate=0)", keras.optimizers.Adam(1e-2, clipnorm=1.0), jit_compile=False)
    expected, expected_history = fitted(None, keras.optimizers.Adam(1e-2, clipnorm=1.0), jit_compile=False)
    assert history == expected_history
    for own, other in ((model, expected), (model.optimizer, expected.optimizer)):
        for a, b in zip(own.variables, other.variables, strict=True):
            np.testing.assert_array_equal(a, b)
    assert int(model.step.evaluations) == 6


def test_only_kernels_are_corrected_and_their_gradients_lie_on_the_grid():
    model, _ = fitted("metagrad(quantize_wgrad='int4_rn', rate=0.01)", keras.optimizers.SGD(1e-2), jit_compile=True)
    step = model.step
    names = [model.trainable_variables[number].path.split("/")[-1] for number in step.kernels]
    assert names == ["kernel", "kernel"] and len(model.trainable_variables) > 6
    for gradient in step._gradients:
        codes = np.asarray(gradient) / (np.abs(gradient).max() / 7)
        np.testing.assert_allclose(codes, np.round(codes), atol=1e-5)
        assert 3 < len(np.unique(np.round(codes))) <= 15
    assert np.abs(np.asarray(step.parameters[2])).max() > 1e-3, "the network learned nothing"


def test_what_is_refused():
    for text, pattern in (
        ("metagrad(network='lstm')", "no such network"),
        ("metagrad(hidden=0)", "hidden units"),
        ("metagrad(rate=-1)", "this rate"),
        ("metagrad(quantize_wgrad='hlq')", "element by element"),
        ("metagrad(quantize_wgrad='lqu')", "Not a way to compute gradients"),
    ):
        with pytest.raises(ConfigError, match=pattern):
            with_step(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), text)
    model = with_step(keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()]), "metagrad")
    with pytest.raises(ConfigError, match="this model trains none"):
        model.compile("sgd", "mse")

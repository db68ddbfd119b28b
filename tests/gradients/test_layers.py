"""Gradients on few bits inside quantized layers: what is unbiased stays so, down to the bitwidths; training and saving work."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.freeze import freeze
from hgq.layers import (
    QGRU,
    QLSTM,
    QActivation,
    QConv2D,
    QDense,
    QDenseBatchNorm,
    QDot,
    QEinsumDense,
    QMultiHeadAttention,
    QSeparableConv1D,
    with_gradients,
)
from tests.gradients.bounds import deviation_and_bound
from tests.gradients.saving import check_goes_on_the_same

RNG = np.random.default_rng(23)
SAT = "kif(i0=2, f0=3, overflow=SAT, granularity=channel)"


def gradients_of(layer, x, target):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.square(y - target))
    gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)], unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


LAYERS = {
    "dense": (lambda g: QDense(5, "relu", input_quantizer=SAT, gradients=g, gradient_seed=3), (24, 6)),
    "positions": (lambda g: QDense(5, input_quantizer=SAT, gradients=g, gradient_seed=3), (8, 4, 6)),
    "conv": (lambda g: QConv2D(4, 3, padding="same", input_quantizer=SAT, gradients=g, gradient_seed=3), (6, 5, 5, 2)),
    "normalized": (lambda g: QDenseBatchNorm(5, "relu", input_quantizer=SAT, gradients=g, gradient_seed=3), (24, 6)),
    "separable": (
        lambda g: QSeparableConv1D(4, 3, input_quantizer=SAT, intermediate_quantizer=SAT, gradients=g, gradient_seed=3),
        (8, 6, 3),
    ),
    "heads": (lambda g: QEinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", input_quantizer=SAT, gradients=g), (8, 4, 6)),
    "data by data": (lambda g: Twice(QDot((2, 2), input_quantizers=SAT, gradients=g, gradient_seed=3)), (6, 4, 5)),
    "attention": (
        lambda g: QMultiHeadAttention(
            2, 3, input_quantizer=SAT, projected_quantizer=SAT, softmax={"input_quantizer": SAT}, gradients=g, gradient_seed=3
        ),
        (6, 4, 5),
    ),
    "gru": (
        lambda g: QGRU(
            3,
            "hard_tanh",
            "hard_sigmoid",
            **dict.fromkeys(("input_quantizer", "inner_quantizer", "reset_quantizer", "state_quantizer"), SAT),
            return_sequences=True,
            gradients=g,
            gradient_seed=3,
        ),
        (8, 4, 3),
    ),
    "lstm": (
        lambda g: QLSTM(
            3, "hard_tanh", "hard_sigmoid", input_quantizer=SAT, cell_quantizer=SAT, state_quantizer=SAT, gradients=g, gradient_seed=3
        ),
        (8, 4, 3),
    ),
}


class Twice(keras.layers.Layer):
    """A layer of two inputs, called with one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=None):
        return self.inner([x, 0.5 * x[:, ::-1]], training=training)


CASES = [
    *((name, scheme) for name in ("dense", "positions", "conv") for scheme in ("luq4", "int4", "luq4(samples=2)", "nvfp4")),
    *((name, "luq4") for name in list(LAYERS)[3:]),
    ("data by data", "nvfp4"),
    ("heads", "nvfp4"),
    *((name, "luq4_int8") for name in ("dense", "positions", "conv", "data by data")),
]


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_gradients_of_data_kernel_bias_and_bitwidths_are_unbiased(name, scheme):
    """The bias lies behind the quantized gradient and gets it exactly. Power: the error of a vector of n independent numbers is found
    from ``1 + 4 / sqrt(n)`` of its standard errors."""
    make, shape = LAYERS[name]
    x = tf.constant(RNG.normal(size=shape).astype(np.float32))
    keras.utils.set_random_seed(2)
    exact = make(None)
    exact(x)
    target = tf.constant(RNG.normal(size=exact(x).shape).astype(np.float32))
    layer = make(scheme)
    layer(x)
    for own, other in zip(layer.trainable_variables, exact.trainable_variables, strict=True):
        own.assign(other)
    expected = gradients_of(exact, x, target)
    step, draws = tf.function(lambda: gradients_of(layer, x, target)), 200
    values = [[np.asarray(part, np.float64) for part in step()] for _ in range(draws)]
    names = ["x", *(f"/{v.path.split('/', 1)[1]}" for v in layer.trainable_variables)]
    assert any(name.endswith("/f") for name in names) and (any(name.endswith("/b") for name in names) or name == "data by data")
    moved = 0
    for number, what in enumerate(names):
        stacked = np.stack([value[number] for value in values])
        error = np.linalg.norm(stacked.mean(0) - expected[number].numpy())
        spread, bound = deviation_and_bound(stacked)
        bound += 1e-4 * (np.linalg.norm(expected[number]) + 1e-6)
        assert error <= bound, f"{what}: {error} with a deviation of {spread}"
        moved += spread > 0
    assert moved >= 3, "hardly anything was quantized"


def test_inference_does_not_know_of_it():
    x = RNG.normal(size=(10, 6)).astype(np.float32)
    plain, layer = QDense(5), QDense(5, gradients="luq4")
    for one in (plain, layer):
        one(x)
    for own, other in zip(layer.trainable_variables, plain.trainable_variables, strict=True):
        own.assign(other)
    np.testing.assert_array_equal(layer(x), plain(x))
    assert int(layer.backward._draws) == 0


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("scheme", ["luq4", "hlq", "nvfp4", "int4_rn", "luq4(scale='hindsight', power_of_two=True)"])
def test_fit_learns(scheme, jit):
    keras.utils.set_random_seed(5)
    x = RNG.normal(size=(512, 8)).astype(np.float32)
    y = (x[:, :1] * x[:, 1:2] > 0).astype(np.int32)[:, 0]
    hidden = QDenseBatchNorm(16, "relu", gradients=scheme)
    model = keras.Sequential([keras.Input((8,)), hidden, QDense(16, "relu", gradients=scheme), QDense(2)])
    model.compile(keras.optimizers.Adam(1e-2, clipnorm=1.0), keras.losses.SparseCategoricalCrossentropy(True), jit_compile=jit)
    losses = model.fit(x, y, 64, 12, verbose=0).history["loss"]
    assert losses[-1] < 0.75 * losses[0]
    assert int(hidden.backward._draws) > 12 * 8 - 1


@pytest.mark.parametrize("scheme", ["luq4(samples=2)", "luq4(scale='hindsight')"])
def test_runs_are_reproducible_and_the_draws_are_saved(tmp_path, scheme):
    def model():
        keras.utils.set_random_seed(6)
        net = keras.Sequential([keras.Input((6,)), QDenseBatchNorm(8, "relu", gradients=scheme), QDense(1, gradients=scheme)])
        net.compile("adam", "mse", jit_compile=False)  # XLA's own sums differ now and then in the last bit from one fit to the next
        return net

    x, y = RNG.normal(size=(128, 6)).astype(np.float32), RNG.normal(size=(128, 1)).astype(np.float32)
    a, b = model(), model()
    for net in (a, b):
        net.fit(x, y, 32, 3, shuffle=False, verbose=0)
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    check_goes_on_the_same(a, tmp_path, x, y, 2)


def test_a_copy_of_a_model_with_other_gradients_is_the_same_model():
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((6,)), QDense(8, "relu"), QDense(3, name="last")])
    x = RNG.normal(size=(64, 6)).astype(np.float32)
    model(x, training=True)
    copy = with_gradients(model, lambda layer: None if layer.name == "last" else "luq4")
    assert copy.layers[0].backward.scheme is not None and copy.layers[1].backward.scheme is None
    np.testing.assert_array_equal(copy(x), model(x))
    assert freeze(copy, x).digest() == freeze(model, x).digest()
    assert model.layers[0].backward.scheme is None


def test_models_without_a_kernel_are_refused():
    model = keras.Sequential([keras.Input((6,)), QActivation("relu")])
    with pytest.raises(ConfigError, match=r"No layer of this model has a kernel[\s\S]*QActivation"):
        with_gradients(model, "luq4")

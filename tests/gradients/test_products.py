"""Backward products of integers, against NumPy's integers, and their gradients' mean and variance against theory."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import gradients, native
from hgq.errors import ConfigError
from hgq.gradients import LUQ, IntegerProducts, MatrixProduct, random
from hgq.layers import QDense, native_relu
from hgq.training.loop import Loop

RNG = np.random.default_rng(23)
SHAPES = {"dense": ((40, 12), (12, 7)), "positions": ((6, 5, 3), (3, 20)), "long": ((4099, 5), (5, 2)), "wide": ((6, 4), (4, 2500))}


def seed(draw=0):
    return tf.stack([7, draw])


def tensors(name, seed=3):
    rng = np.random.default_rng(seed)
    shape, kernel = SHAPES[name]
    return tuple(tf.constant(rng.normal(size=s), tf.float32) for s in (shape, kernel, (*shape[:-1], kernel[-1])))


def gradients_of(scheme, x, w, g, draw=0, linear=None):
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = scheme.product(linear or MatrixProduct(), x, w, seed(draw))
    return tape.gradient(y, [x, w], output_gradients=g)


def without_native(function, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HGQ_NATIVE", "0")
        return function(*arguments)


def power_of_two_scale(x, bits):
    """By logarithm, in float64."""
    return 2.0 ** np.ceil(np.log2(np.abs(x.astype(np.float64)).max() / (2 ** (bits - 1) - 1)))


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("factor", [1.0, 127.0, 63.0, 127.00001, 1e-20])
def test_operands_lie_on_the_finest_grid_that_holds_them(bits, factor):
    x = (RNG.uniform(-1, 1, (200, 3)) * factor).astype(np.float32)
    x[0, 0] = factor
    codes, scale = (part.numpy() for part in IntegerProducts(bits=bits).operand(tf.constant(x), seed()))
    assert codes.dtype == np.int8 and np.abs(codes.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert scale == power_of_two_scale(x, bits)
    assert np.abs(codes * scale - x).max() < scale


def test_what_lies_on_a_grid_stays_as_it_is():
    x = (RNG.integers(-127, 128, (50, 20)) * 2.0**-5).astype(np.float32)
    for draw in range(5):
        codes, scale = IntegerProducts().operand(tf.constant(x), seed(draw))
        np.testing.assert_array_equal(codes.numpy() * scale, x)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("text", ["luq4_int8", "int4_int8", "integer_products(quantizer='luq2', bits=5)"])
def test_gradients_are_products_of_the_codes(name, text):
    """The codes come from the parts; their products from NumPy's 64-bit integers."""
    scheme, (x, w, g) = gradients.get(text), tensors(name)
    once = random.derived(seed(), 2)
    parts = [scheme.keep(x, random.derived(seed(), 1)), scheme.operand(w, random.derived(once, 7))]
    parts.append(gradients.get(scheme.quantizer).codes(g, once))
    (xc, xs), (wc, ws), (gc, gs) = ((codes.numpy().reshape(-1, codes.shape[-1]).astype(np.int64), np.float32(s)) for codes, s in parts)
    dx, dw = gradients_of(scheme, x, w, g)
    np.testing.assert_array_equal(dx.numpy().reshape(-1, x.shape[-1]), (gc @ wc.T).astype(np.float32) * (gs * ws))
    np.testing.assert_array_equal(dw, (xc.T @ gc).astype(np.float32) * (xs * gs))


@pytest.mark.parametrize("name", SHAPES)
def test_native_and_reference_give_the_same_bits(name):
    scheme, tensors_ = gradients.get("luq4_int8"), tensors(name)
    expected = without_native(gradients_of, scheme, *tensors_)
    compiled = tf.function(lambda *given: gradients_of(scheme, *given), jit_compile=True)(*tensors_)
    for received, xla, reference in zip(gradients_of(scheme, *tensors_), compiled, expected, strict=True):
        np.testing.assert_array_equal(received, reference)
        np.testing.assert_array_equal(xla, reference)


def test_a_codes_value_is_the_quantized_gradient():
    g = tf.constant(RNG.normal(size=(30, 40)), tf.float32)
    for name in ("luq4", "luq2", "int4", "int4_rn"):
        quantizer = gradients.get(name)
        codes, scale = quantizer.codes(g, seed())
        np.testing.assert_array_equal(codes.numpy() * scale.numpy(), quantizer.quantize(g, seed()))
        assert np.abs(codes).max() <= quantizer.greatest_code


def rounding_variance(x, step):
    """Of stochastic rounding to multiples of `step`."""
    rest = np.mod(x.astype(np.float64) / step, 1)
    return rest * (1 - rest) * step**2


def luq_variance(g, levels=7):
    magnitude, top = np.abs(g.astype(np.float64)), np.abs(g).max()
    grid = np.concatenate([[0.0], top * 2.0 ** np.arange(1 - levels, 1)])
    above = np.clip(np.searchsorted(grid, magnitude), 1, levels)
    return np.maximum((magnitude - grid[above - 1]) * (grid[above] - magnitude), 0)


@pytest.mark.parametrize("bits", [4, 8])
def test_both_gradients_are_unbiased_with_the_variance_of_their_factors(bits):
    """Var(sum ab) of independent, unbiased roundings: sum of a^2 Var(b) + b^2 Var(a) + Var(a) Var(b)."""
    scheme, (x, w, g) = IntegerProducts(bits=bits), tensors("dense")
    draws = 600
    step = tf.function(lambda draw: gradients_of(scheme, x, w, g, draw))
    values = [step(tf.constant(draw)) for draw in range(draws)]
    x, w, g = x.numpy(), w.numpy(), g.numpy()
    vg = luq_variance(g)
    vx, vw = (rounding_variance(part, power_of_two_scale(part, bits)) for part in (x, w))
    expected = ((g @ w.T, (g**2) @ vw.T + vg @ (w**2).T + vg @ vw.T), (x.T @ g, (x**2).T @ vg + vx.T @ g**2 + vx.T @ vg))
    for number, (exact, variance) in enumerate(expected):
        stacked = np.stack([value[number].numpy() for value in values]).astype(np.float64)
        assert stacked.var(axis=0, ddof=1).sum() == pytest.approx(variance.sum(), rel=0.1)
        scores = (stacked.mean(0) - exact) / np.sqrt(variance / draws)
        assert np.abs(scores).max() < 5.5
        assert (scores**2).mean() == pytest.approx(1, abs=6 * np.sqrt(2 / scores.size))


def test_other_bilinear_functions_get_the_same_operands():
    def conv(x, w):
        return tf.nn.conv2d(x, w, 1, "SAME")

    x, w = tf.constant(RNG.normal(size=(3, 6, 6, 2)), tf.float32), tf.constant(RNG.normal(size=(3, 3, 2, 4)), tf.float32)
    g = tf.constant(RNG.normal(size=(3, 6, 6, 4)), tf.float32)
    scheme, once = IntegerProducts(), random.derived(seed(), 2)
    kept, kernel = scheme.keep(x, random.derived(seed(), 1)), scheme.operand(w, random.derived(once, 7))
    codes = LUQ().codes(g, once)
    xq, wq, gq = (tf.cast(part, tf.float32) * scale for part, scale in (kept, kernel, codes))
    received = gradients_of(scheme, x, w, g, linear=conv)
    np.testing.assert_allclose(received[0], tf.nn.conv2d_transpose(gq, wq, x.shape, 1, "SAME"), rtol=1e-4, atol=1e-4)
    with tf.GradientTape() as tape:
        tape.watch(wq)
        y = conv(xq, wq)
    np.testing.assert_allclose(received[1], tape.gradient(y, wq, gq), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_does_not_hide(bad):
    x, w, g = tensors("dense")
    spoilt = tf.tensor_scatter_nd_update(g, [[3, 2]], [bad])
    for run in (gradients_of, lambda *given: without_native(gradients_of, *given)):
        assert all(np.isnan(part).all() for part in run(gradients.get("luq4_int8"), x, w, spoilt))


def test_one_byte_of_each_number_is_kept():
    kept, _ = IntegerProducts().keep(tf.ones((8, 5, 3)), seed())
    assert kept.dtype == tf.int8 and IntegerProducts().residual_bytes((8, 5, 3)) == 8 * 5 * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("luq4_int8(bits=9)", "from 2 to 8"),
        ("integer_products(quantizer='luq')", None),
        ("integer_products(quantizer='luq(levels=8)')", "no codes for products"),
        ("integer_products(quantizer='luq4(samples=2)')", "no codes for products"),
        ("integer_products(quantizer='int8')", "integers up to 64"),
        ("integer_products(quantizer='fp4')", "no codes for products"),
        ("integer_products(quantizer='hlq')", "no codes for products"),
        ("integer_products(quantizer='luk4')", "Did you mean 'luq4'"),
    ],
)
def test_refusals_teach(text, message):
    if message is None:
        assert gradients.get(text) == IntegerProducts("luq")
        return
    with pytest.raises(ConfigError, match=message):
        gradients.get(text)


# ---- layers ----------------------------------------


def model(jit_compile, scheme="luq4_int8"):
    keras.utils.set_random_seed(4)
    made = keras.Sequential(
        [
            keras.Input((6,)),
            QDense(16, "relu", gradients=scheme, gradient_seed=2),
            QDense(3, gradients=scheme, gradient_seed=3),
        ]
    )
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit_compile)
    return made


DATA = RNG.normal(size=(96, 6)).astype(np.float32), RNG.integers(0, 3, 96)


@pytest.mark.parametrize("scheme", ["luq4_int8", "luq4"])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_fit_with_and_without_xla(scheme, jit_compile):
    made = model(jit_compile, scheme)
    before = [weight.numpy() for weight in made.trainable_weights]
    history = made.fit(*DATA, batch_size=32, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any((a != b.numpy()).any() for a, b in zip(before, made.trainable_weights, strict=True))


@pytest.mark.parametrize("scheme", ["luq4_int8", "luq4"])
def test_training_with_native_ops_is_training_without_them(scheme):
    """The loop of `hgq train`: it uses them where it does not compile with XLA. The native ReLU sums in another order and stays out."""
    if native.instructions() is None:
        pytest.skip("no native ops")
    final = []
    for switch in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HGQ_NATIVE", switch)
            patch.setattr(native_relu, "bias_relu", lambda *_: None)
            made = model(False, scheme)
            Loop(made, *DATA, batch_size=32, seed=1, jit_compile=False).run_epoch(0)
            final.append([weight.numpy() for weight in made.weights])
    for one, other in zip(*final, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_compiled_loop_holds_no_native_ops():
    made = model(True)
    with native.in_graphs():
        loss = Loop(made, *DATA, batch_size=32, seed=1, jit_compile=True).run_epoch(0)["loss"]
    assert np.isfinite(loss)

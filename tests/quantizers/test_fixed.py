"""`FixedQuantizer`: forward, gradients of its variables, tracked ranges, bits."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.numerics import OVERFLOWS, ROUNDINGS, Fixed
from hgq.quantizers import FixedQuantizer
from tests.quantizers.reference import elementwise

RNG = np.random.default_rng(11)


def weight(shape=(6, 5), **kwargs):
    quantizer = FixedQuantizer.for_weights(**kwargs)
    quantizer.build(shape)
    return quantizer


def data(shape=(None, 4), **kwargs):
    quantizer = FixedQuantizer.for_data(**kwargs)
    quantizer.build(shape)
    return quantizer


def variable(quantizer, name):
    return next(v for v in quantizer.variables if v.path.endswith(f"/{name}"))


def value(quantizer, name):
    return variable(quantizer, name).numpy()


def scatter(quantizer):
    """Give the bits of a quantizer something to differ in."""
    for v in quantizer.trainable_variables:
        v.assign(v.numpy() + RNG.integers(-3, 3, v.shape) + RNG.uniform(-0.4, 0.4, v.shape))


# ---- forward ----------------------------------------


@pytest.mark.parametrize("parametrization", ["kif", "kbi"])
@pytest.mark.parametrize("granularity", ["element", "channel", "tensor"])
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_constants_equal_their_mantissas(parametrization, granularity, overflow):
    for rounding in ROUNDINGS:
        q = weight(parametrization=parametrization, granularity=granularity, overflow=overflow, rounding=rounding, b0=4, i0=1)
        scatter(q)
        w = RNG.normal(0, 1.5, (6, 5)).astype(np.float32)
        mantissa, fixed = q.quantized_constant(w)
        assert mantissa.shape == fixed.shape == w.shape
        np.testing.assert_array_equal(q(w, training=False).numpy(), fixed.value(mantissa))
        if rounding != "S_RND":
            np.testing.assert_array_equal(q(w, training=True).numpy(), fixed.value(mantissa), "training is the same function")


@pytest.mark.parametrize("granularity", ["element", "channel", "tensor"])
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_data_equals_its_format(granularity, overflow):
    for rounding in ("TRN", "RND", "RND_CONV"):
        q = data((None, 3, 4), granularity=granularity, overflow=overflow, rounding=rounding, i0=1, f0=3)
        scatter(q)
        x = RNG.normal(0, 3, (50, 3, 4)).astype(np.float32)
        fixed = q.format()
        assert fixed.shape == {"element": (3, 4), "channel": (1, 4), "tensor": (1, 1)}[granularity]
        np.testing.assert_array_equal(q(x, training=False).numpy(), fixed.value(fixed.quantize(x, rounding, overflow)))


def test_stochastic_rounding_is_for_training_only():
    x = np.full((20000, 1), 0.3, np.float32)
    a, b = (FixedQuantizer.for_data(rounding="S_RND", f0=0, i0=3, seed=7) for _ in range(2))
    drawn = a(x, training=True).numpy()
    assert drawn.mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(drawn, b(x, training=True).numpy())
    assert (drawn != a(x, training=True).numpy()).any()
    np.testing.assert_array_equal(a(x, training=False).numpy(), 0)


def test_more_bits_than_float32_holds_are_not_claimed():
    q = data(overflow="SAT", i0=20, f0=20)
    assert set((q.format().i + q.format().f).tolist()) == {24}
    top = q(np.full((1, 4), 1e9, np.float32), training=False).numpy()
    np.testing.assert_array_equal(top, q.format().value(q.format().high)[None])


# ---- gradients of the variables ----------------------------------------


@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM"])
@pytest.mark.parametrize("parametrization", ["kif", "kbi"])
def test_gradients_of_both_parametrisations(parametrization, overflow):
    """kbi is kif with f = b - i: dq/db = dq/df, and dq/di at constant b is dq/di - dq/df."""
    q = weight(parametrization=parametrization, overflow=overflow, granularity="channel", i0=1, f0=2)
    scatter(q)
    w, upstream = RNG.normal(0, 3, (2, 6, 5)).astype(np.float32)
    x = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = q(x, training=True)
    variables = [variable(q, "i"), variable(q, "f" if parametrization == "kif" else "b")]
    d_x, d_i, d_width = tape.gradient(y, [x, *(v.value for v in variables)], upstream)
    i = np.rint(value(q, "i"))
    f = np.rint(value(q, "f")) if parametrization == "kif" else np.rint(value(q, "b")) - i
    e_x, e_i, e_f = (upstream * part for part in elementwise(w, y.numpy(), 1, i, f, overflow))
    if parametrization == "kbi":
        e_i = e_i - e_f
    np.testing.assert_allclose(d_x.numpy(), e_x, rtol=1e-5)
    np.testing.assert_allclose(d_i.numpy(), e_i.sum(0, keepdims=True), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(d_width.numpy(), e_f.sum(0, keepdims=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parametrization", ["kif", "kbi"])
def test_a_tracked_range_is_not_trained(parametrization):
    q = data(parametrization=parametrization)
    assert [v.path.rsplit("/")[-1] for v in q.trainable_variables] == ["f" if parametrization == "kif" else "b"]


def test_dead_weight_revives():
    """b = 0 gives output 0; the weight is frozen, but the task still pulls on b."""
    q = weight((1,), b0=0, i0=0)
    x = tf.constant([0.7])
    assert q(x).numpy() == 0
    optimizer = keras.optimizers.SGD(1.0)
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = (q(x, training=True) - 0.7) ** 2
        d_b = tape.gradient(loss, variable(q, "b").value)
        optimizer.apply([d_b], [variable(q, "b")])
    assert value(q, "b") > 0.5
    assert q(x).numpy() != 0


@pytest.mark.parametrize("overflow", ["SAT", "WRAP"])
def test_the_last_bit_can_die_too(overflow):
    """-1 needs only a sign bit: it is charged, and the charge can remove it."""
    q = weight((1,), overflow=overflow, b0=0, i0=0)
    w, optimizer = tf.constant([-1.0]), keras.optimizers.SGD(0.3)
    assert q(w).numpy() == -1
    for _ in range(2):
        with tf.GradientTape() as tape:
            bits = q.constant_bits(q(w))
        assert bits.numpy() == 1
        optimizer.apply([tape.gradient(bits, variable(q, "b").value)], [variable(q, "b")])
    assert q(w).numpy() == 0


def test_bits_can_die_and_stay_within_bounds():
    q = weight((2,), b0=2, i0=0)
    optimizer = keras.optimizers.SGD(1.0)
    b = variable(q, "b")
    for _ in range(5):
        optimizer.apply([tf.ones(2)], [b])
    np.testing.assert_array_equal(b.numpy(), 0)  # clipped, not past it
    np.testing.assert_array_equal(q(np.float32([0.3, -0.3])).numpy(), 0)
    np.testing.assert_array_equal(q.format().width, 0)


@pytest.mark.parametrize(("b", "expected"), [(3.0, 0.1), (0.0, 0.0), (0.3, 0.1)])
def test_l1_pulls_toward_zero_and_not_past_it(b, expected):
    q = weight((1,), l1=0.1, b0=b, i0=0)
    with tf.GradientTape() as tape:
        q(tf.zeros([1]), training=True)
        (loss,) = q.losses
    assert loss.numpy() == pytest.approx(0.1 * b)
    assert tape.gradient(loss, variable(q, "b").value).numpy() == pytest.approx(expected)


def test_l1_of_kif_is_on_the_width():
    q = weight((2,), parametrization="kif", l1=0.1, f0=3, i0=-1)
    variable(q, "i").assign([-1, -5])
    with tf.GradientTape() as tape:
        q(tf.zeros([2]), training=True)
        (loss,) = q.losses
    np.testing.assert_allclose(tape.gradient(loss, variable(q, "f").value).numpy(), [0.1, 0])


# ---- tracked ranges ----------------------------------------


def batch(*columns):
    return np.array(columns, np.float32).T


def test_range_follows_both_signs_exactly():
    q = data((None, 4), i0=-5, f0=4)
    q(batch([-4, 0], [4, 0], [3.9375, -0.5], [3.97, 0]), training=True)
    np.testing.assert_array_equal(value(q, "i"), [[2, 3, 2, 3]])  # -4 needs two bits; 3.97 rounds to 4
    np.testing.assert_array_equal(value(q, "k"), [[1, 0, 1, 0]])


def test_range_decays_and_the_sign_stays():
    q = data((None, 1), i0=0, f0=2, i_decay=0.25)
    q(batch([-7.0]), training=True)
    for expected in (2.75, 2.5, 2.25):
        q(batch([1.0]), training=True)
        assert value(q, "i") == expected
    assert value(q, "k") == 1
    q(batch([6.0]), training=True)
    assert value(q, "i") == 3


def test_training_rounds_and_inference_wraps():
    q = data((None, 1), i0=1, f0=1, k0=1)
    np.testing.assert_array_equal(q(batch([3.3]), training=False).numpy(), [[-0.5]])
    np.testing.assert_array_equal(q(batch([3.3]), training=True).numpy(), [[3.5]])
    np.testing.assert_array_equal(q(batch([3.3]), training=False).numpy(), [[3.5]])


@pytest.mark.parametrize("parametrization", ["kif", "kbi"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_tracked_data_never_wraps(parametrization, rounding):
    """After a training call, inference on the same batch gives what training gave, whatever rounding carries into."""
    q = data((None, 64), parametrization=parametrization, rounding=rounding, i_decay=9.0)
    scatter(q)
    x = (RNG.normal(size=(3, 64)) * 2.0 ** RNG.integers(-6, 6, 64)).astype(np.float32)
    x[0, :16] = -(2.0 ** RNG.integers(-4, 4, 16))
    x[1, 16:32] = np.nextafter(np.float32(2.0), np.float32(0)) ** RNG.integers(1, 4, 16)
    trained = q(x, training=True).numpy()
    if rounding == "S_RND":
        widest = np.max(np.abs(trained), 0)
        assert (widest <= 2.0 ** value(q, "i")[0]).all()
    else:
        np.testing.assert_array_equal(q(x, training=False).numpy(), trained)


def test_constants_are_always_covered():
    for parametrization in ("kif", "kbi"):
        q = FixedQuantizer.for_bias(parametrization=parametrization)
        w = (RNG.normal(size=40) * 2.0 ** RNG.integers(-9, 9, 40)).astype(np.float32)
        q.build(w.shape)
        assert np.abs(q(w, training=False).numpy() - w).max() <= 2
        if parametrization == "kif":
            np.testing.assert_allclose(q(w, training=False).numpy(), w, atol=2.0**-7)
        else:
            np.testing.assert_allclose(q(w, training=False).numpy(), w, rtol=2.0**-8)
        with pytest.raises(ConfigError, match="range of this quantizer is that of its constant"):
            q.format()


def test_observe_sets_the_range_from_the_data_alone():
    q = data((None, 2), i0=6, f0=2)
    with q.observe():
        for x in (batch([3.0], [0.2]), batch([-4.0], [0.1])):
            np.testing.assert_allclose(q(x, training=False).numpy(), x, atol=0.125)  # rounds, does not wrap
    np.testing.assert_array_equal(value(q, "i"), [[2, -1]])
    np.testing.assert_array_equal(value(q, "k"), [[1, 0]])
    with q.observe(reset=False):
        q(batch([1.0], [9.0]), training=False)
    np.testing.assert_array_equal(value(q, "i"), [[2, 4]])


def test_what_cannot_be_observed_says_so():
    with pytest.raises(ConfigError, match="There is no range to observe"), data(overflow="SAT").observe():
        pass
    q = data((None, 1))
    with q.observe(), pytest.raises(ConfigError, match="only eagerly"):
        tf.function(lambda x: q(x, training=False), autograph=False)(tf.zeros([1, 1]))


# ---- bits ----------------------------------------


def test_declared_bits_count_the_sign_and_die():
    q = data((None, 4), k0=1, i0=1, f0=1)
    variable(q, "f").assign([[1, -1, -2, 3]])
    variable(q, "k").assign([[1, 1, 1, 0]])
    np.testing.assert_array_equal(q.bits((4,)).numpy(), [3, 1, 0, 4])
    np.testing.assert_array_equal(q.format().width, [3, 1, 0, 4])


@pytest.mark.parametrize(("granularity", "groups"), [("element", 12), ("channel", 4), ("tensor", 1)])
def test_gradient_of_shared_bits_is_scaled(granularity, groups):
    q = data((None, 3, 4), granularity=granularity)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(q.bits((3, 4)))
    gradient = tape.gradient(total, variable(q, "f").value).numpy()
    shared = 12 / groups
    assert gradient.size == groups
    np.testing.assert_allclose(gradient, shared / math.sqrt(shared), rtol=1e-6)


@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM", "WRAP"])
def test_constant_bits_are_the_narrowest_formats(overflow):
    q = weight((30, 20), overflow=overflow)
    scatter(q)
    w = RNG.normal(0, 1, (30, 20)).astype(np.float32)
    mantissa, fixed = q.quantized_constant(w)
    np.testing.assert_array_equal(q.constant_bits(q(w)).numpy(), Fixed.minimal(mantissa, fixed.f).width)


def test_gradient_of_constant_bits_goes_to_what_is_not_zero():
    q = weight((4,), b0=5, i0=1)
    w = tf.constant([0.5, 0.0, -1.3, 0.01])
    with tf.GradientTape() as tape:
        tape.watch(w)
        bits = q.constant_bits(q(w, training=True))
        total = tf.reduce_sum(bits * [1.0, 2.0, 3.0, 4.0])
    d_w, d_b = tape.gradient(total, [w, variable(q, "b").value])
    assert bits.numpy().tolist() == [1, 0, 6, 0]  # -1.3125 = -21/16
    assert d_w is None
    np.testing.assert_array_equal(d_b.numpy(), [1, 0, 3, 0])

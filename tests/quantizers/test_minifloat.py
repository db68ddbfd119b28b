"""`MinifloatQuantizer` against all its numbers, listed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgq import quantizers

RNG = np.random.default_rng(8)
LN2 = np.log(2.0)


def numbers(m, e, e0):
    """Every non-negative number of the format, in order, from its definition: code by code."""
    if m < 0:
        return np.zeros(1)
    lowest = e0 + 2 - 2**e
    subnormal = [j * 2.0 ** (lowest - m) for j in range(2**m)]
    return np.array(subnormal + [(1 + j * 2.0**-m) * 2.0**n for n in range(lowest, e0 + 1) for j in range(2**m)])


def nearest(x, m, e, e0):
    """The nearest number; of two as near that of the even code, of two powers the larger."""
    all_numbers = numbers(m, e, e0)
    distance = np.abs(np.abs(x)[:, None] - all_numbers)
    best = distance == distance.min(1, keepdims=True)
    codes = np.arange(len(all_numbers))
    alone, last = best.sum(1, keepdims=True) == 1, codes == best.cumsum(1).argmax(1)[:, None]
    even = best & ((codes % 2 == 0) if m else ((codes == 0) | alone | last))
    chosen = np.where(even.any(1), even.argmax(1), best.argmax(1))
    return np.copysign(all_numbers[chosen], x)


@pytest.mark.parametrize("m", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("e", [1, 2, 3, 4])
def test_the_nearest_number_is_taken(m, e):
    e0 = int(RNG.integers(-3, 4))
    q = quantizers.get(f"minifloat(m={m}, e={e}, e0={e0}, granularity=tensor)", "weight")
    grid = numbers(m, e, e0)
    middles = (grid[1:] + grid[:-1]) / 2
    x = np.concatenate([grid, middles, np.nextafter(middles.astype(np.float32), np.float32(99)), RNG.normal(0, 2.0**e0, 500), [1e6]])
    x = np.concatenate([x, -x]).astype(np.float32)
    q.build(x.shape)
    np.testing.assert_array_equal(q(x).numpy(), nearest(x.astype(np.float64), m, e, e0))


def test_fp4_and_fp8():
    assert numbers(1, 2, 2).tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]  # E2M1 of the OCP MX specification
    assert len(numbers(3, 4, 8)) == 128
    assert numbers(3, 4, 8)[1] == 2.0**-9


def test_gradients_are_the_formulas():
    shape = (400,)
    x = RNG.normal(0, 2, shape).astype(np.float32) * np.exp2(RNG.integers(-9, 3, shape)).astype(np.float32)
    q = quantizers.get("minifloat", "weight")
    q.build(shape)
    for v, low, high in ((q._m, -1, 4), (q._e, 1, 4), (q._e0, -3, 3)):
        v.assign(RNG.uniform(low, high, shape))
    m, e, e0 = (np.rint(v.numpy()).astype(np.float64) for v in (q._m, q._e, q._e0))
    upstream = RNG.normal(size=shape).astype(np.float32)
    data = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(data)
        y = q(data, training=True)
    got = tape.gradient(y, [data, q._m.value, q._e.value, q._e0.value], upstream)
    top, lowest = (2 - 2**-m) * 2**e0, e0 + 2 - 2**e
    above = np.abs(x) > top
    subnormal = ~above & (np.abs(x) < 2**lowest)
    error = LN2 * (x - y.numpy())
    expected = [
        np.where(above, 0, 1),
        np.where(above, LN2 * 2 ** (e0 - m) * np.sign(x), error),
        np.where(subnormal, LN2 * 2**e * error, 0),
        np.where(above, LN2 * top * np.sign(x), np.where(subnormal, -error, 0)),
    ]
    for received, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(received, wanted * upstream, rtol=2e-4, atol=1e-6)


def test_the_largest_numbers_derivatives_are_numeric_ones():
    """Above the range q is the largest number: its slope in e0 and m, taken as real numbers."""
    q = quantizers.get("minifloat(m=2, e=3, e0=1)", "weight")
    q.build((1,))
    with tf.GradientTape() as tape:
        y = q(tf.constant([100.0]))
    d_m, d_e0 = (float(g[0]) for g in tape.gradient(y, [q._m.value, q._e0.value]))
    largest, h = (lambda m, e0: (2 - 2.0**-m) * 2.0**e0), 1e-5
    assert d_m == pytest.approx((largest(2 + h, 1) - largest(2 - h, 1)) / (2 * h), rel=1e-6)
    assert d_e0 == pytest.approx((largest(2, 1 + h) - largest(2, 1 - h)) / (2 * h), rel=1e-6)


def test_the_mantissa_shrinks_the_error_as_its_gradient_says():
    """Halving the step halves the error: d|error|/dm = -ln2 |error|, on average over many numbers, between whole m."""
    x = RNG.uniform(1, 2, 20000).astype(np.float32)
    errors = []
    for m in (3, 4, 5):
        q = quantizers.get(f"minifloat(m={m}, e0=1, granularity=tensor)", "weight")
        q.build(x.shape)
        errors.append(np.abs(x - q(x).numpy()).mean())
    assert np.log(errors[0] / errors[2]) / 2 == pytest.approx(LN2, rel=0.02)


def test_bits_are_those_of_the_number_and_train_the_mantissa():
    q = quantizers.get("minifloat(m=3, e=4, e0=1)", "weight")
    q.build((5,))
    w = tf.constant([1.0, 0.0, -1.5, 1.125, -0.25])
    with tf.GradientTape() as tape:
        bits = q.effective_bits(w)
    np.testing.assert_array_equal(bits, [1, 0, 3, 4, 1])
    np.testing.assert_array_equal(tape.gradient(bits, q._m.value), [1, 0, 1, 1, 1])


def test_po2_are_powers_of_two_and_can_die():
    q = quantizers.get("po2(e=3)", "weight")
    w = tf.Variable(RNG.normal(size=(50, 4)).astype(np.float32))
    q.build_for(w)
    y = np.abs(q(w).numpy())
    assert set(np.unique(np.frexp(y[y > 0])[0])) == {0.5}
    np.testing.assert_allclose(y[y > 0], np.abs(w.numpy())[y > 0], rtol=0.51)
    q._m.assign(-np.ones(q._m.shape))
    np.testing.assert_array_equal(q(w), 0)

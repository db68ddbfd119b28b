"""The TensorFlow ops against `hgq.numerics` (forward, bit for bit) and the formulas of HGQ (backward)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgq.numerics import OVERFLOWS, Fixed
from hgq.quantizers import ops
from tests.quantizers.reference import elementwise

RNG = np.random.default_rng(12)
SATURATING = ("SAT", "SAT_SYM")
DETERMINISTIC = ("TRN", "RND", "RND_CONV")


def tensors(*parts):
    return tuple(tf.constant(part, tf.float32) for part in parts)


def numbers(limit):
    """float32 near the grids that the formats below make, and anywhere; no numbers that flushing to zero could change."""
    anywhere = st.floats(-limit, limit, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 2.0**-60)
    eighths = st.integers(-(2**12), 2**12).map(lambda n: n / 8)
    return anywhere | eighths | eighths.map(lambda v: float(np.nextafter(np.float32(v), np.float32(0))) if abs(v) > 0 else v)


@st.composite
def cases(draw):
    x = draw(hnp.arrays(np.float32, (4, 5), elements=numbers(2.0**40)))
    shape = draw(st.sampled_from([(4, 5), (1, 5), (1, 1)]))
    k = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))
    i = draw(hnp.arrays(np.int64, shape, elements=st.integers(-8, 14)))
    f = draw(hnp.arrays(np.int64, shape, elements=st.integers(-8, 10)))
    return x, k, i, f


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("overflow", OVERFLOWS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=cases())
def test_forward_equals_numerics(rounding, overflow, case):
    x, k, i, f = case
    nothing = (i + f <= 0) if overflow == "SAT_SYM" else np.zeros(i.shape, bool)  # a sign alone holds only 0 there; see `dead`
    fixed = Fixed(*(np.where(nothing, 0, part) for part in (k, i, f)))
    expected = fixed.value(fixed.quantize(x, rounding, overflow))
    q = ops.fixed_quantize(tf.constant(x), *tensors(k, i, f), rounding=rounding, overflow=overflow)
    np.testing.assert_array_equal(q.numpy(), expected)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("k", [0, 1])
def test_all_24_bits_are_exact(overflow, k):
    """The widest magnitude float32 holds; one bit of carelessness in the wrap shows here."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.integers(-(2**27), 2**27, 4000), [0, -1, 2**24, 2**24 - 1, -(2**24), 2**25, 2**23 + 1]]).astype(np.float32)
    fixed = Fixed(k, 24, 0)
    expected = fixed.quantize(x, "RND", overflow)
    q = ops.fixed_quantize(tf.constant(x), *tensors([k], [24], [0]), rounding="RND", overflow=overflow)
    np.testing.assert_array_equal(q.numpy().astype(np.int64), expected)


@pytest.mark.parametrize(
    ("rounding", "u", "expected"),
    [
        ("RND", np.nextafter(np.float32(0.5), np.float32(0)), 0),  # floor(u + .5) gives 1
        ("RND", 0.5, 1),
        ("RND", -0.5, 0),
        ("RND", -1.5, -1),
        ("RND", 2.0**23 + 1, 2.0**23 + 1),  # floor(u + .5) gives one more
        ("RND_CONV", 0.5, 0),
        ("RND_CONV", 1.5, 2),
        ("RND_CONV", -2.5, -2),
        ("TRN", -0.25, -1),
        ("S_RND", 0.5, 1),  # without a seed: RND
    ],
)
def test_rounding_of_a_number(rounding, u, expected):
    assert ops.round_to_integer(tf.constant(u, tf.float32), tf.constant(1.0), rounding).numpy() == expected


def test_powers_of_two_are_exact():
    n = np.arange(-126, 128)
    np.testing.assert_array_equal(ops.exp2(tf.constant(n, tf.float32)).numpy(), np.ldexp(np.float32(1), n))


@pytest.mark.parametrize(("q", "bits"), [(-4, 2), (4, 3), (-4.25, 3), (-0.5, -1), (0.25, -1), (3.75, 2), (-5, 3), (16, 5), (-1, 0), (1, 1)])
def test_integer_bits_of_both_signs(q, bits):
    assert ops.integer_bits(tf.constant(q, tf.float32)).numpy() == bits


def test_integer_bits_of_zero():
    assert ops.integer_bits(tf.constant([0.0, -0.0])).numpy().tolist() == [ops.NO_BITS, ops.NO_BITS]


def test_significant_bits_equal_the_narrowest_format():
    m = np.concatenate([np.arange(-4096, 4097), [2**24, -(2**24), 2**24 - 1, 1 - 2**24, 3 << 20, -(3 << 20)]])
    for f in (-9, 0, 7, 30):
        q = tf.constant(np.ldexp(m.astype(np.float32), -f))
        np.testing.assert_array_equal(ops.significant_bits(q).numpy(), Fixed.minimal(m, f).width)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("k", [0, 1])
def test_gradients_in_every_region(overflow, k, wrap):
    """Inside, above, below, exactly on the ends; live formats, one-bit formats and dead ones."""
    x = np.float32([-9.1, -4, -3.9, -0.3, -0.25, 0, 0.1, 0.25, 1.37, 3.74, 3.75, 3.8, 4, 11])[:, None]
    i, f = np.int64([2, 2, 0, -1, -2, 3]), np.int64([2, 0, 0, 2, 1, -3])
    x = np.broadcast_to(x, (len(x), len(i))).copy()
    upstream = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    tx, tk, ti, tf_ = tensors(x, *(np.broadcast_to(part, x.shape) for part in (k, i, f)))
    with tf.GradientTape() as tape:
        tape.watch((tx, ti, tf_))
        q = ops.fixed_quantize(tx, tk, ti, tf_, rounding="RND", overflow=overflow, wrap=wrap)
    got = tape.gradient(q, (tx, ti, tf_), upstream)
    on_grid = np.floor(np.ldexp(x.astype(np.float64), f) + 0.5) * 2.0**-f
    expected = elementwise(x, on_grid, k, i, f, overflow)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), upstream * e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 1, 4), (1, 1, 1), (6, 3, 4)])
def test_gradients_sum_over_what_shares_bits(overflow, shape):
    rng = np.random.default_rng(2)
    x, upstream = rng.normal(0, 2, (2, 6, 3, 4)).astype(np.float32)
    k, i, f = np.ones(shape), rng.integers(-1, 3, shape), rng.integers(0, 4, shape)
    tx, tk, ti, tf_ = tensors(x, k, i, f)
    with tf.GradientTape() as tape:
        tape.watch((ti, tf_))
        q = ops.fixed_quantize(tx, tk, ti, tf_, rounding="RND", overflow=overflow, wrap=False)
    d_i, d_f = tape.gradient(q, (ti, tf_), upstream)
    axes = tuple(axis for axis in range(3) if shape[axis] == 1)
    _, e_i, e_f = elementwise(x, q.numpy(), k, i, f, overflow)
    np.testing.assert_allclose(d_i.numpy(), (upstream * e_i).sum(axes, keepdims=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(d_f.numpy(), (upstream * e_f).sum(axes, keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overflow", SATURATING)
def test_the_gradient_of_the_range_is_that_of_its_end(overflow):
    """Finite differences where the function has them: far outside, q is the end of the range, a smooth function of i and f."""
    i, f, h = 2.0, 3.0, 1e-6
    for x, end in ((99.0, lambda i, f: 2**i - 2**-f), (-99.0, lambda i, f: -(2**i - (2**-f if overflow == "SAT_SYM" else 0)))):
        ti, tf_ = tensors([i], [f])
        with tf.GradientTape() as tape:
            tape.watch((ti, tf_))
            q = ops.fixed_quantize(tf.constant([x]), *tensors([1]), ti, tf_, rounding="RND", overflow=overflow)
        d_i, d_f = tape.gradient(q, (ti, tf_))
        assert d_i.numpy()[0] == pytest.approx((end(i + h, f) - end(i - h, f)) / (2 * h), rel=1e-5)
        assert d_f.numpy()[0] == pytest.approx((end(i, f + h) - end(i, f - h)) / (2 * h), rel=1e-5, abs=1e-9)


def test_stochastic_rounding_has_the_right_mean_and_reproduces():
    x = tf.fill([40000], 0.3)
    draw = lambda seed: ops.fixed_quantize(x, *tensors([1], [4], [0]), rounding="S_RND", overflow="WRAP", seed=tf.constant(seed))  # noqa: E731
    first = draw([1, 2]).numpy()
    assert set(np.unique(first)) == {0.0, 1.0}
    assert first.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 40000))
    np.testing.assert_array_equal(first, draw([1, 2]).numpy())
    assert (first != draw([1, 3]).numpy()).any()


def test_stochastic_rounding_leaves_the_grid_alone():
    x = tf.constant(np.arange(-8, 8) / 4, tf.float32)
    q = ops.fixed_quantize(x, *tensors([1], [4], [2]), rounding="S_RND", overflow="WRAP", seed=tf.constant([5, 6]))
    np.testing.assert_array_equal(q.numpy(), x.numpy())


def test_ste_round_and_scaled_gradient():
    x = tf.constant([0.5, 1.5, -2.4])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ops.scale_gradient(ops.ste_round(x), 0.25)
    np.testing.assert_array_equal(y.numpy(), [0, 2, -2])
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [0.25] * 3)


@pytest.mark.parametrize("jit", [False, True])
def test_compiled_bits_are_exact_too(jit):
    """Graph optimizers know approximate reciprocals, and fold constants: none of that may show."""
    x = RNG.normal(0, 3, (500, 27)).astype(np.float32)
    f = np.arange(-3, 24)[None]
    fixed = Fixed(1, 20 - f, f)
    parts = tensors(*fixed.astuple())
    for overflow in ("SAT", "WRAP"):
        step = tf.function(lambda x, k, i, f, o=overflow: ops.fixed_quantize(x, k, i, f, rounding="RND", overflow=o), jit_compile=jit)
        np.testing.assert_array_equal(step(tf.constant(x), *parts).numpy(), fixed.value(fixed.quantize(x, "RND", overflow)))


def test_xla_computes_the_same_bits_and_gradients():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 3, (64, 8)).astype(np.float32)
    parts = tensors(rng.integers(0, 2, (1, 8)), rng.integers(-2, 4, (1, 8)), rng.integers(-1, 6, (1, 8)))

    def step(x, k, i, f):
        with tf.GradientTape() as tape:
            tape.watch((x, i, f))
            qs = [
                ops.fixed_quantize(x, k, i, f, rounding=rounding, overflow=overflow, seed=tf.constant([7, 8]))
                for rounding, overflow in (("RND", "SAT_SYM"), ("RND", "WRAP"), ("RND_CONV", "WRAP_SM"), ("S_RND", "SAT"))
            ]
            total = tf.add_n([tf.reduce_sum(q * x) for q in qs])
        return qs, tape.gradient(total, (x, i, f))

    plain, compiled = step(tf.constant(x), *parts), tf.function(step, jit_compile=True)(tf.constant(x), *parts)
    for a, b in zip(plain[0], compiled[0], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(plain[1], compiled[1], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)

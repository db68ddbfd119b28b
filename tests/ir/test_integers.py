"""`IntArray` against Python's unbounded integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hgq.errors import Int64Overflow
from hgq.ir import interpret, ops
from hgq.ir.build import GraphBuilder
from hgq.ir.integers import IntArray, magnitude
from hgq.numerics import Fixed

small = st.integers(-(2**20), 2**20)
exponent = st.integers(-12, 20)


@st.composite
def int_arrays(draw, shape=(2, 3), elements=small):
    return IntArray(draw(arrays.arrays(np.int64, shape, elements=elements)), draw(exponent))


def exact(x: IntArray) -> list[Fraction]:
    return [Fraction(int(m)) * Fraction(2) ** -x.f for m in x.mantissa.reshape(-1)]


@given(int_arrays(), int_arrays())
def test_element_by_element(x, y):
    a, b = exact(x), exact(y)
    assert exact(x + y) == [p + q for p, q in zip(a, b, strict=True)]
    assert exact(x - y) == [p - q for p, q in zip(a, b, strict=True)]
    assert exact(x * y) == [p * q for p, q in zip(a, b, strict=True)]
    assert exact(np.maximum(x, y)) == [max(p, q) for p, q in zip(a, b, strict=True)]
    assert exact(np.minimum(x, y)) == [min(p, q) for p, q in zip(a, b, strict=True)]
    assert exact(-x) == [-p for p in a]


@given(int_arrays(shape=(2, 3)), int_arrays(shape=(3, 4)))
def test_matmul(x, w):
    a, b = np.array(exact(x), object).reshape(2, 3), np.array(exact(w), object).reshape(3, 4)
    assert exact(x @ w) == list((a @ b).reshape(-1))


@pytest.mark.parametrize("bits", [20, 28, 29])
def test_matmul_beyond_float64(bits):
    """Products of 57 bits are no longer exact in float64, so the integer product must take over."""
    rng = np.random.default_rng(bits)
    x = rng.integers(-(2**bits), 2**bits, (5, 7))
    w = rng.integers(-(2**bits), 2**bits, (7, 3))
    assert ((IntArray(x, 0) @ IntArray(w, 0)).mantissa == x.astype(object) @ w.astype(object)).all()


@given(
    arrays.arrays(
        np.float64, (4,), elements=st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-3)
    )
)
def test_reals_are_exact(values):
    array = IntArray.of_reals(values)
    assert exact(array) == [Fraction(float(v)) for v in values]
    assert np.array_equal(array.reals(), values)


def test_mixed_with_plain_numbers():
    x = IntArray(np.array([[1, -3]]), 1)
    assert exact(np.maximum(x, 0.0)) == [Fraction(1, 2), 0]
    assert exact(x * 0.25) == [Fraction(1, 8), Fraction(-3, 8)]
    assert exact(x + np.array([1.5, 0.125])) == [Fraction(2), Fraction(-11, 8)]


def test_movements_keep_the_exponent():
    x = IntArray(np.arange(6).reshape(1, 6), 3)
    y = ops.reshape(x, shape=(2, 3))
    assert y.shape == (1, 2, 3) and y.f == 3
    assert exact(x[:, 2:4]) == [Fraction(2, 8), Fraction(3, 8)]


def test_formats_are_aligned():
    x = IntArray.of_formats(np.array([1, 1, -3]), np.array([0, 3, -2]))
    assert exact(x) == [1, Fraction(1, 8), -12]


HUGE = IntArray(np.array([[2**61]]), 0)


@pytest.mark.parametrize(
    "operation",
    [
        lambda: HUGE + HUGE,
        lambda: HUGE - (-HUGE),
        lambda: HUGE * HUGE,
        lambda: HUGE @ IntArray(np.array([[2, 2]]), 0),
        lambda: IntArray(np.full((1, 8), 2**58), 0) @ IntArray(np.full((8, 1), 2), 0),
        lambda: HUGE + IntArray(np.array([[1]]), 5),
        lambda: IntArray.of_formats(np.array([2**60, 1]), np.array([0, 10])),
        lambda: HUGE.quantize(1, 20, 20, "WRAP", "TRN"),
    ],
)
def test_what_would_not_fit_is_refused(operation):
    with pytest.raises(Int64Overflow, match="does not fit the golden model's 64-bit integers"):
        operation()


def test_more_than_53_bits_are_not_shown_as_floats():
    with pytest.raises(Int64Overflow, match="too many bits to be shown"):
        IntArray(np.array([2**60 + 1]), 0).reals()
    assert IntArray(np.array([2**60]), 0).reals() == 2.0**60


def test_magnitude_of_the_most_negative():
    assert magnitude(np.array([-(2**63)])) == 2**63
    assert magnitude(np.zeros(0, np.int64)) == 0


def test_an_overflow_in_a_graph_names_its_node():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.ones(1, int), np.full(1, 40), np.zeros(1, int)), "RND", "SAT")
    with b.layer("first"):
        x = b.op("multiply", x, b.constant(np.array([3]), Fixed(0, 2, 0), "scale"))
    with b.layer("second"), pytest.raises(Int64Overflow, match=r"node second/multiply \(multiply\), layer second"):
        x = b.op("multiply", x, b.constant(np.array([2**30 - 1]), Fixed(0, 30, 0), "scale"))
        interpret.run(b.graph(x), np.array([[1e12]]))


@given(
    int_arrays(shape=(4,)), st.sampled_from(["TRN", "RND", "RND_CONV"]), st.sampled_from(["WRAP", "SAT", "SAT_SYM", "WRAP_SM"]), st.data()
)
def test_quantize_is_what_numerics_says(x, rounding, overflow, data):
    k, i, f = data.draw(st.integers(0, 1)), data.draw(st.integers(-2, 5)), data.draw(st.integers(-3, 6))
    fixed = Fixed(np.full(4, k), np.full(4, i), np.full(4, f))
    got = ops.quantize(x, format=fixed, rounding=rounding, overflow=overflow).reals()
    assert np.array_equal(got, fixed.value(fixed.requantize(x.mantissa, x.f, rounding, overflow)))

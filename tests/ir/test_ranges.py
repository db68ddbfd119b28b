"""Proven formats: sound (no sample ever leaves them) and, for affine graphs, as narrow as can be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgq.ir import interpret
from hgq.ir.build import GraphBuilder
from hgq.ir.ranges import RangeArray
from hgq.numerics import Fixed
from tests.random_graphs import random_graph, random_samples


def assert_inside(graph, samples) -> None:
    formats = graph.formats()
    for name, values in interpret.run(graph, samples, trace=True).items():
        fixed = formats[name]
        mantissa = np.ldexp(values, fixed.f)
        assert (mantissa == np.rint(mantissa)).all(), f"{name} has bits below its proven grid"
        outside = (mantissa < fixed.low) | (mantissa > fixed.high)
        assert not outside.any(), f"{name} leaves its proven range"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.booleans())
def test_random_graphs_stay_inside(seed, depth, quantized):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, tuple(int(n) for n in rng.integers(1, 7, depth)), quantized_output=quantized)
    assert_inside(graph, random_samples(graph, 300, seed))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 1),
    st.integers(-3, 4),
    st.integers(-3, 5),
    st.integers(0, 1),
    st.integers(-3, 4),
    st.integers(-3, 5),
    st.sampled_from(["TRN", "RND", "RND_CONV"]),
    st.sampled_from(["WRAP", "SAT", "SAT_SYM", "WRAP_SM"]),
)
def test_a_quantizer_of_every_value_of_its_input(k, i, f, k2, i2, f2, rounding, overflow):  # fmt: skip
    b = GraphBuilder("net")
    port = Fixed(np.array([k]), np.array([i]), np.array([f]))
    x = b.input("x", port, "RND", "SAT")
    y = b.quantize(x, Fixed(np.array([k2]), np.array([i2]), np.array([f2])), rounding, overflow)
    graph = b.graph(y)
    every = port.value(np.arange(int(port.low[0]), int(port.high[0]) + 1)[:, None])
    assert_inside(graph, every)
    if overflow in ("SAT", "SAT_SYM"):  # monotone: both ends of the proven range occur
        got, fixed = interpret.run(graph, every)[y.name], graph.formats()[y.name]
        lowest, highest = np.ldexp(got.min(), fixed.f[0]), np.ldexp(got.max(), fixed.f[0])
        assert Fixed.spanning(lowest.astype(int), highest.astype(int), fixed.f).equals(fixed)


@pytest.mark.parametrize("seed", range(20))
def test_affine_formats_are_tight(seed):
    """matmul + add of independent inputs: the extremes are reached, so one bit less would not hold them."""
    rng = np.random.default_rng(seed)
    inputs, units = 5, 4
    b = GraphBuilder("net")
    port = Fixed(rng.integers(0, 2, inputs), rng.integers(0, 3, inputs), rng.integers(0, 3, inputs))
    x = b.input("x", port, "RND", "SAT")
    y = b.op("matmul", x, b.constant(rng.integers(-7, 8, (inputs, units)), Fixed(1, 9, 2), "kernel"))
    y = b.op("add", y, b.constant(rng.integers(-7, 8, units), Fixed(1, 9, 3), "bias"))
    graph = b.graph(y)
    fixed = graph.formats()[y.name]
    ends = np.array(list(itertools.product(*zip(port.value(port.low), port.value(port.high), strict=True))))
    out = interpret.run(graph, ends)[y.name]
    mantissa = np.ldexp(out, fixed.f).astype(np.int64)
    best = Fixed.spanning(mantissa.min(axis=0), mantissa.max(axis=0), fixed.f)
    assert np.array_equal(best.width, fixed.width) and np.array_equal(best.k, fixed.k)
    # The grid is tight, too: some value of each output uses its last bit.
    steps = np.concatenate([ends, port.value(np.stack([port.high - 1, np.maximum(port.low, port.high - 2)]).clip(port.low))])
    fine = interpret.run(graph, steps)[y.name]
    live = fixed.width > 0
    varying = (np.ldexp(fine, fixed.f - 1) % 1 != 0).any(axis=0)
    assert varying[live].all()


@pytest.mark.parametrize(("overflow", "value"), [("SAT", -4.0), ("SAT_SYM", -3.875), ("SAT", 3.875)])
def test_clipping_brings_in_a_finer_grid(overflow, value):
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.array([1]), np.array([7]), np.array([-3])), "RND", "SAT")  # multiples of 8
    y = b.quantize(x, Fixed(np.array([1]), np.array([2]), np.array([3])), "RND", overflow)
    graph = b.graph(y)
    samples = np.array([[-128.0], [120.0], [0.0]])
    assert value in interpret.run(graph, samples)[y.name]
    assert_inside(graph, samples)


def test_operations():
    x = RangeArray.of_format(Fixed(np.array([1]), np.array([2]), np.array([1])))  # -4 … 3.5 by 0.5
    fixed = (x + x).format()
    assert (int(fixed.k[0]), int(fixed.i[0]), int(fixed.f[0])) == (1, 3, 1)
    fixed = (-x).format()  # -3.5 … 4
    assert (int(fixed.k[0]), int(fixed.i[0]), int(fixed.f[0])) == (1, 3, 1)
    fixed = np.maximum(x, 0.0).format()
    assert (int(fixed.k[0]), int(fixed.i[0]), int(fixed.f[0])) == (0, 2, 1)
    fixed = (x * -0.25).format()
    assert (int(fixed.k[0]), int(fixed.i[0]), int(fixed.f[0])) == (1, 1, 3)
    assert (x * 0.0).format().width[0] == 0


def test_a_dead_element_does_not_widen_a_sum():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.array([1, 0]), np.array([2, 0]), np.array([1, 0])), "RND", "SAT")
    y = b.op("matmul", x, b.constant(np.array([[1], [12345]]), Fixed(0, 20, 9), "kernel"))
    fixed = b.graph(y).formats()[y.name]
    assert int(fixed.width[0]) == 4


def test_a_constant_value_has_a_grid_of_its_own():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.array([0]), np.array([0]), np.array([0])), "RND", "SAT")
    y = b.op("add", x, b.constant(np.array([8]), Fixed(0, 9, 2), "bias"))  # always 2
    fixed = b.graph(y).formats()[y.name]
    assert (int(fixed.k[0]), int(fixed.i[0]), int(fixed.f[0])) == (0, 2, -1)

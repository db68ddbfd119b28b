"""Native ops equal the plain-TensorFlow references bit for bit: any shape, any number, any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hgq import gradients, native

QUANTIZERS = (
    "luq4",
    "luq3",
    "luq2",
    "luq(levels=8)",
    "luq(levels=127)",
    "luq4(samples=3)",
    "luq4(granularity='row')",
    "luq4(granularity='row', samples=2)",
    "luq4(power_of_two=True)",
    "int4",
    "int4_rn",
    "int2",
    "int8",
    "int4(bits=16)",
)
WITH_CODES = ("luq4", "luq3", "luq2", "int4", "int4_rn", "int2", "int4(bits=7)")

RNG = np.random.default_rng(5)
CASES = {
    "normal": RNG.normal(size=(100, 37)),
    "several chunks": RNG.normal(size=(5, 40_001)),
    "no rows": np.zeros((0, 3)),
    "zeros of both signs": np.array([[0.0, -0.0], [-0.0, 0.0]]),
    "below the normal numbers": RNG.normal(size=(20, 20)) * 1e-40,
    "scale below the normal numbers": RNG.normal(size=(20, 20)) * 2e-38,
    "near overflow": RNG.uniform(-3e38, 3e38, (20, 20)),
    "infinite": np.array([[1, np.inf, -2], [0, -np.inf, -0.0]]),
    "not a number": np.array([[1, np.nan, -2, np.inf], [0, 5, -0.0, -1]]),
    "one": np.array([[-3.0]]),
    "powers of two": 2.0 ** RNG.integers(-10, 10, (40, 40)),
    "many decades": RNG.normal(size=(64, 64)) * 10.0 ** RNG.uniform(-20, 10, (64, 64)),
    "four axes": RNG.normal(size=(3, 5, 7, 2)),
}


@pytest.fixture(autouse=True)
def native_ops():
    if not native.state().usable or native.instructions() is None:
        pytest.skip(f"no native ops: {native.state().text}")


def reference(function, *arguments):
    """The same without native ops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HGQ_NATIVE", "0")
        return function(*arguments)


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    numbers = ~np.isnan(a)
    np.testing.assert_array_equal(np.isnan(b), ~numbers)
    np.testing.assert_array_equal(a[numbers].view(np.int8), b[numbers].view(np.int8))


def check(name, g, seed):
    scheme, g, seed = gradients.get(name), tf.constant(g, tf.float32), tf.constant(seed, tf.int32)
    assert native.ops_for(g) is not None
    same_bits(scheme.quantize(g, seed), reference(scheme.quantize, g, seed))
    if scheme.greatest_code is not None and name in WITH_CODES:
        for received, expected in zip(scheme.codes(g, seed), reference(scheme.codes, g, seed), strict=True):
            same_bits(received, expected)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits(name, case):
    check(name, CASES[case].astype(np.float32), [3, -4])


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_same_bits_in_graphs(name):
    """Where TensorFlow rewrites arithmetic, with XLA and without; the numbers of one graph are those of the others."""
    scheme, seed = gradients.get(name), tf.constant([3, -4])
    g = tf.constant(np.concatenate([CASES["many decades"], CASES["normal"][:64].repeat(2, 1)[:, :64]]), tf.float32)
    with native.in_graphs():
        graph = tf.function(scheme.quantize)
        same_bits(graph(g, seed), reference(tf.function(scheme.quantize), g, seed))
        names = {op.type for op in graph.get_concrete_function(g, seed).graph.get_operations()}
        assert names & {"HgqcLuq", "HgqcInteger"}
    with native.in_graphs(False):
        same_bits(tf.function(scheme.quantize, jit_compile=True)(g, seed), scheme.quantize(g, seed))


def test_graphs_hold_no_native_ops_unless_asked_for():
    g, seed = tf.ones((4, 4)), tf.constant([1, 2])
    function = tf.function(gradients.get("luq4").quantize)
    assert "HgqcLuq" not in {op.type for op in function.get_concrete_function(g, seed).graph.get_operations()}
    with native.in_graphs(), native.in_graphs(False):
        assert tf.function(native.ops_for)(g) is None


NUMBERS = st.one_of(
    st.floats(width=32),
    st.integers(-(2**31), 2**31 - 1).map(lambda bits: float(np.array(bits, np.int32).view(np.float32))),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-126, -(2.0**-149), 3.4e38]),
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(QUANTIZERS),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9).flatmap(lambda s: hnp.arrays(np.float32, s, elements=NUMBERS)),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=2),
)
def test_the_same_bits_whatever_the_numbers(name, g, seed):
    check(name, g, seed)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(2, 8),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9).flatmap(lambda s: hnp.arrays(np.float32, s, elements=NUMBERS)),
    st.integers(0, 2**31 - 1),
)
def test_operands_of_products_have_the_same_bits(bits, x, seed):
    scheme, x, seed = gradients.IntegerProducts(bits=bits), tf.constant(x), tf.constant([seed, 1])
    for received, expected in zip(scheme.operand(x, seed), reference(scheme.operand, x, seed), strict=True):
        same_bits(received, expected)


def test_a_scale_in_hindsight_is_used_and_clips():
    g, seed = tf.constant(CASES["normal"], tf.float32), tf.constant([1, 2])
    scheme = gradients.LUQ(scale="hindsight")
    for peak in (1.0, 100.0):
        received = scheme.quantize(g, seed, tf.constant(peak))
        same_bits(received, reference(lambda g, s, peak=peak: scheme.quantize(g, s, tf.constant(peak)), g, seed))
        assert np.abs(received).max() <= peak


SHAPES = st.tuples(*[st.integers(1, 70)] * 3)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.sampled_from([(-127, 127, 1), (-63, 63, 1), (0, 127, 1), (-128, 124, 4), (0, 0, 1), (-128, -128, 1)]), st.integers(0, 99))
def test_products_are_those_of_integers(shape, codes, seed):
    rng = np.random.default_rng(seed)
    positions, inputs, outputs = shape
    low, high, step = codes
    g = rng.integers(-64, 65, (positions, outputs)).astype(np.int8)
    w, x = ((rng.integers(low, high + 1, s) // step * step).astype(np.int8) for s in ((inputs, outputs), (positions, inputs)))
    ops, scale = native.ops_for(tf.zeros(())), np.float32(0.37)
    data, kernel = ops.hgqc_data_product(g, w, scale), ops.hgqc_kernel_product(x, g, scale)
    np.testing.assert_array_equal(data, (g.astype(np.int64) @ w.T.astype(np.int64)).astype(np.float32) * scale)
    np.testing.assert_array_equal(kernel, (x.T.astype(np.int64) @ g.astype(np.int64)).astype(np.float32) * scale)


@pytest.mark.parametrize("greatest", [0.0, 0.002, 0.03, 0.3, 1.0])
@pytest.mark.parametrize("data", ["of both signs", "positive", "few bits"])
def test_products_of_codes_that_rarely_are_great(greatest, data):
    """Where eight codes would overflow 16 bits some are taken out, or fewer are added: in none, some, and all parts of a product."""
    rng = np.random.default_rng(7)
    low, high = {"of both signs": (-127, 127), "positive": (0, 127), "few bits": (-7, 7)}[data]
    magnitudes = 2 ** rng.integers(0, 5, (2500, 61))
    magnitudes[rng.random(magnitudes.shape) < greatest] = 64
    signs = rng.choice([-1, 1], magnitudes.shape)
    signs[:, :20], signs[:, 20:40] = 1, -1  # of one sign they overflow sooner
    g = (signs * magnitudes).astype(np.int8)
    x = np.where(rng.random((2500, 50)) < 0.5, rng.integers(low, high + 1, (2500, 50)), rng.choice([low, high], (2500, 50))).astype(np.int8)
    ops, scale = native.ops_for(tf.zeros(())), np.float32(0.37)
    expected = (x.T.astype(np.int64) @ g.astype(np.int64)).astype(np.float32) * scale
    np.testing.assert_array_equal(ops.hgqc_kernel_product(x, g, scale), expected)
    np.testing.assert_array_equal(ops.hgqc_data_product(g.T.copy(), x.T.copy(), scale), expected.T)


@pytest.mark.parametrize("peak", [64, 127])
def test_long_products_are_exact(peak):
    """More terms than one block, than float32, and than 32 bits can sum."""
    ops, terms = native.ops_for(tf.zeros(())), (1 << 18) + 1030
    x, g = np.full((terms, 3), peak, np.int8), np.full((terms, 2), -64, np.int8)
    g[::3] = 63
    expected = (x.T.astype(np.int64) @ g.astype(np.int64)).astype(np.float32)
    np.testing.assert_array_equal(ops.hgqc_kernel_product(x, g, 1.0), expected)
    np.testing.assert_array_equal(ops.hgqc_data_product(g.T[:, :5000].copy(), x.T[:, :5000].copy(), 1.0), g[:5000].T.astype(int) @ x[:5000])


def test_products_of_nothing():
    ops = native.ops_for(tf.zeros(()))
    np.testing.assert_array_equal(ops.hgqc_kernel_product(np.zeros((0, 3), np.int8), np.zeros((0, 2), np.int8), 1.0), np.zeros((3, 2)))
    assert ops.hgqc_data_product(np.zeros((0, 3), np.int8), np.zeros((4, 3), np.int8), 1.0).shape == (0, 4)


def test_codes_that_would_overflow_are_refused():
    ops = native.ops_for(tf.zeros(()))
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient codes go from -64 to 64"):
        ops.hgqc_data_product(np.full((2, 3), 65, np.int8), np.zeros((4, 3), np.int8), 1.0)


DIGEST = """
import hashlib, sys
import numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from hgq import gradients
g = tf.constant(np.random.default_rng(1).normal(size=(700, 300)), tf.float32)
parts = [gradients.get(name).quantize(g, tf.constant([1, 2])) for name in ("luq4", "luq4(granularity='row')", "int4")]
scheme = gradients.get("luq4_int8")
with tf.GradientTape() as tape:
    tape.watch([g, w := tf.reshape(g, (300, 700))])
    y = scheme.product(gradients.MatrixProduct(), g, w, tf.constant([3, 4]))
parts += tape.gradient(y, [g, w], y)
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest())
"""


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_bits():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, threads], capture_output=True, text=True, check=True, env={**os.environ, **env}
        ).stdout
        for threads, env in (("1", {}), ("2", {}), ("5", {}), ("2", {"HGQ_NATIVE": "0"}))
    }
    assert len(digests) == 1

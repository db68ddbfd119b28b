"""Native products of small matrices, against NumPy in float64 and the bound of their rounding, and against TensorFlow's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hgq import native

pytestmark = pytest.mark.skipif(native.instructions() is None, reason="no native ops here")

EPSILON = 2.0**-24
FORMS = ((False, False), (False, True), (True, False))


def ops() -> Any:
    return native.ops_for(tf.zeros(()))


def operands(rng: np.random.Generator, rows: int, cols: int, depth: int, form: tuple[bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    a, b = rng.normal(size=(rows, depth)), rng.normal(size=(depth, cols))
    left, right = (np.ascontiguousarray(m.T if turned else m, np.float32) for m, turned in zip((a, b), form, strict=True))
    return left, right


def product(a, b, form: tuple[bool, bool]) -> np.ndarray:
    return ops().hgqc_mat_mul(a, b, transpose_a=form[0], transpose_b=form[1]).numpy()


def in_float64(a, b, form: tuple[bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """The product, and what bounds its rounding in float32: ``n eps sum |a||b|`` for n additions in any order (Higham 2002, 3.5)."""
    a, b = (m.astype(np.float64).T if turned else m.astype(np.float64) for m, turned in zip((a, b), form, strict=True))
    return a @ b, 1.01 * a.shape[1] * EPSILON * (np.abs(a) @ np.abs(b))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(FORMS), st.integers(0, 150), st.integers(0, 70), st.integers(0, 150), st.integers(0, 99))
def test_products_are_those_of_numpy(form, rows, cols, depth, seed):
    a, b = operands(np.random.default_rng(seed), rows, cols, depth, form)
    exact, bound = in_float64(a, b, form)
    y = product(a, b, form)
    assert y.shape == (rows, cols)
    assert (np.abs(y - exact) <= bound).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(33_200, 16, 64), (5000, 5, 32), (4097, 130, 33), (700, 256, 256)])
def test_large_batches(form, shape):
    """On several threads, and in several blocks."""
    batch, n, k = shape
    a, b = operands(np.random.default_rng(1), *((k, n, batch) if form[0] else (batch, n, k)), form)
    exact, bound = in_float64(a, b, form)
    assert (np.abs(product(a, b, form) - exact) <= bound).all()


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FORMS), st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_whole_numbers_are_exact(form, rows, cols, depth, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-100, 101, m.shape).astype(np.float32) for m in operands(rng, rows, cols, depth, form))
    np.testing.assert_array_equal(product(a, b, form), in_float64(a, b, form)[0])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FORMS), st.integers(1, 40), st.integers(1, 40), st.integers(1, 140), st.integers(0, 99))
def test_what_is_no_number_goes_where_it_goes_in_numpy(form, rows, cols, depth, seed):
    """0 * inf is NaN, inf - inf too; rows and columns without them keep their numbers, whatever lies beside them in memory."""
    rng = np.random.default_rng(seed)
    a, b = (np.round(m) for m in operands(rng, rows, cols, depth, form))
    for m in (a, b):
        m.reshape(-1)[rng.integers(0, m.size, 2)] = rng.choice([np.nan, np.inf, -np.inf], 2)
    with np.errstate(invalid="ignore"):
        exact = in_float64(a, b, form)[0]
    np.testing.assert_array_equal(product(a, b, form), exact)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100), st.integers(1, 40), st.integers(0, 40), st.booleans(), st.integers(0, 99))
def test_dense_is_product_bias_and_relu_one_after_the_other(rows, cols, depth, relu, seed):
    rng = np.random.default_rng(seed)
    x, kernel = operands(rng, rows, cols, depth, (False, False))
    bias = rng.normal(size=cols).astype(np.float32)
    bias[rng.integers(0, cols)] = rng.choice([np.nan, np.inf, -np.inf, -0.0])
    expected = tf.nn.bias_add(product(x, kernel, (False, False)), bias)
    np.testing.assert_array_equal(ops().hgqc_dense(x, kernel, bias, relu=relu), tf.nn.relu(expected) if relu else expected)


def test_operands_that_do_not_fit_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="no product of"):
        ops().hgqc_mat_mul(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not both"):
        ops().hgqc_mat_mul(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), transpose_a=True, transpose_b=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no bias of shape"):
        ops().hgqc_dense(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), np.zeros(3, np.float32))


DIGEST = """
import hashlib, sys
import numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from hgq import native
from test_matrix import FORMS, operands, product
parts = []
for batch, n, k in ((33_200, 16, 64), (3001, 5, 32), (5000, 33, 130)):
    for form in FORMS:
        parts.append(product(*operands(np.random.default_rng(2), *((k, n, batch) if form[0] else (batch, n, k)), form), form))
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_bits():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, threads], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        ).stdout
        for threads in "125"
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2

"""EBOPs against loops, on NumPy integers and on tensors; and no heavy import for them."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from hgq.ir import windows
from hgq.resources import ebops

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("positions", [(), (3,), (2, 3)])
def test_dense_is_the_triple_loop(positions):
    bx, bw, bb = RNG.integers(0, 9, (*positions, 4)), RNG.integers(0, 9, (4, 5)), RNG.integers(0, 9, 5)
    products = bias = 0
    for position in np.ndindex(positions):
        for j in range(5):
            bias += bb[j]
            for i in range(4):
                products += bx[(*position, i)] * bw[i, j]
    assert ebops.dense(bx, bw) == products
    assert ebops.dense(bx, bw, bb) == products + bias


@pytest.mark.parametrize("positions", [(), (3,)])
def test_scale_offset_is_the_loop(positions):
    bx, bs, bo = RNG.integers(0, 9, (*positions, 4)), RNG.integers(0, 9, 4), RNG.integers(0, 9, 4)
    products = offsets = 0
    for index in np.ndindex(bx.shape):
        products += bx[index] * bs[index[-1]]
        offsets += bo[index[-1]]
    assert ebops.scale_offset(bx, bs) == products
    assert ebops.scale_offset(bx, bs, bo) == products + offsets
    assert ebops.scale_offset(bx, None, bo) == offsets


def test_tensors_give_the_same():
    import tensorflow as tf

    bx, bw, bb = RNG.integers(0, 9, (2, 3, 4)), RNG.integers(0, 9, (4, 5)), RNG.integers(0, 9, 5)
    tensors = [tf.constant(bits, tf.float32) for bits in (bx, bw, bb)]
    assert float(ebops.dense(*tensors, total=tf.reduce_sum)) == ebops.dense(bx, bw, bb)
    scaled = [tf.constant(bits, tf.float32) for bits in (bx, bw[:, 0], bw[:, 1])]
    assert float(ebops.scale_offset(*scaled, total=tf.reduce_sum)) == ebops.scale_offset(bx, bw[:, 0], bw[:, 1])


def test_formulas_import_neither_keras_nor_tensorflow():
    code = "import sys, hgq.resources.ebops; sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_windows_counted_at_once_are_those_counted_tap_by_tap():
    rng = np.random.default_rng(0)
    for sizes, taps, stride, step, mode, groups in product([(7,), (6, 9), (5, 4, 6)], (1, 2, 3), (1, 2), (1, 2), ("valid", "same"), (1, 2)):
        rank = len(sizes)
        if (taps - 1) * step + 1 > min(sizes):
            continue
        each = [(part,) * rank for part in (taps, stride, step)]
        geometry = {"strides": each[1], "dilation": each[2], "padding": windows.padding_of(mode, sizes, *each), "groups": groups}
        bits_x, bits_kernel = rng.integers(0, 9, (*sizes, 4)), rng.integers(0, 9, (*each[0], 4 // groups, 6))
        expected = sum(ebops.dense(*pair) for pair in ebops.tap_products(bits_x, bits_kernel, **geometry))
        assert ebops.conv(bits_x, bits_kernel, **geometry) == expected

"""Learned tables on edges: the function they hold, its exactness, what it refuses."""

from __future__ import annotations

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError, FreezeError
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import QConv1DT, QConv2DT, QDenseT

RNG = np.random.default_rng(12)
FINE = dict(input_quantizer="kif(i0=3, f0=10, overflow=SAT)", edge_quantizer="kif(i0=3, f0=10, overflow=SAT)")
RESULT = "kif(i0=4, f0=14, overflow=SAT)"


def built(layer, shape):
    layer.build((None, *shape))
    for variable in (layer.slope, layer.w, layer.b, layer.v):
        variable.assign(RNG.normal(0, 1, variable.shape))
    if layer.use_bias:
        layer.bias.assign(RNG.normal(0, 1, layer.bias.shape))
    return layer


def edge(layer, i, j, x):
    """The function of one edge in rational numbers, from weights rounded to 2**-16."""

    def rounded(value):
        return Fraction(round(Fraction(float(value)) * 65536), 65536)

    slope, *rest = (np.asarray(part)[i, j] for part in (layer.slope, layer.w, layer.b, layer.v))
    total = rounded(slope) * Fraction(x)
    for w, b, v in zip(*rest, strict=True):
        hidden = rounded(max(rounded(w) * Fraction(x) + rounded(b), Fraction(0)))
        total += rounded(v) * (hidden - max(rounded(b), Fraction(0)))
    return total


def test_the_table_is_the_function_in_rational_numbers():
    layer = built(QDenseT(2, hidden=3, use_bias=False, table_quantizer=RESULT, **FINE), (2,))
    x = np.round(RNG.normal(0, 2, (20, 2)) * 1024).astype(np.float32) / 1024
    expected = np.zeros((20, 2))
    fixed = layer.table_quantizer.format().broadcast_to((2, 2))
    for sample in range(20):
        for i, j in np.ndindex(2, 2):
            value = np.float32(float(edge(layer, i, j, float(x[sample, i]))))
            expected[sample, j] += fixed[i, j].value(fixed[i, j].quantize(value, "RND", "SAT"))
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize("jit", [False, True])
def test_every_way_to_run_it_gives_the_same_bits(jit):
    layer = built(QDenseT(5, hidden=6, table_quantizer="kif(i0=2, f0=8, overflow=SAT)"), (7,))
    x = RNG.normal(0, 2, (500, 7)).astype(np.float32)
    layer(x, training=True)
    compiled = tf.function(lambda x: layer(x, training=False), jit_compile=jit, autograph=False)
    np.testing.assert_array_equal(compiled(x), layer(x))
    model = keras.Sequential([keras.Input((7,)), layer])
    (golden,) = run(freeze(model), x).values()
    np.testing.assert_array_equal(golden, layer(x))


def test_training_computes_the_same_function():
    layer = built(QDenseT(3, table_quantizer=RESULT, **FINE), (4,))
    x = RNG.normal(0, 1, (100, 4)).astype(np.float32)
    np.testing.assert_allclose(layer(x, training=True), layer(x), atol=1e-3)


def test_an_edge_without_bits_is_nothing():
    layer = built(QDenseT(1, use_bias=False), (2,))
    x = RNG.normal(0, 1, (50, 2)).astype(np.float32)
    layer(x, training=True)
    bits = layer.edge_quantizer._f.numpy()
    bits[0, 0, 0] = -9.0
    layer.edge_quantizer._f.assign(bits)
    first, second = layer(x * [[1, 0]]), layer(x * [[0, 1]])
    np.testing.assert_array_equal(first, 0)
    np.testing.assert_array_equal(layer(x), second)
    mantissa, result = layer.edge_tables(layer.edge_quantizer.format())
    assert not mantissa[0].any() and not result.width[0].any()


@pytest.mark.parametrize(
    ("table", "convolution", "shape"),
    [
        (QConv1DT(3, 3, strides=2, padding="same", **FINE, table_quantizer=RESULT), keras.layers.Conv1D(3, 3, 2, "same"), (7, 2)),
        (QConv1DT(2, 2, padding="causal", dilation_rate=2, **FINE, table_quantizer=RESULT), None, (6, 2)),
        (QConv2DT(3, (3, 2), strides=(2, 1), **FINE, table_quantizer=RESULT), keras.layers.Conv2D(3, (3, 2), (2, 1)), (6, 5, 2)),
        (QConv2DT(2, 3, padding="same", dilation_rate=2, **FINE, table_quantizer=RESULT), None, (5, 5, 1)),
    ],
)
def test_with_straight_lines_it_is_a_convolution(table, convolution, shape):
    layer = built(table, shape)
    layer.v.assign(np.zeros(layer.v.shape))
    if convolution is None:
        kind = keras.layers.Conv1D if layer.rank == 1 else keras.layers.Conv2D
        convolution = kind(layer.units, layer.kernel_size, padding=layer.padding, dilation_rate=layer.dilation_rate)
    x = RNG.normal(0, 1, (30, *shape)).astype(np.float32)
    convolution.build((None, *shape))
    convolution.kernel.assign(np.asarray(layer.slope).reshape(convolution.kernel.shape))
    convolution.bias.assign(layer.bias)
    np.testing.assert_allclose(layer(x), convolution(x), atol=2e-2)
    assert layer.compute_output_shape((None, *shape)) == convolution.compute_output_shape((None, *shape))


@pytest.mark.slow
def test_it_learns_what_no_dense_layer_can():
    x = RNG.uniform(-2, 2, (2048, 2)).astype(np.float32)
    y = (x[:, :1] ** 2 - np.abs(x[:, 1:])).astype(np.float32)
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((2,)), QDenseT(1, hidden=8, beta=1e-7, edge_quantizer="data(f0=5)", table_quantizer="data(overflow=SAT, i0=2, f0=6)")]
    )
    model.compile(keras.optimizers.Adam(2e-2), "mse")
    model.fit(x, y, epochs=30, batch_size=256, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.02 * y.var()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QDenseT(0), "units is the number of outputs"),
        (lambda: QDenseT(2, hidden=0), "hidden is the number"),
        (lambda: QDenseT(2, edge_quantizer=None), "needs its edge_quantizer"),
        (lambda: QDenseT(2, table_quantizer="binary"), "needs fixed-point numbers"),
        (lambda: QConv1DT(2, 9).build((None, 4, 1)), "kernel is larger than the input"),
        (lambda: QConv2DT(2, 2).build((None, 4, 1)), "an input of 4 axes"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_index_of_too_many_bits_is_refused():
    model = keras.Sequential([keras.Input((2,)), QDenseT(1, edge_quantizer="kif(i0=3, f0=15, overflow=SAT)")])
    with pytest.raises(FreezeError, match=r"too many bits[\s\S]*19 bits[\s\S]*f_bounds"):
        freeze(model)

"""Einstein-sum layers compute what the stock layers compute on quantized numbers; what means nothing is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.layers import QDot, QEinsum, QEinsumDense, QEinsumDenseBatchNorm
from tests.layers.test_layers import FINE, trained

RNG = np.random.default_rng(51)
CASES = {
    "dense": ("ab,bc->ac", 3, "c", (4,)),
    "ellipsis_left": ("...x,xy->...y", 2, "y", (3, 4)),
    "ellipsis_right": ("ab...,bc->ac...", 2, "c", (4, 3, 5)),  # not (4, 3, 2): Keras takes a bias (2, 1, 1) for one of the last axis then
    "none": ("abc,cd->abd", (None, 3), "d", (2, 4)),
    "heads": ("abc,cde->abde", (None, 2, 3), "de", (3, 4)),
    "shared_axis": ("abc,bcd->abd", (3, 2), None, (3, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_einsum_dense_is_that_of_keras_on_quantized_numbers(name):
    equation, output_shape, bias_axes, shape = CASES[name]
    layer = trained(QEinsumDense(equation, output_shape, "relu", bias_axes), shape)
    twin = keras.layers.EinsumDense(equation, output_shape, "relu", bias_axes)
    twin.build((None, *shape))
    assert layer.kernel.shape == twin.kernel.shape
    twin.kernel.assign(layer.kernel_quantizer(layer.kernel.value))
    if bias_axes:
        assert layer.bias.shape == twin.bias.shape
        twin.bias.assign(layer.bias_quantizer(layer.bias.value))
    x = RNG.normal(0.5, 2, (50, *shape)).astype(np.float32)
    y = twin(layer.input_quantizer(x))
    np.testing.assert_allclose(layer(x), y, atol=1e-5)
    assert layer.compute_output_shape((None, *shape)) == (None, *y.shape[1:])


def test_batch_norm_form_is_einsum_dense_then_batch_norm():
    x = RNG.normal(2, 3, (200, 3, 4)).astype(np.float32)
    ours = QEinsumDenseBatchNorm("abc,cd->abd", (None, 3), epsilon=0.05, kernel_quantizer=FINE, bias_quantizer=FINE, input_quantizer=FINE)
    ours.build((None, 3, 4))
    dense, norm = keras.layers.EinsumDense("abc,cd->abd", (None, 3)), keras.layers.BatchNormalization(epsilon=0.05)
    norm(dense(x))
    dense.kernel.assign(ours.kernel)
    np.testing.assert_allclose(ours(x, training=True), norm(dense(x), training=True), atol=4e-3)
    np.testing.assert_allclose(ours(x), norm(dense(x)), atol=4e-3)


@pytest.mark.parametrize(
    ("axes", "shapes"), [(1, [(4,), (4,)]), ((2, 1), [(2, 3), (3, 2)]), (-1, [(2, 3), (3,)]), ((3, 2), [(2, 1, 3), (2, 3)])]
)
def test_dot_is_that_of_keras(axes, shapes):
    data = [np.round(RNG.normal(size=(20, *shape)) * 8).astype(np.float32) / 8 for shape in shapes]
    layer = QDot(axes, input_quantizers=FINE)
    y = layer(data)
    expected = keras.layers.Dot(axes)(data)
    np.testing.assert_array_equal(y, expected)
    assert layer.compute_output_shape([(None, *shape) for shape in shapes]) == (None, *expected.shape[1:])


def test_einsum_is_numpys():
    x, y = (np.round(RNG.normal(size=(20, *shape)) * 8).astype(np.float32) / 8 for shape in ((2, 2, 3), (4, 2, 3)))
    np.testing.assert_array_equal(QEinsum("bqhd,bkhd->bhqk", input_quantizers=FINE)([x, y]), np.einsum("bqhd,bkhd->bhqk", x, y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QEinsumDense("abc,cd->bad", (3, 2)).build((None, 3, 2)), "batch is not the first axis"),
        (lambda: QEinsumDense("abc,acd->abd", (3, 2)).build((None, 3, 2)), "batch is not the first axis"),
        (lambda: QEinsumDense("abc,cd->ad", 2).build((None, 3, 2)), "sums over b of one operand alone"),
        (lambda: QEinsumDense("abc,cd->abd", (4, 2)).build((None, 3, 2)), "output_shape contradicts the input"),
        (lambda: QEinsumDense("abc,cd->abd", 2).build((None, 3, 2)), "output_shape does not fit"),
        (lambda: QEinsumDense("abc,cd->abd", (None, None)).build((None, 3, 2)), "size of an axis is known from nowhere"),
        (lambda: QEinsumDense("ab,bc->ac", 2, bias_axes="z").build((None, 3)), "bias_axes names axes"),
        (lambda: QEinsumDenseBatchNorm("abc,cd->adb", (2, 3)).build((None, 3, 4)), "last axis of the output must be"),
        (lambda: QEinsum("bij,bjk->ik").build([(None, 2, 3), (None, 3, 2)]), "batch is not the first axis"),
        (lambda: QEinsum("bij,bjk->bik").build([(None, 2, 3), (None, 4, 2)]), "cannot be contracted"),
        (lambda: QEinsum("bij->bji").build([(None, 2, 3), (None, 4, 2)]), "no equation of two operands"),
        (lambda: QDot(0), "axes names one axis of each"),
        (lambda: QDot(1, normalize=True), "cannot be normalised exactly"),
        (lambda: QDot(3).build([(None, 2), (None, 2)]), "No such axis"),
        (lambda: QDot(1).build([(None, 2), (None, 3)]), "cannot be contracted"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()

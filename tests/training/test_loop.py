"""The order of samples and the scores."""

from __future__ import annotations

import numpy as np

from hgq.training.loop import order, score


def test_order_is_a_pure_function_and_a_permutation():
    a, b = order(3, 5, 103, 10), order(3, 5, 103, 10)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (10, 10) and len(np.unique(a)) == 100 and a.max() < 103
    assert not np.array_equal(a, order(3, 6, 103, 10)) and not np.array_equal(a, order(4, 5, 103, 10))
    np.testing.assert_array_equal(np.sort(order(0, 0, 7, 100).ravel()), np.arange(7))


def test_score():
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(0, 30, (50, 4)), rng.integers(0, 4, 50)
    p = np.exp(outputs - outputs.max(1)[:, None])
    p /= p.sum(1)[:, None]
    found = score(outputs, y, "crossentropy")
    np.testing.assert_allclose(found["loss"], -np.log(p[np.arange(50), y]).mean())
    assert found["accuracy"] == np.mean([int(np.argmax(row)) == label for row, label in zip(outputs, y, strict=True)])
    assert score(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]), "mse") == {"loss": 2.0}


def test_bits_of_every_layer_are_counted():
    """Of the constants that inference has: folded, joined, cut; whatever a layer calls them."""
    import keras

    from hgq.layers import QGRU, QBatchNormalization, QDense, QDenseBatchNorm
    from hgq.training.bits import histogram

    model = keras.Sequential(
        [keras.Input((3, 2)), QGRU(2, "hard_tanh", "hard_sigmoid"), QDenseBatchNorm(4), QBatchNormalization(), QDense(1)]
    )
    counts = {}
    for layer, name, _, count in histogram(model):
        counts[layer, name] = counts.get((layer, name), 0) + count
    gru, folded, norm, dense = (layer.name for layer in model.layers)
    assert counts[gru, "kernel_quantizer"] == 2 * 6 and counts[gru, "recurrent_quantizer"] == 2 * 6 and counts[gru, "bias_quantizer"] == 8
    assert counts[folded, "kernel_quantizer"] == 8 and counts[folded, "bias_quantizer"] == 4
    assert counts[norm, "scale_quantizer"] == counts[norm, "offset_quantizer"] == 4
    assert counts[dense, "kernel_quantizer"] == 4

"""One native op does what Keras' Adam does, to the last bit; whatever else an optimizer is asked for is left to Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import native
from hgq.quantizers.constraints import Between
from hgq.training.optimizers import BitAdam


def trained(optimizer, steps=12):
    """Variables and slots after steps with gradients of many magnitudes."""
    rng = np.random.default_rng(1)
    layer = keras.layers.Layer()
    shapes = {"kernel": (5, 7), "b": (3,), "f": (1,), "bias": (100,)}
    for name, shape in shapes.items():
        layer.add_weight(name=name, shape=shape, initializer="ones", constraint=Between(-0.5, 1.02) if name in "bf" else None)
    optimizer.build(layer.trainable_variables)

    @tf.function(autograph=False)
    def step(*gradients):
        with native.in_graphs():
            optimizer.apply(list(gradients), layer.trainable_variables)

    for _ in range(steps):
        step(*(tf.constant(rng.normal(size=v.shape) * 10.0 ** rng.integers(-5, 3), tf.float32) for v in layer.trainable_variables))
    ops = {operation.type for operation in step.get_concrete_function(*layer.trainable_variables).graph.get_operations()}
    return [np.asarray(variable) for variable in (*layer.variables, *optimizer.variables)], "HgqcAdam" in ops


@pytest.mark.parametrize("arguments", [{}, {"bit_rate": 8.0, "beta_1": 0.8, "epsilon": 1e-4}])
def test_it_is_keras_adam_to_the_last_bit(arguments, monkeypatch):
    native_loaded = native.instructions() is not None
    received, is_fused = trained(BitAdam(0.01, **arguments))
    monkeypatch.setenv("HGQ_NATIVE", "0")
    expected, without = trained(BitAdam(0.01, **arguments))
    assert not without and is_fused == native_loaded
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    if not arguments:
        for one, other in zip(received, trained(keras.optimizers.Adam(0.01))[0], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "arguments", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"amsgrad": True}, {"use_ema": True}, {"weight_decay": 0.1}]
)
def test_what_the_op_cannot_do_is_left_to_keras(arguments):
    received, is_fused = trained(BitAdam(0.01, **arguments), 4)
    assert not is_fused
    for one, other in zip(received, trained(keras.optimizers.Adam(0.01, **arguments), 4)[0], strict=True):
        np.testing.assert_array_equal(one, other)

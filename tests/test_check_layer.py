"""The contract itself: layers that break it in one way each are found out."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
import tensorflow as tf

from hgq.layers import QDense
from tests.check_layer import Case, catalogue, check_layer
from tests.rows.dense import matrix_products


@keras.saving.register_keras_serializable(package="broken")
class ForgetsBias(QDense):
    """Charges no bias."""

    def cost(self):
        return super().cost() - tf.reduce_sum(self.bias_quantizer.effective_bits(self.bias))


@keras.saving.register_keras_serializable(package="broken")
class HidesBits(QDense):
    """Its cost has the value, but half the gradient."""

    def cost(self):
        cost = super().cost()
        return tf.stop_gradient(cost) + 0.5 * (cost - tf.stop_gradient(cost))


@keras.saving.register_keras_serializable(package="broken")
class FreezesAnother(QDense):
    """Freezes a ReLU that it does not compute."""

    def to_ir(self, b, *inputs):
        return b.op("relu", super().to_ir(b, *inputs))


@keras.saving.register_keras_serializable(package="broken")
class ForgetsUnits(QDense):
    """A configuration that makes another layer."""

    def get_config(self):
        return {**super().get_config(), "use_bias": False}


@keras.saving.register_keras_serializable(package="broken")
class ChargesTwice(QDense):
    """Adds its cost to the one that `QLayer.call` adds."""

    def forward(self, inputs, training=None):
        return super().forward(tf.stop_gradient(inputs), training)

    def cost(self):
        return 2 * super().cost()


@pytest.mark.parametrize("broken", [ForgetsBias, HidesBits, FreezesAnother, ForgetsUnits, ChargesTwice])
def test_a_broken_layer_is_found_out(broken):
    case = Case(lambda: broken(3), [(4,)], brute=matrix_products)
    with pytest.raises((AssertionError, ValueError)):  # which check speaks first is its business
        check_layer(case)


@pytest.mark.parametrize("backend", ["rtl", "io_parallel"])
def test_a_refusal_that_does_not_happen_is_found_out(backend):
    with pytest.raises(AssertionError, match="takes it, though the case says that it refuses"):
        check_layer(Case(lambda: QDense(3), [(4,)], brute=matrix_products, **{backend: "cannot"}))


def test_every_row_is_tested():
    families = {case.make.__module__ for cases in catalogue().values() for case in cases.values()}
    files = Path(__file__).with_name("contract").glob("test_*.py")
    assert {f"tests.rows.{file.stem.removeprefix('test_')}" for file in files} == families

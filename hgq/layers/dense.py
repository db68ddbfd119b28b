"""The quantized dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import MatrixProduct
from hgq.gradients.base import Linear
from hgq.layers import activations, native_dense
from hgq.layers.backward import BackwardPass
from hgq.layers.kernel import TENSORS, BiasedLayer, KernelLayer, NormalizedLayer
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class DenseMap(KernelLayer):
    """The matrix product of a dense layer: the last axis is contracted, those before it are positions, each with its own hardware."""

    def __init__(self, units: int, activation: str | None = None, **kwargs) -> None:
        super().__init__(activation=activation, **kwargs)
        self.units = checked_units(units, self.name)

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[-1], self.units)

    def linear(self, x, kernel, training=None) -> Any:
        return matmul(x, kernel)

    def bilinear(self, training=None) -> Linear:
        return matmul

    def _activated(self, x, kernel, bias, training):
        relu = self.activation == "relu" and bias is not None
        y = native_dense.dense(x, kernel, bias, relu) if self.backward.plain(training) else None
        if y is None:
            return super()._activated(x, kernel, bias, training)
        return y if relu else activations.apply(self.activation, y)

    def _product(self, backward: BackwardPass, x, kernel, training):
        y = native_dense.dense(x, kernel) if backward.plain(training) else None
        return super()._product(backward, x, kernel, training) if y is None else y

    def linear_cost(self, bits_x, bits_kernel, bits_bias) -> Any:
        rows = ebops.copies(bits_x, self._turns.get("parallel"), TENSORS)
        return ebops.dense(rows, bits_kernel, bits_bias, total=tf.reduce_sum, product=_product_of_bits)

    def linear_to_ir(self, b: GraphBuilder, x: Ref, kernel: Ref) -> Ref:
        return b.op("matmul", x, kernel, name="matmul", **self._turns)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="hgqc")
class QDense(DenseMap, BiasedLayer):
    """``activation(input_quantizer(x) @ kernel_quantizer(kernel) + bias_quantizer(bias))``, then `output_quantizer`, if any.

    The last axis of the input is contracted, as in `keras.layers.Dense`; the axes before it are positions, each with its own hardware.

    Args:
        units: Outputs.
        activation: None, ``"linear"``, ``"relu"``, ``"relu6"``, ``"hard_tanh"``, ``"leaky_relu"`` or ``"leaky_relu(SLOPE)"``.
        use_bias: Whether there is a bias.
        **kwargs: Those of `BiasedLayer`: quantizers, initializers, regularizers, constraints, ``beta``, the loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(self, units: int, activation: str | None = None, use_bias: bool = True, **kwargs) -> None:
        super().__init__(units, activation, use_bias=use_bias, **kwargs)


@keras.saving.register_keras_serializable(package="hgqc")
class QDenseBatchNorm(DenseMap, NormalizedLayer):
    """``activation(BatchNormalization(Dense(x)))`` as one matrix product; `NormalizedLayer` has the formula.

    Args:
        units: Outputs.
        activation: None, ``"linear"``, ``"relu"``, ``"relu6"``, ``"hard_tanh"``, ``"leaky_relu"`` or ``"leaky_relu(SLOPE)"``.
        **kwargs: Those of `NormalizedLayer`: quantizers of the folded kernel and bias, of input and output; ``momentum``, ``epsilon``,
            ``center``, ``scale`` and the initializers, regularizers and constraints of `keras.layers.BatchNormalization`; ``beta``, the
            loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
    """


def _product_of_bits(bits_x, bits_kernel) -> Any:
    y = native_dense.dense(bits_x, bits_kernel)
    return bits_x @ bits_kernel if y is None else y


def checked_units(units, where: str, what: str = "units") -> int:
    """`units` as a positive integer.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(units, bool) or int(units) != units or units < 1:
        meaning = {"groups": "groups of channels"}.get(what, "outputs")
        raise ConfigError(
            f"{what} is the number of {meaning}.", where=f"layer {where}", expected="a positive integer", received=repr(units)
        )
    return int(units)


matmul = MatrixProduct()
"""``x @ kernel`` over the last axis of `x`, as one plain matrix product whatever the rank."""

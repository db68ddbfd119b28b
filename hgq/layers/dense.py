"""The quantized dense layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers import activations
from hgq.layers.base import QLayer, constant_to_ir, identifier_config, quantize_to_ir
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QDense(QLayer):
    """``activation(input_quantizer(x) @ kernel_quantizer(kernel) + bias_quantizer(bias))``, then `output_quantizer`, if any.

    The last axis of the input is contracted, as in `keras.layers.Dense`; the axes before it are positions, each with its own hardware.

    Args:
        units: Outputs.
        activation: None, ``"linear"``, ``"relu"``, ``"relu6"``, ``"hard_tanh"``, ``"leaky_relu"`` or ``"leaky_relu(SLOPE)"``.
        use_bias: Whether there is a bias.
        kernel_quantizer: What `hgq.quantizers.get` takes.
        bias_quantizer: The same.
        input_quantizer: The same, but not None.
        output_quantizer: The same. Usually None: the next layer quantizes its input.
        beta: Loss per EBOP.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint: As in Keras.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        *,
        kernel_quantizer: Identifier = "weight",
        bias_quantizer: Identifier = "bias",
        input_quantizer: Identifier = "data",
        output_quantizer: Identifier = None,
        beta: float | None = None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.units = checked_units(units, self.name)
        self.activation = activations.known(activation, self.name)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.kernel_quantizer = self._required_quantizer(kernel_quantizer, "weight", "kernel_quantizer")
        self.bias_quantizer = self._required_quantizer(bias_quantizer, "bias", "bias_quantizer") if use_bias else None
        self.output_quantizer = self._quantizer(output_quantizer, "data", "output_quantizer")

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self._shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.kernel_quantizer.build_for(self.kernel)
        self.input_quantizer.build(input_shape)
        if self.bias_quantizer is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
            self.bias_quantizer.build_for(self.bias)
        if self.output_quantizer is not None:
            self.output_quantizer.build((None, *self._shape[:-1], self.units))
        self.built = True

    def forward(self, inputs, training=None):
        x = self.input_quantizer(inputs, training=training)
        y = matmul(x, self.kernel_quantizer(tf.convert_to_tensor(self.kernel), training=training))
        if self.bias_quantizer is not None:
            y = y + self.bias_quantizer(tf.convert_to_tensor(self.bias), training=training)
        y = activations.apply(self.activation, y)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def cost(self):
        return ebops.dense(
            self.input_quantizer.bits(self._shape),
            self.kernel_quantizer.effective_bits(self.kernel),
            self.bias_quantizer.effective_bits(self.bias) if self.bias_quantizer is not None else None,
            total=tf.reduce_sum,
        )

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        y = b.op("matmul", x, constant_to_ir(b, self.kernel_quantizer, self.kernel, "kernel"), name="matmul")
        if self.bias_quantizer is not None:
            y = b.op("add", y, constant_to_ir(b, self.bias_quantizer, self.bias, "bias"), name="add")
        y = activations.to_ir(b, self.activation, y)
        return quantize_to_ir(b, self.output_quantizer, y, "oq")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_quantizer": serialize(self.kernel_quantizer),
            "bias_quantizer": serialize(self.bias_quantizer) or "bias",
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
            **identifier_config(
                kernel_initializer=self.kernel_initializer,
                bias_initializer=self.bias_initializer,
                kernel_regularizer=self.kernel_regularizer,
                bias_regularizer=self.bias_regularizer,
                kernel_constraint=self.kernel_constraint,
                bias_constraint=self.bias_constraint,
            ),
        }


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


def matmul(x, kernel):
    """``x @ kernel`` over the last axis of `x`, as one plain matrix product whatever the rank."""
    if len(x.shape) == 2:
        return tf.matmul(x, kernel)
    y = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), kernel)
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [kernel.shape[-1]]], 0))

"""A dense layer with the batch normalisation folded into its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from hgq.layers import activations
from hgq.layers.base import constant_to_ir, identifier_config, quantize_to_ir
from hgq.layers.dense import checked_units, matmul
from hgq.layers.normalizing import NormalizingLayer
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QDenseBatchNorm(NormalizingLayer):
    """``activation(BatchNormalization(Dense(x)))`` as one matrix product: what is quantized is the kernel that the hardware has.

    With the statistics of the unquantized product ``z = input_quantizer(x) @ kernel`` and ``scale = gamma / sqrt(variance + epsilon)``::

        y = input_quantizer(x) @ kernel_quantizer(kernel * scale) + bias_quantizer(offset - mean * scale)

    The batch's statistics in training, the moving ones in inference. There is no further bias: the mean would swallow it.

    Args:
        units: Outputs.
        activation: None, ``"linear"``, ``"relu"``, ``"relu6"``, ``"hard_tanh"``, ``"leaky_relu"`` or ``"leaky_relu(SLOPE)"``.
        kernel_quantizer: Of the folded kernel; what `hgq.quantizers.get` takes.
        bias_quantizer: Of the folded bias.
        input_quantizer: Of the input; not None.
        output_quantizer: After the activation; usually None.
        kernel_initializer, kernel_regularizer, kernel_constraint: As in `keras.layers.Dense`, of the kernel before folding.
        **kwargs: ``momentum``, ``epsilon``, ``center``, ``scale`` and the initializers, regularizers and constraints of
            `keras.layers.BatchNormalization`; ``beta``, the loss per EBOP; ``name`` and the like.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        *,
        kernel_quantizer: Identifier = "weight",
        bias_quantizer: Identifier = "bias",
        input_quantizer: Identifier = "data",
        output_quantizer: Identifier = None,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        kernel_constraint=None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.units = checked_units(units, self.name)
        self.activation = activations.known(activation, self.name)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.kernel_quantizer = self._required_quantizer(kernel_quantizer, "weight", "kernel_quantizer")
        self.bias_quantizer = self._required_quantizer(bias_quantizer, "bias", "bias_quantizer")
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
        self._build_normalization(self.units)
        self.kernel_quantizer.build_for(self.kernel)
        self.bias_quantizer.build((self.units,))
        self.input_quantizer.build(input_shape)
        if self.output_quantizer is not None:
            self.output_quantizer.build((None, *self._shape[:-1], self.units))
        self.built = True

    def forward(self, inputs, training=None):
        x = self.input_quantizer(inputs, training=training)
        if training and self.trainable:
            kernel = tf.convert_to_tensor(self.kernel)
            scale, bias = self._folded(*self._batch_statistics(matmul(x, kernel)))
            kernel = kernel * scale
        else:
            kernel, bias = self.folded()
        y = matmul(x, self.kernel_quantizer(kernel, training=training)) + self.bias_quantizer(bias, training=training)
        y = activations.apply(self.activation, y)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def folded(self):
        """Kernel and bias of inference, before quantization, float32."""
        scale, bias = self._folded_moving()
        return tf.cast(tf.cast(self.kernel, tf.float64) * scale, tf.float32), tf.cast(bias, tf.float32)

    def cost(self):
        kernel, bias = self.folded()
        return ebops.dense(
            self.input_quantizer.bits(self._shape),
            self.kernel_quantizer.effective_bits(kernel),
            self.bias_quantizer.effective_bits(bias),
            total=tf.reduce_sum,
        )

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        kernel, bias = self.folded()
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        y = b.op("matmul", x, constant_to_ir(b, self.kernel_quantizer, kernel, "kernel"), name="matmul")
        y = b.op("add", y, constant_to_ir(b, self.bias_quantizer, bias, "bias"), name="add")
        return quantize_to_ir(b, self.output_quantizer, activations.to_ir(b, self.activation, y), "oq")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "kernel_quantizer": serialize(self.kernel_quantizer),
            "bias_quantizer": serialize(self.bias_quantizer),
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
            **identifier_config(
                kernel_initializer=self.kernel_initializer,
                kernel_regularizer=self.kernel_regularizer,
                kernel_constraint=self.kernel_constraint,
            ),
        }

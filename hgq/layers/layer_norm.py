"""Layer normalization: exact sums, one lookup table, products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers.base import QLayer, identifier_config, quantize_to_ir
from hgq.layers.function_table import FunctionTable
from hgq.layers.functions import Function
from hgq.layers.share import DEFAULT, Share
from hgq.layers.softmax import serialize_given
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QLayerNormalization(QLayer):
    """``gamma * d / sqrt(variance + epsilon) + offset`` with ``d = x - mean``, over some axes, in numbers that hardware has.

    With the quantizers named as the arguments, n elements in a group, and q the quantized input::

        m = mean_quantizer(share * sum(q))                      # share: 1/n, exact if n is a power of two, else scale_quantizer's
        d = centered_quantizer(q - m)
        r = rsqrt_output_quantizer(1 / sqrt(rsqrt_input_quantizer(sum(d * d)) / n + epsilon))     # one table; 1/n and epsilon are in it
        y = gamma_quantizer(gamma) * normalized_quantizer(d * r) + offset_quantizer(offset)

    Sums and products are exact. With neither `scale` nor `center`, ``y = d * r``. EBOPs: those of both sums, of the scaling by 1/n, the
    subtraction, the squares, the table, the product with its result, and the scale and offset.

    Args:
        axis: Over which axis or axes, batch included: -1 is the last. As in Keras, gamma and offset have one number for each of their
            elements.
        epsilon: Added to the variance.
        center: Whether there is an offset. (Keras calls it beta, which is the loss per EBOP here.)
        scale: Whether there is a gamma.
        input_quantizer: What `hgq.quantizers.get` takes, but not None.
        scale_quantizer: Of 1/n.
        mean_quantizer: Of the mean.
        centered_quantizer: Of the differences.
        rsqrt_input_quantizer: Of the sum of squares; ``"auto"``: 10 bits, for a variance of up to 2.
        rsqrt_output_quantizer: Of the reciprocal root; ``"auto"``: unsigned, saturating, 3 integer and 7 fractional bits.
        normalized_quantizer: Of what gamma and offset are applied to; unused with neither.
        gamma_quantizer, offset_quantizer: Of the constants.
        output_quantizer: Of the result; usually None: the next layer quantizes its input.
        beta: Loss per EBOP.
        beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: As in Keras.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *,
        input_quantizer: Identifier = "data",
        scale_quantizer: Identifier = DEFAULT,
        mean_quantizer: Identifier = "data",
        centered_quantizer: Identifier = "data",
        rsqrt_input_quantizer: Identifier = "auto",
        rsqrt_output_quantizer: Identifier = "auto",
        normalized_quantizer: Identifier = "data",
        gamma_quantizer: Identifier = "weight",
        offset_quantizer: Identifier = "bias",
        output_quantizer: Identifier = None,
        beta: float | None = None,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.axis = int(axis) if isinstance(axis, int | np.integer) else tuple(int(part) for part in axis)
        self.epsilon, self.center, self.scale = float(epsilon), bool(center), bool(scale)
        if self.epsilon <= 0:
            raise ConfigError("epsilon means nothing.", where=f"layer {self.name}", expected="epsilon > 0", received=repr(epsilon))
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.scale_quantizer = self._required_quantizer(scale_quantizer, "weight", "scale_quantizer")
        self.mean_quantizer = self._required_quantizer(mean_quantizer, "data", "mean_quantizer")
        self.centered_quantizer = self._required_quantizer(centered_quantizer, "data", "centered_quantizer")
        affine = self.center or self.scale
        self.normalized_quantizer = self._required_quantizer(normalized_quantizer, "data", "normalized_quantizer") if affine else None
        self.gamma_quantizer = self._required_quantizer(gamma_quantizer, "weight", "gamma_quantizer") if scale else None
        self.offset_quantizer = self._required_quantizer(offset_quantizer, "bias", "offset_quantizer") if center else None
        self.output_quantizer = self._quantizer(output_quantizer, "data", "output_quantizer")
        self._given = {"rsqrt_input_quantizer": rsqrt_input_quantizer, "rsqrt_output_quantizer": rsqrt_output_quantizer}

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self._axes = self._data_axes(len(self._shape))
        self._rows = tuple(1 if at in self._axes else size for at, size in enumerate(self._shape))
        self._constants = tuple(size if at in self._axes else 1 for at, size in enumerate(self._shape))
        count = math.prod(self._constants)
        top = math.ceil(math.log2(count)) + 1
        auto = {
            "rsqrt_input_quantizer": f"data(k0=0, i0={top}, f0={10 - top}, overflow=SAT, granularity=tensor)",
            "rsqrt_output_quantizer": "data(k0=0, i0=3, f0=7, overflow=SAT, granularity=tensor)",
        }
        chosen = [auto[name] if given == "auto" else given for name, given in self._given.items()]
        self.rsqrt = FunctionTable(rsqrt_of_sum(count, self.epsilon), *chosen, owner=self.name, name="rsqrt")
        self.input_quantizer.build(input_shape)
        self._share = Share([count], self.scale_quantizer)
        self.mean_quantizer.build((None, *self._rows))
        self.centered_quantizer.build(input_shape)
        self.rsqrt.build((None, *self._rows))
        sizes = tuple(self._shape[axis] for axis in self._axes)
        if self.normalized_quantizer is not None:
            self.normalized_quantizer.build(input_shape)
        if self.gamma_quantizer is not None:
            self.gamma = self.add_weight(
                name="gamma",
                shape=sizes,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
            self.gamma_quantizer.build_for(self.gamma)
        if self.offset_quantizer is not None:
            self.offset = self.add_weight(
                name="offset",
                shape=sizes,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
            self.offset_quantizer.build_for(self.offset)
        if self.output_quantizer is not None:
            self.output_quantizer.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        axes = [axis + 1 for axis in self._axes]
        x = self.input_quantizer(inputs, training=training)
        mean = self.mean_quantizer(tf.reduce_sum(x, axes, keepdims=True) * self._share.value(training), training=training)
        d = self.centered_quantizer(x - mean, training=training)
        y = d * self.rsqrt(tf.reduce_sum(d * d, axes, keepdims=True), training=training)
        if self.normalized_quantizer is not None:
            y = self.normalized_quantizer(y, training=training)
        if self.gamma_quantizer is not None:
            y = y * tf.reshape(self.gamma_quantizer(tf.convert_to_tensor(self.gamma), training=training), self._constants)
        if self.offset_quantizer is not None:
            y = y + tf.reshape(self.offset_quantizer(tf.convert_to_tensor(self.offset), training=training), self._constants)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def cost(self):
        def spread(bits):
            return tf.broadcast_to(bits, self._shape)

        x, d = self.input_quantizer.bits(self._shape), self.centered_quantizer.bits(self._shape)
        mean, root = self.mean_quantizer.bits(self._rows), self.rsqrt.bits(self._rows)
        total, summed = ebops.reduced(x, self._axes, total=tf.reduce_sum, xp=tf)
        total += ebops.scale_offset(summed, self._share.bits(), total=tf.reduce_sum)
        total += ebops.merged([x, spread(mean)], total=tf.reduce_sum)[0]
        cost, squares = ebops.product([d, d], total=tf.reduce_sum)
        total += cost + ebops.reduced(squares, self._axes, total=tf.reduce_sum, xp=tf)[0] + self.rsqrt.cost(self._rows)
        total += ebops.product([d, spread(root)], total=tf.reduce_sum)[0]
        if self.normalized_quantizer is None:
            return total
        z = tf.reshape(self.normalized_quantizer.bits(self._shape), (-1,))
        if self.gamma_quantizer is not None:
            gamma = tf.reshape(self.gamma_quantizer.effective_bits(self.gamma), self._constants)
            total += ebops.scale_offset(z, tf.reshape(spread(gamma), (-1,)), total=tf.reduce_sum)
        if self.offset_quantizer is not None:
            offset = tf.reshape(self.offset_quantizer.effective_bits(self.offset), self._constants)
            total += tf.reduce_sum(spread(offset))
        return total

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        mean = self._share.to_ir(b, b.op("reduce_sum", x, axes=self._axes, name="sum"))
        mean = quantize_to_ir(b, self.mean_quantizer, mean, "mean_quantizer")
        d = quantize_to_ir(b, self.centered_quantizer, b.op("subtract", x, mean, name="centered"), "centered_quantizer")
        squares = b.op("reduce_sum", b.op("product", d, d, name="squares"), axes=self._axes, name="sum_of_squares")
        y = b.op("product", d, self.rsqrt.to_ir(b, squares, "rsqrt"), name="normalized")
        y = quantize_to_ir(b, self.normalized_quantizer, y, "normalized_quantizer")
        if self.gamma_quantizer is not None:
            y = b.op("multiply", y, self._constant_to_ir(b, self.gamma_quantizer, self.gamma, "gamma"), name="scale")
        if self.offset_quantizer is not None:
            y = b.op("add", y, self._constant_to_ir(b, self.offset_quantizer, self.offset, "offset"), name="add")
        return quantize_to_ir(b, self.output_quantizer, y, "oq")

    def _constant_to_ir(self, b: GraphBuilder, quantizer, constant, name: str) -> Ref:
        mantissa, fixed = quantizer.quantized_constant(np.asarray(constant))
        shape = self._constants[self._axes[0] :]  # leading axes of size 1 need not be said
        return b.constant(mantissa.reshape(shape), fixed.reshape(shape), name=name)

    def get_config(self) -> dict:
        given = {name: serialize_given(value, name) for name, value in self._given.items()}
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **given,
            **{name: serialize(getattr(self, name)) for name in ("input_quantizer", "scale_quantizer", "mean_quantizer")},
            "centered_quantizer": serialize(self.centered_quantizer),
            "normalized_quantizer": serialize(self.normalized_quantizer) or "data",
            "gamma_quantizer": serialize(self.gamma_quantizer) or "weight",
            "offset_quantizer": serialize(self.offset_quantizer) or "bias",
            "output_quantizer": serialize(self.output_quantizer),
            **identifier_config(
                beta_initializer=self.beta_initializer,
                gamma_initializer=self.gamma_initializer,
                beta_regularizer=self.beta_regularizer,
                gamma_regularizer=self.gamma_regularizer,
                beta_constraint=self.beta_constraint,
                gamma_constraint=self.gamma_constraint,
            ),
        }

    def _data_axes(self, rank: int) -> tuple[int, ...]:
        given: Any = (self.axis,) if isinstance(self.axis, int) else self.axis
        found = sorted({axis - 1 if axis > 0 else axis + rank for axis in given})
        if 0 in given or len(found) != len(given) or not found or found[0] < 0 or found[-1] >= rank:
            expected = f"different ones of 1 to {rank}, or -{rank} to -1"
            raise ConfigError("There are no such axes.", where=f"layer {self.name}", expected=expected, received=str(self.axis))
        return tuple(found)


@cache
def rsqrt_of_sum(count: int, epsilon: float) -> Function:
    """``1 / sqrt(s / count + epsilon)`` of a sum of squares; one object for each, so that its table is made once."""

    def exact(s):
        return 1.0 / np.sqrt(s / count + epsilon)

    return Function("rsqrt", exact, lambda s: tf.math.rsqrt(tf.maximum(s, 0.0) / count + epsilon), 0, 3)

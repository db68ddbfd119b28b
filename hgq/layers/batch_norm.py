"""Batch normalisation on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq.layers.base import constant_to_ir, quantize_to_ir
from hgq.layers.normalizing import NormalizingLayer
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QBatchNormalization(NormalizingLayer):
    """Batch normalisation of the last axis: ``input_quantizer(x) * scale_quantizer(scale) + offset_quantizer(offset - mean * scale)``.

    With ``scale = gamma / sqrt(variance + epsilon)``; the batch's statistics in training, the moving ones in inference.

    Args:
        scale_quantizer: What `hgq.quantizers.get` takes. The default keeps 8 significant bits whatever the magnitude: the inverse of a
            standard deviation can be anything.
        offset_quantizer: The same; of the folded offset.
        input_quantizer: The same, but not None.
        output_quantizer: The same; usually None.
        **kwargs: ``momentum``, ``epsilon``, ``center``, ``scale`` and the initializers, regularizers and constraints of
            `keras.layers.BatchNormalization`; ``beta``, the loss per EBOP; ``name`` and the like.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        *,
        scale_quantizer: Identifier = "weight(overflow=WRAP)",
        offset_quantizer: Identifier = "bias",
        input_quantizer: Identifier = "data",
        output_quantizer: Identifier = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.scale_quantizer = self._required_quantizer(scale_quantizer, "weight", "scale_quantizer")
        self.offset_quantizer = self._required_quantizer(offset_quantizer, "bias", "offset_quantizer")
        self.output_quantizer = self._quantizer(output_quantizer, "data", "output_quantizer")

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self._build_normalization(self._shape[-1])
        self.scale_quantizer.build((self._shape[-1],))
        self.offset_quantizer.build((self._shape[-1],))
        self.input_quantizer.build(input_shape)
        if self.output_quantizer is not None:
            self.output_quantizer.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        x = self.input_quantizer(inputs, training=training)
        scale, offset = self._folded(*self._batch_statistics(x)) if training and self.trainable else self.folded()
        y = x * self.scale_quantizer(scale, training=training) + self.offset_quantizer(offset, training=training)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def folded(self):
        """Scale and offset of inference, before quantization, float32."""
        scale, offset = self._folded_moving()
        return tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)

    def quantized_constants(self) -> dict[str, Any]:
        return dict(zip(("scale_quantizer", "offset_quantizer"), self.folded(), strict=True))

    def cost(self):
        scale, offset = self.folded()
        return ebops.scale_offset(
            self.input_quantizer.bits(self._shape),
            self.scale_quantizer.effective_bits(scale),
            self.offset_quantizer.effective_bits(offset),
            total=tf.reduce_sum,
        )

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        scale, offset = self.folded()
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        y = b.op("multiply", x, constant_to_ir(b, self.scale_quantizer, scale, "scale"), name="multiply")
        y = b.op("add", y, constant_to_ir(b, self.offset_quantizer, offset, "offset"), name="add")
        return quantize_to_ir(b, self.output_quantizer, y, "oq")

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "scale_quantizer": serialize(self.scale_quantizer),
            "offset_quantizer": serialize(self.offset_quantizer),
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
        }

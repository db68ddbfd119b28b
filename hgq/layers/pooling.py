"""Pooling: maxima are exact as they are, averages where the divisor is a power of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError, FreezeError
from hgq.ir import windows
from hgq.layers.base import QLayer, quantize_to_ir
from hgq.layers.conv import check_channels_last, checked_axes, checked_padding, per_axis, windowed
from hgq.numerics import Fixed
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class QPooling(QLayer):
    """What the pooling layers share: ``pool(quantizer(x))``, window by window and channel by channel. Channels are last.

    Args:
        pool_size: Elements of a window along each axis; a number for the same along all.
        strides: Steps between windows; None for `pool_size`.
        padding: ``"valid"`` or ``"same"``; padding takes no part.
        quantizer: Of the input; what `hgq.quantizers.get` takes. None: the input as it is.
        data_format: None or ``"channels_last"``.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
    """

    rank = 0

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        *,
        quantizer: Identifier = None,
        data_format: str | None = None,
        beta: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.pool_size = per_axis(pool_size, self.rank, "pool_size", self.name)
        self.strides = self.pool_size if strides is None else per_axis(strides, self.rank, "strides", self.name)
        self.padding = checked_padding(padding, ("valid", "same"), self.name)
        check_channels_last(data_format, self.name)
        self.quantizer = self._quantizer(quantizer, "data", "quantizer")

    def build(self, input_shape) -> None:
        self._shape = checked_axes(self._positions_shape(input_shape), self.rank, self)
        self._padding = windows.padding_of(self.padding, self._shape[:-1], self.pool_size, self.strides, (1,) * self.rank)
        self.compute_output_shape(input_shape)
        if self.quantizer is not None:
            self.quantizer.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        x = inputs if self.quantizer is None else self.quantizer(inputs, training=training)
        return self._pool(x)

    def _pool(self, x):
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        sizes = tuple(input_shape[1:-1])
        counts = windowed(sizes, self.pool_size, self.strides, (1,) * self.rank, self.padding, self.name)
        return (input_shape[0], *counts, input_shape[-1])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "quantizer": serialize(self.quantizer),
        }


class QMaxPooling(QPooling):
    """Greatest element of each window: exact, no EBOPs. Use `QMaxPooling1D` or `QMaxPooling2D`.

    Without a quantizer it is `keras.layers.MaxPooling2D`, which may stand in a model too.
    """

    def _pool(self, x):
        return tf.nn.max_pool(x, self.pool_size, self.strides, self.padding.upper())

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.quantizer, x, "quantizer")
        return b.op("max_pool", x, name="max_pool", pool=self.pool_size, strides=self.strides, padding=self._padding)


@keras.saving.register_keras_serializable(package="hgqc")
class QMaxPooling1D(QMaxPooling):
    """`QMaxPooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QMaxPooling2D(QMaxPooling):
    """`QMaxPooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


class QAveragePooling(QPooling):
    """Mean of each window: exact where a window has 2**n elements, of which hardware shifts the sum. Others are refused.

    It is a convolution of each channel with weights of ``2**-n``, and costs what that costs: the bits of every element that a window reads.
    Use `QAveragePooling1D`, `QAveragePooling2D`, `QGlobalAveragePooling1D` or `QGlobalAveragePooling2D`. The input's `quantizer` is not
    None. ``padding="same"`` is taken where no padding is needed: windows at a border would divide by other numbers.
    """

    def __init__(self, *args, quantizer: Identifier = "data", **kwargs) -> None:
        super().__init__(*args, quantizer=quantizer, **kwargs)
        if self.quantizer is None:
            self._required_quantizer(None, "data", "quantizer")  # says what is missing

    def build(self, input_shape) -> None:
        super().build(input_shape)
        elements = math.prod(self.pool_size)
        if elements & (elements - 1):
            raise ConfigError(
                "An average over this many elements is not exact in fixed point.",
                where=f"layer {self.name}",
                expected="windows of 2**n elements",
                received=f"{elements} elements, {self.pool_size}",
                fix="Take another pool_size, maximum pooling, or a QConv with groups=channels, whose weights are trained and quantized.",
            )
        if any(map(any, self._padding)):
            raise ConfigError(
                "Windows that reach over a border would average fewer elements than the others.",
                where=f"layer {self.name}",
                expected=f"sizes that need no padding for windows of {self.pool_size}",
                received=f"{self._shape[:-1]}",
                fix='Take padding="valid", or pad before this layer.',
            )

    def _pool(self, x):
        return tf.add_n(windows.views(x, self.pool_size, self.strides, (1,) * self.rank)) / math.prod(self.pool_size)

    def cost(self):
        if self.quantizer is None:
            return super().cost()
        return ebops.average(self.quantizer.bits(self._shape), self.pool_size, self.strides, self._padding, total=tf.reduce_sum)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.quantizer, x, "quantizer")
        channels, shift = x.shape[-1], math.prod(self.pool_size).bit_length() - 1
        kernel = b.constant(np.ones((*self.pool_size, 1, channels), np.int64), Fixed(0, 1 - shift, shift), "weights")
        ones = (1,) * self.rank
        return b.op("conv", x, kernel, name="mean", strides=self.strides, dilation=ones, padding=self._padding, groups=channels)


@keras.saving.register_keras_serializable(package="hgqc")
class QAveragePooling1D(QAveragePooling):
    """`QAveragePooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QAveragePooling2D(QAveragePooling):
    """`QAveragePooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


class QGlobalAveragePooling(QAveragePooling):
    """Mean over all axes between batch and channels, of which there must be 2**n elements.

    Args:
        keepdims: Keep the axes, with one element each.
        quantizer: Of the input; not None.
        data_format: None or ``"channels_last"``.
        beta: Loss per EBOP.
    """

    def __init__(
        self, keepdims: bool = False, *, quantizer: Identifier = "data", data_format: str | None = None, beta: float | None = None, **kwargs
    ) -> None:
        super().__init__(1, quantizer=quantizer, data_format=data_format, beta=beta, **kwargs)
        self.keepdims = bool(keepdims)

    def build(self, input_shape) -> None:
        self.pool_size = self.strides = checked_axes(self._positions_shape(input_shape), self.rank, self)[:-1]
        super().build(input_shape)

    def _pool(self, x):
        y = super()._pool(x)
        return y if self.keepdims else tf.reshape(y, (-1, y.shape[-1]))

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        y = super().to_ir(b, *inputs)
        return y if self.keepdims else b.op("reshape", y, shape=y.shape[-1:])

    def compute_output_shape(self, input_shape):
        ones = (1,) * self.rank if self.keepdims else ()
        return (input_shape[0], *ones, input_shape[-1])

    def get_config(self) -> dict:
        config = super().get_config()
        for name in ("pool_size", "strides", "padding"):
            del config[name]
        return {**config, "keepdims": self.keepdims}


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalAveragePooling1D(QGlobalAveragePooling):
    """`QGlobalAveragePooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalAveragePooling2D(QGlobalAveragePooling):
    """`QGlobalAveragePooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


def max_pool_to_ir(layer: Any, b: GraphBuilder, x: Ref) -> Ref:
    """Keras' own maximum pooling, global or not, as a node."""
    if layer.data_format != "channels_last":
        raise FreezeError(
            "Channels come last.", where=f"layer {layer.name}", expected='data_format="channels_last"', received=layer.data_format
        )
    sizes = x.shape[:-1]
    if not hasattr(layer, "pool_size"):
        y = b.op("max_pool", x, pool=sizes, strides=sizes, padding=((0, 0),) * len(sizes))
        return y if layer.keepdims else b.op("reshape", y, shape=x.shape[-1:])
    pool, strides = (tuple(int(n) for n in numbers) for numbers in (layer.pool_size, layer.strides))
    padding = windows.padding_of(layer.padding, sizes, pool, strides, (1,) * len(sizes))
    return b.op("max_pool", x, pool=pool, strides=strides, padding=padding)

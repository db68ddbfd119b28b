"""Pooling over windows, and over whole images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import tensorflow as tf

from hgq.ir import windows
from hgq.layers import native_windows
from hgq.layers.base import QLayer, quantize_to_ir
from hgq.layers.conv import check_channels_last, checked_axes, checked_padding, per_axis, windowed
from hgq.layers.reduce import QMax, QMean
from hgq.layers.share import DEFAULT, Share, window_counts
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class QPooling(QLayer):
    """Base class: ``pool(quantizer(x))``, window by window and channel by channel. Channels are last.

    Costs ``max(a, b)`` EBOPs for each two elements that meet; see `hgq.resources.ebops.pooled`.

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

    rank: ClassVar[int] = 0
    op: ClassVar[str] = ""
    """The op of `hgq.ir.ops`."""

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
        return self.pool(x, training)

    def pool(self, x, training=None):
        """The pooling of quantized values."""
        raise NotImplementedError

    def cost(self):
        return tf.zeros(()) if self.quantizer is None else self.pooled_cost()[0]

    def pooled_cost(self) -> tuple[Any, Any]:
        """EBOPs of combining the elements of each window, and the bits of the results."""
        quantizer = self.quantizer or self._required_quantizer(None, "data", "quantizer")  # which says what is missing
        bits = quantizer.bits(self._shape)
        return ebops.pooled(bits, self.pool_size, self.strides, self._padding, total=tf.reduce_sum, xp=tf)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.quantizer, x, "quantizer")
        return b.op(self.op, x, name="pool", pool=self.pool_size, strides=self.strides, padding=self._padding)

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
    """Greatest element of each window, exact. Use `QMaxPooling1D`, `QMaxPooling2D` or `QMaxPooling3D`.

    Without a quantizer it is `keras.layers.MaxPooling2D`, which may stand in a model too, and charges nothing: no bits are known.
    """

    op = "max_pool"

    def pool(self, x, training=None):
        y = None if any(map(any, self._padding)) else native_windows.max_pool(x, self.pool_size, self.strides)
        if y is not None:
            return y
        layout = ("NWC", "NHWC", "NDHWC")[self.rank - 1]  # TensorFlow's gradient of three axes wants it said
        return tf.nn.max_pool(x, self.pool_size, self.strides, self.padding.upper(), data_format=layout)


class QAveragePooling(QPooling):
    """Mean of each window: its exact sum, times 1/n. Use `QAveragePooling1D`, `QAveragePooling2D` or `QAveragePooling3D`.

    n is the number of elements that are no padding, as in Keras. Where it is a power of two the mean is exact; other 1/n are constants that
    `scale_quantizer` quantizes, one for each n.

    Args:
        pool_size, strides, padding, data_format, beta: As in `QPooling`.
        quantizer: Of the input; not None.
        scale_quantizer: Of 1/n; what `hgq.quantizers.get` takes, but not None. The default keeps 8 significant bits.
    """

    op = "sum_pool"

    def __init__(self, *args, quantizer: Identifier = "data", scale_quantizer: Identifier = DEFAULT, **kwargs) -> None:
        super().__init__(*args, quantizer=quantizer, **kwargs)
        self.scale_quantizer = self._required_quantizer(scale_quantizer, "weight", "scale_quantizer")
        if self.quantizer is None:
            self._required_quantizer(None, "data", "quantizer")

    def build(self, input_shape) -> None:
        super().build(input_shape)
        self._share = Share(window_counts(self._shape[:-1], self.pool_size, self.strides, self._padding), self.scale_quantizer)

    def pool(self, x, training=None):
        x = tf.pad(x, [(0, 0), *self._padding, (0, 0)]) if any(map(any, self._padding)) else x
        return tf.add_n(windows.views(x, self.pool_size, self.strides, (1,) * self.rank)) * self._share.value(training)

    def cost(self):
        cost, bits = self.pooled_cost()
        return cost + ebops.scale_offset(bits, self._share.bits(), total=tf.reduce_sum)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        return self._share.to_ir(b, super().to_ir(b, *inputs))

    def get_config(self) -> dict:
        return {**super().get_config(), "scale_quantizer": serialize(self.scale_quantizer)}


class QGlobalMaxPooling(QMax):
    """Greatest element of each channel. Use `QGlobalMaxPooling1D`, `QGlobalMaxPooling2D` or `QGlobalMaxPooling3D`.

    Args:
        keepdims: Keep the axes, with one element each.
        data_format: None or ``"channels_last"``.
        quantizer, beta: As in `QMaxPooling`.
    """

    rank: ClassVar[int] = 0

    def __init__(self, keepdims: bool = False, *, data_format: str | None = None, quantizer: Identifier = None, **kwargs) -> None:
        super().__init__(tuple(range(1, self.rank + 1)), keepdims, quantizer=quantizer, **kwargs)
        check_channels_last(data_format, self.name)

    def build(self, input_shape) -> None:
        checked_axes(self._positions_shape(input_shape), self.rank, self)
        super().build(input_shape)

    def get_config(self) -> dict:
        return _without_axes(super().get_config())


class QGlobalAveragePooling(QMean):
    """Mean of each channel: its exact sum, times 1/n. Use `QGlobalAveragePooling1D`, `QGlobalAveragePooling2D` or
    `QGlobalAveragePooling3D`.

    Args:
        keepdims: Keep the axes, with one element each.
        data_format: None or ``"channels_last"``.
        quantizer, scale_quantizer, beta: As in `QAveragePooling`.
    """

    rank: ClassVar[int] = 0

    def __init__(self, keepdims: bool = False, *, data_format: str | None = None, **kwargs) -> None:
        super().__init__(tuple(range(1, self.rank + 1)), keepdims, **kwargs)
        check_channels_last(data_format, self.name)

    def build(self, input_shape) -> None:
        checked_axes(self._positions_shape(input_shape), self.rank, self)
        super().build(input_shape)

    def get_config(self) -> dict:
        return _without_axes(super().get_config())


def _without_axes(config: dict) -> dict:
    return {name: value for name, value in config.items() if name != "axes"}


@keras.saving.register_keras_serializable(package="hgqc")
class QMaxPooling1D(QMaxPooling):
    """`QMaxPooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QMaxPooling2D(QMaxPooling):
    """`QMaxPooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QMaxPooling3D(QMaxPooling):
    """`QMaxPooling` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3


@keras.saving.register_keras_serializable(package="hgqc")
class QAveragePooling1D(QAveragePooling):
    """`QAveragePooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QAveragePooling2D(QAveragePooling):
    """`QAveragePooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QAveragePooling3D(QAveragePooling):
    """`QAveragePooling` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalMaxPooling1D(QGlobalMaxPooling):
    """`QGlobalMaxPooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalMaxPooling2D(QGlobalMaxPooling):
    """`QGlobalMaxPooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalMaxPooling3D(QGlobalMaxPooling):
    """`QGlobalMaxPooling` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalAveragePooling1D(QGlobalAveragePooling):
    """`QGlobalAveragePooling` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalAveragePooling2D(QGlobalAveragePooling):
    """`QGlobalAveragePooling` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QGlobalAveragePooling3D(QGlobalAveragePooling):
    """`QGlobalAveragePooling` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3

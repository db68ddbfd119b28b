"""Quantized convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.ir import windows
from hgq.layers import native_windows
from hgq.layers.dense import checked_units
from hgq.layers.kernel import TENSORS, BiasedLayer, KernelLayer, NormalizedLayer
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


FORMATS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
"""TensorFlow's names for channels last, by the number of axes."""


class WindowMap(KernelLayer):
    """What convolutions have in common: they are `hgq.ir.ops.conv` of an arranged kernel (*taps, channels // groups, outputs).

    A subclass writes `kernel_shape`, which calls `_settle`, and `_outputs`. The hardware is unrolled over all windows.
    """

    rank: ClassVar[int] = 0
    """Axes between batch and channels."""

    def __init__(
        self,
        *,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        data_format: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size", self.name)
        self.strides = per_axis(strides, self.rank, "strides", self.name)
        self.dilation_rate = per_axis(dilation_rate, self.rank, "dilation_rate", self.name)
        self.padding = checked_padding(padding, ("valid", "same", "causal") if self.rank == 1 else ("valid", "same"), self.name)
        check_channels_last(data_format, self.name)

    def _settle(self, shape: tuple[int, ...], groups: int) -> None:
        """Fix the geometry: the attributes of the op `conv`."""
        self._geometry = {
            "strides": self.strides,
            "dilation": self.dilation_rate,
            "padding": windows.padding_of(self.padding, shape[:-1], self.kernel_size, self.strides, self.dilation_rate),
        }
        self._conv = {**self._geometry, "groups": groups}

    def _outputs(self, channels: int) -> int:
        """Output channels."""
        raise NotImplementedError(f"{type(self).__name__} defines no _outputs().")

    def linear(self, x, kernel, training=None) -> Any:
        return convolve(x, kernel, **self._conv, exact=not training)

    def linear_cost(self, bits_x, bits_kernel, bits_bias) -> Any:
        return ebops.conv(bits_x, bits_kernel, bits_bias, TENSORS, **self._conv, **self._turns)

    def linear_to_ir(self, b: GraphBuilder, x: Ref, kernel: Ref) -> Ref:
        return b.op("conv", x, kernel, name="conv", **self._conv, **self._turns)

    def compute_output_shape(self, input_shape):
        sizes = windowed(tuple(input_shape[1:-1]), self.kernel_size, self.strides, self.dilation_rate, self.padding, self.name)
        return (input_shape[0], *sizes, self._outputs(input_shape[-1]))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
        }


class ConvMap(WindowMap):
    """The convolution of `QConv`."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | None = None,
        **kwargs,
    ) -> None:
        geometry = {"kernel_size": kernel_size, "strides": strides, "padding": padding, "dilation_rate": dilation_rate}
        super().__init__(activation=activation, **geometry, **kwargs)
        self.filters = checked_units(filters, self.name, "filters")
        self.groups = checked_units(groups, self.name, "groups")
        if self.filters % self.groups:
            raise ConfigError(
                "Every group needs as many filters.",
                where=f"layer {self.name}",
                expected="filters divisible by groups",
                received=f"filters={self.filters}, groups={self.groups}",
            )

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels = checked_axes(shape, self.rank, self)[-1]
        if channels % self.groups:
            raise ConfigError(
                "The channels do not fall into these groups.",
                where=f"layer {self.name}",
                expected=f"channels divisible by groups={self.groups}",
                received=f"{channels} channels",
            )
        self._settle(shape, self.groups)
        return (*self.kernel_size, channels // self.groups, self.filters)

    def _outputs(self, channels: int) -> int:
        return self.filters

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "groups": self.groups}


class QConv(ConvMap, BiasedLayer):
    """``activation(conv(input_quantizer(x), kernel_quantizer(kernel)) + bias_quantizer(bias))``, then `output_quantizer`, if any.

    `hgq.ir.ops.conv` has the formula. Channels are last; the hardware is unrolled over all windows. The input's bits are those of each
    element with ``granularity="element"``, and of each channel with ``"channel"``. Use `QConv1D`, `QConv2D` or `QConv3D`.

    Args:
        filters: Output channels.
        kernel_size: Taps along each axis; a number for the same along all.
        strides: Steps between windows.
        padding: ``"valid"``, ``"same"`` or, with one axis, ``"causal"``; pads with zeros.
        dilation_rate: Steps between taps.
        groups: Into how many independent parts the channels fall.
        activation: As in `QDense`.
        use_bias: Whether there is a bias.
        **kwargs: Those of `BiasedLayer`: quantizers, initializers, regularizers, constraints, ``beta``, the loss per EBOP; ``data_format``:
            None or ``"channels_last"``.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(filters, kernel_size, strides, padding, dilation_rate, groups, activation, use_bias=use_bias, **kwargs)


@keras.saving.register_keras_serializable(package="hgqc")
class QConv1D(QConv):
    """`QConv` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QConv2D(QConv):
    """`QConv` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QConv3D(QConv):
    """`QConv` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3


class QConvBatchNorm(ConvMap, NormalizedLayer):
    """``activation(BatchNormalization(conv(x)))`` as one convolution; `NormalizedLayer` has the formula.

    Args:
        filters, kernel_size, strides, padding, dilation_rate, groups, activation: As in `QConv`.
        **kwargs: Those of `NormalizedLayer`, as in `QDenseBatchNorm`.

    Raises:
        ConfigError: an argument means nothing.
    """


@keras.saving.register_keras_serializable(package="hgqc")
class QConv1DBatchNorm(QConvBatchNorm):
    """`QConvBatchNorm` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QConv2DBatchNorm(QConvBatchNorm):
    """`QConvBatchNorm` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QConv3DBatchNorm(QConvBatchNorm):
    """`QConvBatchNorm` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3


def convolve(x, kernel, *, strides, dilation, padding, groups: int, exact: bool = True):
    """`hgq.ir.ops.conv` on tensors.

    `exact`: by matrix products, whose partial sums are exact in float32. Otherwise by the library's convolution where it has one, up to
    nine times as fast in training, and native ops where they may be used; on some devices the library's takes Winograd's or Fourier's
    method, which rounds.
    """
    *taps, channels, outputs = kernel.shape
    sizes = windows.output_sizes(x.shape[1:-1], taps, strides, dilation, padding)
    x = tf.pad(x, [(0, 0), *padding, (0, 0)]) if any(map(any, padding)) else x
    if not exact and groups == 1 and set(dilation) == {1}:  # TensorFlow lacks the gradients of others on a CPU
        y = native_windows.convolve(x, kernel, strides)
        return tf.nn.convolution(x, kernel, strides, "VALID", FORMATS[len(taps)]) if y is None else y  # named: 3D has no gradient without
    views = windows.views(x, taps, strides, dilation)
    flat, parts = tf.reshape(kernel, (-1, outputs)), []
    if channels == 1 and groups > 1:  # a sum of scaled channels needs one step a tap, matrix products one a channel
        return tf.add_n(
            [tf.repeat(view, outputs // groups, axis=-1) * weights for view, weights in zip(views, tf.unstack(flat), strict=True)]
        )
    for read, written in windows.group_slices(groups, channels, outputs):
        own = [view[..., read] for view in views] if groups > 1 else views
        parts.append(tf.matmul(tf.reshape(tf.concat(own, axis=-1), (-1, len(views) * channels)), flat[:, written]))
    return tf.reshape(tf.concat(parts, axis=-1), (-1, *sizes, outputs))


def per_axis(value, rank: int, what: str, where: str) -> tuple[int, ...]:
    """A positive integer for each axis.

    Raises:
        ConfigError: it is none.
    """
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or any(isinstance(v, bool) or int(v) != v or v < 1 for v in values):
        expected = f"a positive integer, or {rank} of them" if rank > 1 else "a positive integer"
        raise ConfigError(
            f"{what} is a number of elements along each axis.", where=f"layer {where}", expected=expected, received=repr(value)
        )
    return tuple(int(v) for v in values)


def checked_padding(padding, known: tuple[str, ...], where: str) -> str:
    """A known padding.

    Raises:
        ConfigError: it is none.
    """
    name = str(padding).lower()
    if name not in known:
        raise ConfigError("Unknown padding.", where=f"layer {where}", expected=" or ".join(map(repr, known)), received=repr(padding))
    return name


def check_channels_last(data_format: str | None, where: str) -> None:
    """Raise `ConfigError` for channels first: graph, firmware and TensorFlow on a CPU have them last."""
    if (data_format or keras.config.image_data_format()) != "channels_last":
        raise ConfigError(
            "Channels come last.",
            where=f"layer {where}",
            expected='data_format="channels_last"',
            received=repr(data_format or keras.config.image_data_format()),
            fix="Permute the data, or put keras.layers.Permute before this layer.",
        )


def checked_axes(shape: tuple[int, ...], rank: int, layer: keras.layers.Layer) -> tuple[int, ...]:
    """`shape` if it has `rank` axes and channels.

    Raises:
        ConfigError: it has others.
    """
    if len(shape) != rank + 1:
        raise ConfigError(
            f"{type(layer).__name__} works on {rank} {'axes' if rank > 1 else 'axis'} and channels.",
            where=f"layer {layer.name}",
            expected=f"an input of {rank + 2} axes, batch included",
            received=f"{len(shape) + 1} axes: (batch, {', '.join(map(str, shape))})",
        )
    return shape


def windowed(sizes: tuple[int, ...], kernel, strides, dilation, padding: str, where: str) -> tuple[int, ...]:
    """Number of windows along each axis.

    Raises:
        ConfigError: a window is larger than its axis.
    """
    try:
        return windows.output_sizes(sizes, kernel, strides, dilation, windows.padding_of(padding, sizes, kernel, strides, dilation))
    except ValueError as error:
        raise ConfigError(
            "The kernel is larger than the input.",
            where=f"layer {where}",
            expected=f"a kernel that fits into {sizes}",
            received=str(error),
            fix='Take a smaller kernel or dilation, or padding="same".',
        ) from error

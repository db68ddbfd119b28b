"""Quantized convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.ir import windows
from hgq.layers import activations
from hgq.layers.base import QLayer, constant_to_ir, identifier_config, quantize_to_ir
from hgq.layers.dense import checked_units
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class QConv(QLayer):
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
        activation: None, ``"linear"`` or ``"relu"``.
        use_bias: Whether there is a bias.
        data_format: None or ``"channels_last"``.
        kernel_quantizer: What `hgq.quantizers.get` takes.
        bias_quantizer: The same.
        input_quantizer: The same, but not None.
        output_quantizer: The same. Usually None: the next layer quantizes its input.
        beta: Loss per EBOP.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint: As in Keras.

    Raises:
        ConfigError: an argument means nothing.
    """

    rank = 0

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
        *,
        data_format: str | None = None,
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
        self.filters = checked_units(filters, self.name, "filters")
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size", self.name)
        self.strides = per_axis(strides, self.rank, "strides", self.name)
        self.dilation_rate = per_axis(dilation_rate, self.rank, "dilation_rate", self.name)
        self.padding = checked_padding(padding, ("valid", "same", "causal") if self.rank == 1 else ("valid", "same"), self.name)
        self.groups = checked_units(groups, self.name, "groups")
        check_channels_last(data_format, self.name)
        if self.filters % self.groups:
            raise ConfigError(
                "Every group needs as many filters.",
                where=f"layer {self.name}",
                expected="filters divisible by groups",
                received=f"filters={self.filters}, groups={self.groups}",
            )
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
        self._shape = checked_axes(self._positions_shape(input_shape), self.rank, self)
        channels = self._shape[-1]
        if channels % self.groups:
            raise ConfigError(
                "The channels do not fall into these groups.",
                where=f"layer {self.name}",
                expected=f"channels divisible by groups={self.groups}",
                received=f"{channels} channels",
            )
        self._geometry = {
            "strides": self.strides,
            "dilation": self.dilation_rate,
            "padding": windows.padding_of(self.padding, self._shape[:-1], self.kernel_size, self.strides, self.dilation_rate),
        }
        output_shape = self.compute_output_shape(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels // self.groups, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.kernel_quantizer.build_for(self.kernel)
        self.input_quantizer.build(input_shape)
        if self.bias_quantizer is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
            self.bias_quantizer.build_for(self.bias)
        if self.output_quantizer is not None:
            self.output_quantizer.build(output_shape)
        self.built = True

    def forward(self, inputs, training=None):
        x = self.input_quantizer(inputs, training=training)
        kernel = self.kernel_quantizer(tf.convert_to_tensor(self.kernel), training=training)
        y = convolve(x, kernel, groups=self.groups, **self._geometry, exact=not training)
        if self.bias_quantizer is not None:
            y = y + self.bias_quantizer(tf.convert_to_tensor(self.bias), training=training)
        y = activations.apply(self.activation, y)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def cost(self):
        return ebops.conv(
            self.input_quantizer.bits(self._shape),
            self.kernel_quantizer.effective_bits(self.kernel),
            self.bias_quantizer.effective_bits(self.bias) if self.bias_quantizer is not None else None,
            total=tf.reduce_sum,
            groups=self.groups,
            **self._geometry,
        )

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        kernel = constant_to_ir(b, self.kernel_quantizer, self.kernel, "kernel")
        y = b.op("conv", x, kernel, name="conv", groups=self.groups, **self._geometry)
        if self.bias_quantizer is not None:
            y = b.op("add", y, constant_to_ir(b, self.bias_quantizer, self.bias, "bias"), name="add")
        y = activations.to_ir(b, self.activation, y)
        return quantize_to_ir(b, self.output_quantizer, y, "oq")

    def compute_output_shape(self, input_shape):
        sizes = tuple(input_shape[1:-1])
        return (input_shape[0], *windowed(sizes, self.kernel_size, self.strides, self.dilation_rate, self.padding, self.name), self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
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


def convolve(x, kernel, *, strides, dilation, padding, groups: int, exact: bool = True):
    """`hgq.ir.ops.conv` on tensors.

    `exact`: by matrix products, whose partial sums are exact in float32. Otherwise by the library's convolution where it has one, up to
    nine times as fast in training; on some devices that takes Winograd's or Fourier's method, which rounds.
    """
    *taps, channels, outputs = kernel.shape
    sizes = windows.output_sizes(x.shape[1:-1], taps, strides, dilation, padding)
    x = tf.pad(x, [(0, 0), *padding, (0, 0)]) if any(map(any, padding)) else x
    if not exact and groups == 1 and set(dilation) == {1}:  # TensorFlow lacks the gradients of others on a CPU
        return tf.nn.convolution(x, kernel, strides, "VALID")
    views = windows.views(x, taps, strides, dilation)
    flat, parts = tf.reshape(kernel, (-1, outputs)), []
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

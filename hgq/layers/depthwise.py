"""Quantized convolutions of each channel by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq.layers.backward import BackwardParts, Choice
from hgq.layers.base import QLayer
from hgq.layers.conv import QConv, QConv1D, QConv2D, WindowMap, checked_axes
from hgq.layers.dense import checked_units
from hgq.layers.kernel import BiasedLayer, NormalizedLayer
from hgq.quantizers import Identifier

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class DepthwiseMap(WindowMap):
    """The convolution of `QDepthwiseConv`: the op `conv` with as many groups as channels."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        *,
        depthwise_initializer="glorot_uniform",
        depthwise_regularizer=None,
        depthwise_constraint=None,
        **kwargs,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            kernel_initializer=depthwise_initializer,
            kernel_regularizer=depthwise_regularizer,
            kernel_constraint=depthwise_constraint,
            **kwargs,
        )
        self.depth_multiplier = checked_units(depth_multiplier, self.name, "depth_multiplier")

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels = checked_axes(shape, self.rank, self)[-1]
        self._settle(shape, channels)
        return (*self.kernel_size, channels, self.depth_multiplier)

    def arranged(self, kernel) -> Any:
        """``(*taps, channels, multiplier)`` as ``(*taps, 1, outputs)``: output ``c * multiplier + j`` is the j-th of channel c."""
        return tf.reshape(tf.convert_to_tensor(kernel), (*self.kernel_size, 1, -1))

    def _outputs(self, channels: int) -> int:
        return channels * self.depth_multiplier

    def get_config(self) -> dict:
        config = {**super().get_config(), "depth_multiplier": self.depth_multiplier}
        for what in ("initializer", "regularizer", "constraint"):
            config[f"depthwise_{what}"] = config.pop(f"kernel_{what}")
        return config


class QDepthwiseConv(DepthwiseMap, BiasedLayer):
    """A convolution of each channel by itself, with bias, activation and quantizers as in `QConv`.

    Use `QDepthwiseConv1D` or `QDepthwiseConv2D`. The kernel's bits are those of each weight, or of each *output* channel with
    ``granularity="channel"``.

    Args:
        kernel_size: Taps along each axis; a number for the same along all.
        strides: Steps between windows; they may differ between axes.
        padding: ``"valid"``, ``"same"`` or, with one axis, ``"causal"``; pads with zeros.
        depth_multiplier: Outputs for each channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: As in Keras.
        **kwargs: ``dilation_rate``, ``activation``, ``data_format``, and those of `BiasedLayer`.

    Raises:
        ConfigError: an argument means nothing.
    """


@keras.saving.register_keras_serializable(package="hgqc")
class QDepthwiseConv1D(QDepthwiseConv):
    """`QDepthwiseConv` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QDepthwiseConv2D(QDepthwiseConv):
    """`QDepthwiseConv` over two axes: input (batch, height, width, channels)."""

    rank = 2


class QDepthwiseConvBatchNorm(DepthwiseMap, NormalizedLayer):
    """``activation(BatchNormalization(depthwise convolution))`` as one depthwise convolution; `NormalizedLayer` has the formula.

    Args:
        kernel_size, strides, padding, depth_multiplier: As in `QDepthwiseConv`.
        **kwargs: ``dilation_rate``, ``activation``, ``depthwise_initializer`` and the like, and those of `NormalizedLayer`.

    Raises:
        ConfigError: an argument means nothing.
    """


@keras.saving.register_keras_serializable(package="hgqc")
class QDepthwiseConv1DBatchNorm(QDepthwiseConvBatchNorm):
    """`QDepthwiseConvBatchNorm` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QDepthwiseConv2DBatchNorm(QDepthwiseConvBatchNorm):
    """`QDepthwiseConvBatchNorm` over two axes: input (batch, height, width, channels)."""

    rank = 2


class QSeparableConv(QLayer):
    """A depthwise convolution without bias, then a pointwise one with bias and activation. Use `QSeparableConv1D` or `QSeparableConv2D`.

    Two inner layers, `depthwise` and `pointwise`, do the work. What passes between them is quantized.

    Args:
        filters: Output channels.
        kernel_size: Taps along each axis; a number for the same along all.
        strides: Steps between windows.
        padding: ``"valid"``, ``"same"`` or, with one axis, ``"causal"``; pads with zeros.
        dilation_rate: Steps between taps.
        depth_multiplier: Channels between the two convolutions for each channel of the input.
        activation: As in `QDense`.
        use_bias: Whether the pointwise convolution has a bias.
        data_format: None or ``"channels_last"``.
        depthwise_quantizer: Of the depthwise kernel; what `hgq.quantizers.get` takes, but not None.
        pointwise_quantizer: Of the pointwise kernel.
        bias_quantizer: Of the bias.
        input_quantizer: Of the input.
        intermediate_quantizer: Of what passes from the depthwise to the pointwise convolution; not None.
        output_quantizer: After the activation; usually None.
        parallelization_factor: Of both convolutions; as in `KernelLayer`.
        gradients: Of both convolutions, as in `KernelLayer`; or by name, as in ``{"depthwise": "luq4"}``.
        gradient_seed: As in `KernelLayer`; each convolution draws numbers of its own.
        beta: Loss per EBOP.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: As in Keras.
        pointwise_initializer, pointwise_regularizer, pointwise_constraint: As in Keras.
        bias_initializer, bias_regularizer, bias_constraint: As in Keras.

    Raises:
        ConfigError: an argument means nothing.
    """

    depthwise_class: type[QDepthwiseConv] = QDepthwiseConv
    pointwise_class: type[QConv] = QConv

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        *,
        data_format: str | None = None,
        depthwise_quantizer: Identifier = "weight",
        pointwise_quantizer: Identifier = "weight",
        bias_quantizer: Identifier = "bias",
        input_quantizer: Identifier = "data",
        intermediate_quantizer: Identifier = "data",
        output_quantizer: Identifier = None,
        beta: float | None = None,
        parallelization_factor: int | None = None,
        gradients: Choice = None,
        gradient_seed: int | None = None,
        depthwise_initializer="glorot_uniform",
        depthwise_regularizer=None,
        depthwise_constraint=None,
        pointwise_initializer="glorot_uniform",
        pointwise_regularizer=None,
        pointwise_constraint=None,
        bias_initializer="zeros",
        bias_regularizer=None,
        bias_constraint=None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.backward = BackwardParts(gradients, gradient_seed, ("depthwise", "pointwise"), self.name)
        self.depthwise = self.depthwise_class(
            kernel_size,
            strides,
            padding,
            depth_multiplier,
            dilation_rate=dilation_rate,
            data_format=data_format,
            use_bias=False,
            kernel_quantizer=depthwise_quantizer,
            input_quantizer=input_quantizer,
            depthwise_initializer=depthwise_initializer,
            depthwise_regularizer=depthwise_regularizer,
            depthwise_constraint=depthwise_constraint,
            parallelization_factor=parallelization_factor,
            beta=beta,
            name="depthwise",
            **self.backward.arguments("depthwise"),
        )
        self.pointwise = self.pointwise_class(
            filters,
            1,
            activation=activation,
            use_bias=use_bias,
            data_format=data_format,
            kernel_quantizer=pointwise_quantizer,
            bias_quantizer=bias_quantizer,
            input_quantizer=intermediate_quantizer,
            output_quantizer=output_quantizer,
            kernel_initializer=pointwise_initializer,
            kernel_regularizer=pointwise_regularizer,
            kernel_constraint=pointwise_constraint,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            parallelization_factor=parallelization_factor,
            beta=beta,
            name="pointwise",
            **self.backward.arguments("pointwise"),
        )

    def build(self, input_shape) -> None:
        self.depthwise.build(input_shape)
        self.pointwise.build(self.depthwise.compute_output_shape(input_shape))
        self.built = True

    def forward(self, inputs, training=None):
        return self.pointwise.forward(self.depthwise.forward(inputs, training), training)

    def cost(self):
        return self.depthwise.total_cost() + self.pointwise.total_cost()

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        with b.layer("depthwise"):
            x = self.depthwise.to_ir(b, *inputs)
        with b.layer("pointwise"):
            return self.pointwise.to_ir(b, x)

    def compute_output_shape(self, input_shape):
        return self.pointwise.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def get_config(self) -> dict:
        deep, point = self.depthwise.get_config(), self.pointwise.get_config()
        same = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier", "input_quantizer", "parallelization_factor")
        deep_names = {name: name for name in (*same, "depthwise_initializer", "depthwise_regularizer", "depthwise_constraint")}
        deep_names["depthwise_quantizer"] = "kernel_quantizer"
        same = ("filters", "activation", "use_bias", "bias_quantizer", "output_quantizer")
        point_names = {name: name for name in (*same, "bias_initializer", "bias_regularizer", "bias_constraint")}
        point_names |= {f"pointwise_{what}": f"kernel_{what}" for what in ("quantizer", "initializer", "regularizer", "constraint")}
        point_names["intermediate_quantizer"] = "input_quantizer"
        return {
            **super().get_config(),
            **{name: deep[own] for name, own in deep_names.items()},
            **{name: point[own] for name, own in point_names.items()},
            **self.backward.config(),
        }


@keras.saving.register_keras_serializable(package="hgqc")
class QSeparableConv1D(QSeparableConv):
    """`QSeparableConv` over one axis: input (batch, steps, channels)."""

    depthwise_class = QDepthwiseConv1D
    pointwise_class = QConv1D


@keras.saving.register_keras_serializable(package="hgqc")
class QSeparableConv2D(QSeparableConv):
    """`QSeparableConv` over two axes: input (batch, height, width, channels)."""

    depthwise_class = QDepthwiseConv2D
    pointwise_class = QConv2D

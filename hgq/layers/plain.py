"""Keras' own layers with gradients on few bits: the same weights, configuration and values, another backward pass.

`hgq.layers.with_gradients` puts them in place of Keras' own. They are no quantized layers, and do not freeze.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import Identifier, packing
from hgq.gradients.base import Linear
from hgq.ir import contraction
from hgq.layers.backward import BackwardPass
from hgq.layers.conv import check_channels_last
from hgq.layers.dense import matmul
from hgq.layers.einsum import without_batch
from hgq.layers.matrices import as_matrices

COMPACT = {keras.activations.relu: packing.relu}
"""Activations that can do with fewer bytes until the backward pass, for schemes that keep few."""


class GradientLayer(keras.layers.Layer):
    """Mixed into a layer of Keras with a kernel, a bias and an activation: ``activation(linear(x, kernel) + bias)``.

    Args:
        gradients: How the backward pass computes the gradients of data and kernel: None or ``"none"`` (float32), or what
            `hgq.gradients.get` takes, such as ``"luq4"``. Values do not change, in training neither.
        gradient_seed: Of the random numbers of that; None draws one.
        *args, **kwargs: Those of Keras' layer.

    Raises:
        ConfigError: no such scheme; or a dtype policy other than float32.
    """

    def __init__(self, *args, gradients: Identifier = None, gradient_seed: int | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.compute_dtype != "float32" or self.dtype_policy.name != "float32":
            raise ConfigError(
                "Gradients on few bits start from float32.",
                where=f"layer {self.name}",
                expected='dtype policy "float32"',
                received=repr(self.dtype_policy.name),
                fix='Pass dtype="float32" to this layer.',
            )
        check_channels_last(getattr(self, "data_format", "channels_last"), self.name)
        self.backward = BackwardPass(gradients, gradient_seed, self.name)

    def build(self, input_shape) -> None:
        super().build(input_shape)
        self.backward.build(self)

    def linear(self, x, kernel) -> Any:
        """The bilinear map of Keras' layer."""
        raise NotImplementedError(f"{type(self).__name__} defines no linear().")

    def bilinear(self) -> Linear:
        """`linear` as schemes of the backward pass may recognise it."""
        return self.linear

    def call(self, inputs, training=None):
        """As Keras' layer."""
        y = self._product(inputs, tf.convert_to_tensor(self.kernel), training)
        if self.bias is not None:
            bias = tf.convert_to_tensor(self.bias)  # the gradient of a sum with broadcasting would keep y for its shape
            y = tf.nn.bias_add(y, bias) if len(bias.shape) == 1 else y + bias
        scheme = self.backward.scheme
        compact = training and scheme is not None and scheme.compresses
        activation: Any = self.activation
        chosen: Any = COMPACT.get(activation, activation) if compact else activation
        return chosen(y)

    def _product(self, x, kernel, training):
        return self.backward.product(self.bilinear(), x, kernel, training)

    def save_own_variables(self, store) -> None:
        """All variables; Keras' layers list theirs one by one, which would leave out the counter."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store) -> None:
        """The inverse."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict:
        return {**super().get_config(), **self.backward.config()}


@keras.saving.register_keras_serializable(package="hgqc")
class GradientDense(GradientLayer, keras.layers.Dense):
    """`keras.layers.Dense` with `GradientLayer`'s arguments."""

    def linear(self, x, kernel):
        return matmul(x, kernel)

    def bilinear(self) -> Linear:
        return matmul


class GradientConv(GradientLayer):
    """Base of the convolutions."""

    def linear(self, x, kernel):
        padding = self.padding
        if padding == "causal":
            x, padding = tf.pad(x, [(0, 0), (self.dilation_rate[0] * (self.kernel_size[0] - 1), 0), (0, 0)]), "valid"
        return keras.ops.conv(
            x, kernel, strides=list(self.strides), padding=padding, dilation_rate=self.dilation_rate, data_format="channels_last"
        )


@keras.saving.register_keras_serializable(package="hgqc")
class GradientConv1D(GradientConv, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with `GradientLayer`'s arguments."""


@keras.saving.register_keras_serializable(package="hgqc")
class GradientConv2D(GradientConv, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with `GradientLayer`'s arguments."""


@keras.saving.register_keras_serializable(package="hgqc")
class GradientConv3D(GradientConv, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with `GradientLayer`'s arguments."""


class GradientDepthwiseConv(GradientLayer):
    """Base of the depthwise convolutions."""

    def linear(self, x, kernel):
        return keras.ops.depthwise_conv(
            x, kernel, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate, data_format="channels_last"
        )


@keras.saving.register_keras_serializable(package="hgqc")
class GradientDepthwiseConv1D(GradientDepthwiseConv, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with `GradientLayer`'s arguments."""


@keras.saving.register_keras_serializable(package="hgqc")
class GradientDepthwiseConv2D(GradientDepthwiseConv, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with `GradientLayer`'s arguments."""


@keras.saving.register_keras_serializable(package="hgqc")
class GradientEinsumDense(GradientLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with `GradientLayer`'s arguments; the batch is the first axis of input and output."""

    def build(self, input_shape) -> None:
        super().build(input_shape)
        try:
            text = contraction.spelled_out(self.equation, len(input_shape), len(self.kernel.shape))
            self._contraction = contraction.read(without_batch(text, both=False))
        except ValueError as error:
            raise ConfigError(
                "This equation has no kernel whose gradients could be computed otherwise.",
                where=f"layer {self.name}",
                expected='an equation such as "abc,cd->abd" or "...x,xy->...y": first axis the batch',
                received=f"{error} (equation {self.equation!r})",
            ) from error

    def _product(self, x, kernel, training):
        left, right, product, back = as_matrices(self._contraction, x, kernel, both=False)
        y = back(self.backward.product(product, left, right, training))
        return _valued(y, keras.ops.einsum(self.equation, x, kernel))


@tf.custom_gradient
def _valued(y, value):
    """`value`, which is `y` but for the last bit, with the gradient of `y`."""
    return tf.identity(value), lambda g: (g, None)


STOCK: dict[type[keras.layers.Layer], type[GradientLayer]] = {
    keras.layers.Dense: GradientDense,
    keras.layers.Conv1D: GradientConv1D,
    keras.layers.Conv2D: GradientConv2D,
    keras.layers.Conv3D: GradientConv3D,
    keras.layers.DepthwiseConv1D: GradientDepthwiseConv1D,
    keras.layers.DepthwiseConv2D: GradientDepthwiseConv2D,
    keras.layers.EinsumDense: GradientEinsumDense,
}
"""Keras' layers, and what takes their place. A subclass of theirs is neither: nobody knows what it computes."""

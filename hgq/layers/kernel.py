"""What the layers with a kernel have in common: dense, convolution, einsum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import Identifier as GradientIdentifier
from hgq.gradients.base import Linear
from hgq.layers import activations
from hgq.layers.backward import BackwardPass
from hgq.layers.base import QLayer, constant_to_ir, identifier_config, quantize_to_ir
from hgq.layers.luts import luts_of_linear
from hgq.layers.normalizing import NormalizingLayer
from hgq.quantizers import Identifier, serialize
from hgq.resources.ebops import Arrays

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


TENSORS = Arrays(tf.reduce_sum, tf.reduce_max, tf.gather, tf.reshape, tf.einsum)
"""What the formulas of `hgq.resources.ebops` need of TensorFlow."""


class KernelLayer(QLayer):
    """``activation(linear(input_quantizer(x), kernel_quantizer(kernel)) + bias_quantizer(bias))``, then `output_quantizer`, if any.

    Owns kernel, bias, quantizers and activation: how they are made, built, applied, frozen and saved. What is linear is the business of a
    subclass, which writes `kernel_shape`, `linear`, `linear_cost`, `linear_to_ir` and ``compute_output_shape``. Where the bias comes from
    is that of `BiasedLayer` (a variable) or `NormalizedLayer` (a folded batch normalisation); a layer inherits from one of them.

    Args:
        activation: None, ``"linear"``, ``"relu"``, ``"relu6"``, ``"hard_tanh"``, ``"leaky_relu"`` or ``"leaky_relu(SLOPE)"``.
        use_bias: Whether a bias is added.
        kernel_quantizer: What `hgq.quantizers.get` takes, but not None.
        bias_quantizer: The same.
        input_quantizer: The same.
        output_quantizer: The same, or None. Usually None: the next layer quantizes its input.
        kernel_initializer, kernel_regularizer, kernel_constraint: As in Keras.
        parallelization_factor: How many positions (rows, windows) are computed at the same time; it must divide their number. None (or -1)
            for all. With fewer, position n uses the hardware n modulo this, which costs once, and is as wide as the widest of what takes
            turns there; the layer then takes a new sample only every so many cycles. It changes no value.
        gradients: How the backward pass computes the gradients of data and kernel: None or ``"none"`` (float32), or what
            `hgq.gradients.get` takes, such as ``"luq4"``. Inference and firmware are the same.
        gradient_seed: Of the random numbers of that; None draws one.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        *,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_quantizer: Identifier = "weight",
        bias_quantizer: Identifier = "bias",
        input_quantizer: Identifier = "data",
        output_quantizer: Identifier = None,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        kernel_constraint=None,
        parallelization_factor: int | None = None,
        gradients: GradientIdentifier = None,
        gradient_seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.parallelization_factor = None if parallelization_factor in (None, -1) else parallelization_factor
        self.backward = BackwardPass(gradients, gradient_seed, self.name)
        self.activation = activations.known(activation, self.name)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.kernel_quantizer = self._required_quantizer(kernel_quantizer, "weight", "kernel_quantizer")
        self.bias_quantizer = self._required_quantizer(bias_quantizer, "bias", "bias_quantizer") if use_bias else None
        self.output_quantizer = self._quantizer(output_quantizer, "data", "output_quantizer")

    # ---- what a subclass writes ----------------------------------------

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the kernel for inputs of `shape`, without batch. Checks the shape and settles what depends on it."""
        raise NotImplementedError(f"{type(self).__name__} defines no kernel_shape().")

    def positions(self, output_shape: tuple[int, ...]) -> int:
        """How many positions could take turns, for outputs of this shape."""
        return math.prod(output_shape[:-1])

    def bias_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the bias for outputs of this shape, without batch."""
        return output_shape[-1:]

    def arranged(self, kernel) -> Any:
        """The kernel as `linear` takes it, the axis of the outputs last: what is quantized. Keras may keep it in another arrangement."""
        return kernel

    def spread(self, scale) -> Any:
        """Numbers of the outputs' last axis, such that they broadcast against the arranged kernel."""
        return scale

    def linear(self, x, kernel, training=None) -> Any:
        """The linear map of quantized data by a quantized, arranged kernel; in inference its partial sums are exact."""
        raise NotImplementedError(f"{type(self).__name__} defines no linear().")

    def bilinear(self, training=None) -> Linear:
        """`linear` as a function of data and kernel alone, for schemes of the backward pass, which may recognise it."""
        return lambda x, kernel: self.linear(x, kernel, training)

    def linear_cost(self, bits_x, bits_kernel, bits_bias) -> Any:
        """EBOPs from the bits of data, arranged kernel and bias (or None), as tensors."""
        raise NotImplementedError(f"{type(self).__name__} defines no linear_cost().")

    def linear_to_ir(self, b: GraphBuilder, x: Ref, kernel: Ref) -> Ref:
        """The linear map as nodes."""
        raise NotImplementedError(f"{type(self).__name__} defines no linear_to_ir().")

    # ---- what decides about the constants ----------------------------------------

    def _build_bias(self, shape: tuple[int, ...]) -> None:
        """Create what the bias is made of, and build its quantizer."""
        raise NotImplementedError(f"{type(self).__name__} is neither a BiasedLayer nor a NormalizedLayer.")

    def constants(self) -> tuple[Any, Any]:
        """Arranged kernel and bias (or None) of inference, before quantization, float32."""
        raise NotImplementedError(f"{type(self).__name__} is neither a BiasedLayer nor a NormalizedLayer.")

    def training_constants(self, x) -> tuple[Any, Any]:
        """The same in a training step with quantized data `x`."""
        return self.constants()

    # ---- what follows ----------------------------------------

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        shape = self.kernel_shape(self._shape)
        output_shape = self.compute_output_shape(input_shape)
        self._turns = self._parallel(self.positions(tuple(output_shape[1:])))
        self.kernel = self.add_weight(
            name="kernel",
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.kernel_quantizer.build_for(self.arranged(self.kernel))
        self.input_quantizer.build(input_shape)
        self._build_bias(self.bias_shape(tuple(output_shape[1:])))
        self.backward.build(self)
        if self.output_quantizer is not None:
            self.output_quantizer.build(output_shape)
        self.built = True

    def _parallel(self, positions: int) -> dict[str, Any]:
        """The attribute of the op, if positions take turns.

        Raises:
            ConfigError: they do not fall into turns.
        """
        factor = self.parallelization_factor
        if factor is None or factor == positions:
            return {}
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1 or positions % factor:
            divisors = [n for n in range(1, positions + 1) if positions % n == 0]
            raise ConfigError(
                "Positions cannot take turns like this.",
                where=f"layer {self.name}",
                expected=f"parallelization_factor=None, or a divisor of its {positions} positions: {', '.join(map(str, divisors))}",
                received=repr(factor),
            )
        return {"parallel": factor}

    def forward(self, inputs, training=None):
        x = self.input_quantizer(inputs, training=training)
        kernel, bias = self.training_constants(x) if training else self.constants()
        kernel = self.kernel_quantizer(kernel, training=training)
        y = self._activated(x, kernel, None if self.bias_quantizer is None else self.bias_quantizer(bias, training=training), training)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def _activated(self, x, kernel, bias, training):
        """``activation(linear(x, kernel) + bias)`` of quantized data and constants; a subclass may know an op that does it all."""
        y = self._product(self.backward, x, kernel, training)
        return activations.apply(self.activation, y) if bias is None else activations.apply_biased(self.activation, y, bias)

    def _product(self, backward: BackwardPass, x, kernel, training):
        return backward.product(self.bilinear(training), x, kernel, training)

    def quantized_constants(self) -> dict[str, Any]:
        kernel, bias = self.constants()
        return {"kernel_quantizer": kernel, "bias_quantizer": bias}

    def cost(self):
        kernel, bias = self.constants()
        bits_x, bits_kernel = self.input_quantizer.bits(self._shape), self.kernel_quantizer.effective_bits(kernel)
        bits_bias = self.bias_quantizer.effective_bits(bias) if self.bias_quantizer is not None else None
        if self.resource == "lut":
            quantized, declared = self.kernel_quantizer(kernel, training=False), self.kernel_quantizer.declared_bits(kernel)
            activated = self.activation != "linear"
            return luts_of_linear(self.linear_cost, bits_x, bits_kernel, bits_bias, quantized, declared, activated=activated)
        return self.linear_cost(bits_x, bits_kernel, bits_bias)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        kernel, bias = self.constants()
        x = quantize_to_ir(b, self.input_quantizer, x, "iq")
        y = self.linear_to_ir(b, x, constant_to_ir(b, self.kernel_quantizer, kernel, "kernel"))
        if self.bias_quantizer is not None:
            y = b.op("add", y, constant_to_ir(b, self.bias_quantizer, bias, "bias"), name="add")
        return quantize_to_ir(b, self.output_quantizer, activations.to_ir(b, self.activation, y), "oq")

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "activation": self.activation,
            "kernel_quantizer": serialize(self.kernel_quantizer),
            "bias_quantizer": serialize(self.bias_quantizer) or "bias",
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
            "parallelization_factor": self.parallelization_factor,
            **self.backward.config(),
            **identifier_config(
                kernel_initializer=self.kernel_initializer,
                kernel_regularizer=self.kernel_regularizer,
                kernel_constraint=self.kernel_constraint,
            ),
        }


class BiasedLayer(KernelLayer):
    """A `KernelLayer` whose bias is a variable.

    Args:
        use_bias: Whether there is one.
        bias_initializer, bias_regularizer, bias_constraint: As in Keras.
        **kwargs: Those of `KernelLayer`.
    """

    def __init__(self, *, use_bias: bool = True, bias_initializer="zeros", bias_regularizer=None, bias_constraint=None, **kwargs) -> None:
        super().__init__(use_bias=use_bias, **kwargs)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def _build_bias(self, shape: tuple[int, ...]) -> None:
        if self.bias_quantizer is None:
            return
        self.bias = self.add_weight(
            name="bias",
            shape=shape,
            initializer=self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )
        self.bias_quantizer.build_for(self.bias)

    def constants(self) -> tuple[Any, Any]:
        kernel = self.arranged(tf.convert_to_tensor(self.kernel))
        return kernel, tf.convert_to_tensor(self.bias) if self.use_bias else None

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "use_bias": self.use_bias,
            **identifier_config(
                bias_initializer=self.bias_initializer, bias_regularizer=self.bias_regularizer, bias_constraint=self.bias_constraint
            ),
        }


class NormalizedLayer(KernelLayer, NormalizingLayer):
    """A `KernelLayer` with a batch normalisation of the last axis folded in: what is quantized is the kernel that the hardware has.

    With the statistics of the unquantized product ``z = linear(input_quantizer(x), kernel)`` and
    ``scale = gamma / sqrt(variance + epsilon)``::

        y = linear(input_quantizer(x), kernel_quantizer(kernel * scale)) + bias_quantizer(offset - mean * scale)

    The batch's statistics in training, the moving ones in inference. There is no further bias: the mean would swallow it.

    Args:
        kernel_quantizer: Of the folded kernel.
        bias_quantizer: Of the folded bias.
        **kwargs: Those of `KernelLayer`, save ``use_bias``, and those of `NormalizingLayer`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(use_bias=True, **kwargs)
        self._statistics_backward = self.backward.part("statistics")

    def _build_bias(self, shape: tuple[int, ...]) -> None:
        self._build_normalization(shape[-1])
        self._statistics_backward.build(self, "statistics_gradient")
        self.bias_quantizer.build(shape[-1:])  # type: ignore[union-attr]

    def constants(self) -> tuple[Any, Any]:
        scale, bias = self._folded_moving()
        kernel = self.arranged(tf.cast(self.kernel, tf.float64)) * self.spread(scale)
        return tf.cast(kernel, tf.float32), tf.cast(bias, tf.float32)

    def training_constants(self, x) -> tuple[Any, Any]:
        if not self.trainable:
            return self.constants()
        kernel = self.arranged(tf.convert_to_tensor(self.kernel))
        scale, bias = self._folded(*self._batch_statistics(self._product(self._statistics_backward, x, kernel, True)))
        return kernel * self.spread(scale), bias

    def folded(self) -> tuple[Any, Any]:
        """The same as `constants`: kernel and bias with the moving statistics."""
        return self.constants()

"""What a backward pass on few bits is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import tensorflow as tf

from hgq.gradients import packing, random
from hgq.named import Registry

Tensor = Any
Linear = Callable[[Tensor, Tensor], Tensor]
"""A bilinear function of data and kernel: a matrix product, a convolution, an einsum."""


@dataclass(frozen=True)
class Scheme(ABC):
    """How the gradients of ``y = linear(x, kernel)`` are computed. Frozen and without state: layers share it.

    The forward pass is not touched. `x` and `kernel` are what the layer's quantizers made: whatever they keep for their own backward pass
    (masks, gradients of bitwidths) is downstream of the gradients computed here, and linear in them. So an unbiased scheme leaves those of
    the bitwidths unbiased too.
    """

    random: ClassVar[bool] = True
    """Whether it draws random numbers."""

    compresses: ClassVar[bool] = False
    """Whether it keeps data for the backward pass in fewer bytes than they have."""

    @property
    def remembers(self) -> bool:
        """Whether it learns from one step what it does in the next: its products then need a `memory`."""
        return False

    @abstractmethod
    def product(self, linear: Linear, x: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        """``linear(x, kernel)``, with gradients computed by this scheme.

        Args:
            linear: Bilinear, of tensors.
            x: Data.
            kernel: Kernel.
            seed: int32 of shape (2,), of no other call in the same step.
            memory: Of a scheme that `remembers`: a float32 variable without axes, 0 at first, that belongs to this product. The backward
                pass reads and assigns it. None is as good as 0 at each step.
        """

    @abstractmethod
    def read(self, g: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        """The gradient of the result as the product for the data's gradient reads it; changes nothing. For statistics."""

    def limit(self, g: Tensor, memory: Any = None) -> Tensor:
        """The magnitude from which on this gradient would be clipped; infinite for a scheme that scales to what it sees."""
        return tf.constant(float("inf"))

    def residual_bytes(self, shape: tuple[int, ...]) -> float:
        """Bytes that must be kept of data of this shape (batch included) until the backward pass, by the scheme's own formula.

        What this process really keeps is more: TensorFlow's fake-quantizers hold float32.
        """
        return 4.0 * prod(shape)


@dataclass(frozen=True)
class GradientQuantizer(Scheme):
    """Quantizes the gradient of the result, element by element; both products of the backward pass read the quantized gradient."""

    unbiased: ClassVar[bool] = True
    """Whether the mean of the quantized gradient is the gradient."""

    @abstractmethod
    def quantize(self, g: Tensor, seed: Tensor) -> Tensor:
        """The quantized gradient, float32, of the shape of `g`: a pure function."""

    @property
    def greatest_code(self) -> int | None:
        """The greatest of its integer `codes`; None: its values are no integers of one scale."""
        return None

    def codes(self, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Integers, int8, and their scale, a scalar: together what `quantize` returns, where there is a `greatest_code` up to 127.

        Where anything in `g` is infinite or NaN the codes are 0 and the scale is NaN.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no codes().")

    def read(self, g: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        return self.quantize(g, seed)

    def product(self, linear: Linear, x: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        return quantized_gradient(linear(x, kernel), self.quantize, seed)


def quantized_gradient(y: Tensor, quantize: Callable[[Tensor, Tensor], Tensor], seed: Tensor) -> Tensor:
    """`y` itself; its gradient is quantized on the way back."""

    @tf.custom_gradient
    def identity(y):
        return tf.identity(y), lambda g: quantize(g, seed)

    return identity(y)


@dataclass(frozen=True)
class BackwardScheme(Scheme):
    """Owns both products of the backward pass.

    A subclass says what each reads: `for_data` the gradient and the kernel of ``dx = linear'(kernel, g)``, and `for_kernel` the data and
    the gradient of ``dkernel = linear'(x, g)``. Whatever is quantized in a rotated basis is rotated back first, so that the layer's
    ordinary backward products (of a convolution, without unfolding it) can take it.
    """

    @abstractmethod
    def for_data(self, g: Tensor, kernel: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and kernel for the gradient of the data."""

    @abstractmethod
    def for_kernel(self, kept: Any, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Data and gradient for the gradient of the kernel.

        Args:
            kept: What `keep` returned.
            g: Gradient of the result.
            seed: For random rounding.
        """

    def read(self, g: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        return self.for_data(g, kernel, random.derived(seed, 2))[0]

    def keep(self, x: Tensor, seed: Tensor) -> Any:
        """What is kept of the data for the backward pass; of a scheme that `compresses` a tuple, whose first part are the codes."""
        return x

    def data_gradient(self, linear: Linear, at: Shape, kernel: Tensor, g: Tensor, seed: Tensor) -> Tensor:
        """The gradient of the data.

        Args:
            linear: The bilinear function. A scheme may recognise it, and compute this product in a way of its own.
            at: Shape of the data.
            kernel: Kernel.
            g: Gradient of the result.
            seed: For random rounding.
        """
        g, kernel = self.for_data(g, kernel, seed)
        return pull_back(lambda x: linear(x, kernel), at.zeros(), g)

    def kernel_gradient(self, linear: Linear, kept: Any, kernel: Tensor, g: Tensor, seed: Tensor) -> Tensor:
        """The gradient of the kernel.

        Args:
            linear: As in `data_gradient`.
            kept: What `keep` returned.
            kernel: Kernel; only its shape counts.
            g: Gradient of the result.
            seed: For random rounding.
        """
        x, g = self.for_kernel(kept, g, seed)
        return pull_back(lambda at: linear(x, at), kernel, g)

    def product(self, linear: Linear, x: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        @tf.custom_gradient
        def bilinear(x, kernel):
            x, kernel = tf.stop_gradient(x), tf.stop_gradient(kernel)  # else eager tapes record, and keep, what is computed here
            kept, at = self.keep(x, random.derived(seed, 1)), Shape(x)
            if self.compresses:  # before the product: what it was made from is not needed any more
                first, x = packing.in_order(kept[0], x)
                kept = (first, *kept[1:])

            def gradient(g):
                with tf.control_dependencies([g]):  # constants as large as the gradient, too, are not made before
                    codes, late = kept, seed
                    if self.compresses:  # nothing is unpacked, and no random number drawn, before it is needed
                        g, (first, late) = packing.in_order(g, (kept[0], seed))
                        codes = (first, *kept[1:])
                    d_kernel = self.kernel_gradient(linear, codes, kernel, g, random.derived(late, 3))
                    if self.compresses:  # and one product is done with before the other begins
                        d_kernel, (g, late) = packing.in_order(d_kernel, (g, seed))
                    return self.data_gradient(linear, at, kernel, g, random.derived(late, 2)), d_kernel

            return linear(x, kernel), gradient

        return bilinear(x, kernel)


class Shape:
    """The shape of a tensor, as far as it is known beforehand and in full: all that the gradient of a linear function asks of where it is.

    Holding the tensor itself would keep its memory until the backward pass.
    """

    def __init__(self, x: Tensor) -> None:
        self.static, self.full = x.shape, tf.shape(x)

    def zeros(self) -> Tensor:
        """Zeros of that shape."""
        return tf.ensure_shape(tf.zeros(self.full), self.static)


def pull_back(function: Callable[[Tensor], Tensor], at: Tensor, g: Tensor) -> Tensor:
    """Vector-Jacobian product of a linear function; the value of the function itself is not needed, and a compiled graph drops it."""
    with tf.GradientTape() as tape:
        tape.watch(at)
        y = function(at)
    return tape.gradient(y, at, output_gradients=g)


SCHEMES: Registry[Scheme] = Registry(Scheme, "a way to compute gradients", "luq4(samples=2)")  # type: ignore[type-abstract]
"""What strings can name."""

register = SCHEMES.register
"""Let strings name a scheme: ``@register("mine")``; with arguments, a preset of them. More than one name is fine."""

"""Backward products of 8-bit integers: what makes gradients on few bits faster than float32, instead of a simulation that is slower."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import tensorflow as tf

from hgq import native
from hgq.errors import ConfigError
from hgq.gradients import packing, random
from hgq.gradients.base import SCHEMES, BackwardScheme, GradientQuantizer, Linear, pull_back, register
from hgq.gradients.integer import rounded
from hgq.gradients.linear import MatrixProduct
from hgq.gradients.powers import power_for

Tensor = Any
Codes = tuple[Tensor, Tensor]
"""int8 integers and their scale, a float32 scalar."""

GREATEST_GRADIENT_CODE = 64
"""Of a gradient: then two products with unsigned bytes fit into 16 bits, as processors add them. LUQ's 4-bit codes reach just this."""
EXACT_TERMS = 2048
"""So many products of 127 * 64 at most add up to less than 2**24: float32 holds every partial sum exactly."""


@register("luq4_int8", quantizer="luq4")
@register("luq3_int8", quantizer="luq3")
@register("int4_int8", quantizer="int4")
@register("integer_products")
@dataclass(frozen=True)
class IntegerProducts(BackwardScheme):
    """Both backward products on integers of at most 8 bits, with sums that are exact: ``"luq4_int8"``.

    The gradient is quantized once, by `quantizer`; both products read the same codes (LUQ's powers of two are integers up to 64, so 8-bit
    containers lose nothing). Data and kernel become integers of `bits`, with one power of two as scale for the tensor: the least at which
    the greatest magnitude is in range. What lies on a grid of so many bits, as quantized data and kernels often do, is unchanged by that;
    anything else is rounded at random, so both gradients stay unbiased. Of the data only these bytes are kept until the backward pass.

    For dense layers the native op multiplies integers; the reference multiplies them as float32, in parts so short that each sum is exact,
    so that both give the same bits. Other layers (convolutions, einsum) get the same quantized operands in their ordinary float32 products.

    Args:
        quantizer: Of the gradient: what `hgq.gradients.get` takes, with integer codes up to 64, one scale and one sample.
        bits: Of data and kernel, 2 to 8. Processors without VNNI add eight products in 16 bits: the native op takes the few gradients apart
            that are too great for that; where these are many, it adds four or two, which takes up to half again as long.
    """

    compresses: ClassVar[bool] = True

    quantizer: str = "luq4"
    bits: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise ConfigError("Integer products cannot have these bits.", expected="an integer from 2 to 8", received=repr(self.bits))
        chosen = SCHEMES.get(self.quantizer, "quantizer of integer products")
        greatest = chosen.greatest_code if isinstance(chosen, GradientQuantizer) else None
        if greatest is None or greatest > GREATEST_GRADIENT_CODE:
            raise ConfigError(
                "This quantizer has no codes for products of 8-bit integers.",
                expected=f"integers up to {GREATEST_GRADIENT_CODE} with one scale for the tensor: 'luq4', 'luq3', 'luq2', 'int4', 'int3' …",
                received=f"quantizer={self.quantizer!r}",
            )

    @property
    def _gradient(self) -> GradientQuantizer:
        return SCHEMES.get(self.quantizer)  # type: ignore[return-value]

    def operand(self, x: Tensor, seed: Tensor) -> Codes:
        """Data or a kernel as integers of `bits`."""
        ops = native.ops_for(x)
        if ops is not None:
            return tuple(ops.hgqc_integer_codes(x, seed, bits=self.bits, power_of_two=True))
        scale = power_for(tf.reduce_max(tf.abs(x)), self.bits)
        codes = rounded(x / scale, self.bits, seed)
        return tf.cast(tf.where(tf.math.is_finite(scale), codes, 0.0), tf.int8), scale

    def keep(self, x: Tensor, seed: Tensor) -> Codes:
        return self.operand(x, seed)

    def for_data(self, g: Tensor, kernel: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        return values(self._gradient.codes(g, seed)), values(self.operand(kernel, random.derived(seed, 7)))

    def for_kernel(self, kept: Any, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        return values(kept), values(self._gradient.codes(g, seed))

    def product(self, linear: Linear, x: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        @tf.custom_gradient
        def bilinear(x, kernel):
            x, kernel = tf.stop_gradient(x), tf.stop_gradient(kernel)  # as in `BackwardScheme`
            data, data_scale = self.keep(x, random.derived(seed, 1))
            data, x = packing.in_order(data, x)  # as in `BackwardScheme`

            def gradient(g):
                with tf.control_dependencies([g]):
                    g, (bytes_, late) = packing.in_order(g, (data, seed))
                    kept, once = (bytes_, data_scale), random.derived(late, 2)
                    codes, w = self._gradient.codes(g, once), self.operand(kernel, random.derived(once, 7))
                if isinstance(linear, MatrixProduct):
                    return data_gradient(codes, w), kernel_gradient(kept, codes)
                g_q, w_q, x_q = values(codes), values(w), values(kept)
                return pull_back(lambda at: linear(at, w_q), x_q, g_q), pull_back(lambda at: linear(x_q, at), w_q, g_q)

            return linear(x, kernel), gradient

        return bilinear(x, kernel)

    def residual_bytes(self, shape: tuple[int, ...]) -> float:
        return 1.0 * prod(shape)


def values(codes: Codes) -> Tensor:
    """The float32 numbers that codes stand for."""
    return tf.cast(codes[0], tf.float32) * codes[1]


def data_gradient(gradient: Codes, kernel: Codes) -> Tensor:
    """``g @ kernel^T``, float32: gradient (…, outputs), kernel (inputs, outputs); the result has shape (…, inputs)."""
    (g, g_scale), (w, w_scale) = gradient, kernel
    flat, scale = MatrixProduct.flat(g), g_scale * w_scale
    ops = native.ops_for(scale)
    y = _exact(flat, w, scale, contracted=1) if ops is None else ops.hgqc_data_product(flat, w, scale)
    return MatrixProduct.with_leading(g, y)


def kernel_gradient(data: Codes, gradient: Codes) -> Tensor:
    """``x^T @ g``, float32: data (…, inputs), gradient (…, outputs); the result has shape (inputs, outputs)."""
    (x, x_scale), (g, g_scale) = data, gradient
    x, g, scale = MatrixProduct.flat(x), MatrixProduct.flat(g), x_scale * g_scale
    ops = native.ops_for(scale)
    return _exact(x, g, scale, contracted=0) if ops is None else ops.hgqc_kernel_product(x, g, scale)


def _exact(a: Tensor, b: Tensor, scale: Tensor, contracted: int) -> Tensor:
    """The scaled product of two matrices of codes along their axis `contracted`, each sum exact."""
    a, b, first = tf.cast(a, tf.float32), tf.cast(b, tf.float32), contracted == 0
    if a.shape[contracted] is not None and a.shape[contracted] <= EXACT_TERMS:
        return tf.matmul(a, b, transpose_a=first, transpose_b=not first) * scale
    if not first:
        a, b = tf.transpose(a), tf.transpose(b)
    terms = tf.shape(a)[0]
    parts = tf.maximum(1, (terms + EXACT_TERMS - 1) // EXACT_TERMS)
    length = (terms + parts - 1) // parts
    padding = [(0, parts * length - terms), (0, 0)]
    a, b = (tf.reshape(tf.pad(x, padding), (parts, length, x.shape[1])) for x in (a, b))
    sums = tf.reduce_sum(tf.cast(tf.matmul(a, b, transpose_a=True), tf.int64), axis=0)
    return tf.cast(sums, tf.float32) * scale

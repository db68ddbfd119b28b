"""Charging LUTs where a layer has formulas for EBOPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from hgq.quantizers import ops
from hgq.resources import lut

STEP = 2.0**-8
"""LUTs to which prices are rounded: their sums are then exact in float32, up to 65,536 LUTs, and the same in whatever order they are added.
Models trained side by side (`hgq.sweep.stack`) add in another one than a model alone."""


def luts_of_linear(
    linear_cost: Callable[..., Any], bits_x: Any, bits_kernel: Any, bits_bias: Any, kernel: Any, declared: Any, *, activated: bool = True
) -> Any:
    """LUTs of a linear map and its bias under distributed arithmetic (`hgq.resources.lut`): a float32 scalar.

    A formula for EBOPs sums ``bx * bw`` over all products, so with the price of a weight in place of its bits it sums prices.

    The value is the count, the gradient that of what is saved (`hgq.resources.lut.saved`): a bit of data saves its part of each digit that
    it meets, a bit of a weight the digits that it is expected to stand for. (The digits of the very value are whole numbers, without a
    gradient.)

    Args:
        linear_cost: ``linear_cost(bits_x, bits_kernel, bits_bias)`` gives EBOPs.
        bits_x: Bits of the data.
        bits_kernel: Effective bits of the arranged kernel, the axis of the outputs last.
        bits_bias: Those of the bias, or None.
        kernel: The kernel, quantized.
        declared: Bits that its magnitudes may have, of a shape that broadcasts to the kernel's (`hgq.quantizers.Quantizer.declared_bits`).
        activated: Whether outputs go through an activation.
    """
    alive = tf.stop_gradient(tf.minimum(bits_x, 1.0))
    digits = ops.signed_digits(tf.stop_gradient(kernel)) * _used(linear_cost, alive, bits_kernel)
    flat = tf.reshape(digits, (-1, digits.shape[-1]))

    def summed(bit: Any, value: Any, bias: float) -> Any:
        of_bias = None if bits_bias is None else round(bias / STEP) * STEP * bits_bias
        return linear_cost(bits_x, bit, of_bias) + linear_cost(alive, value, None)

    price, digit = lut.prices(flat, tf.reduce_sum, activated=activated), lut.saved(flat, tf.reduce_sum)
    bit, value = (tf.reshape(rounded(one), digits.shape) for one in (price.bit, price.value))
    count = summed(bit, value, lut.FITTED.bias)
    a_bit, grows = lut.digits_of_a_bit(declared), bits_kernel - tf.stop_gradient(bits_kernel)  # 0, with a gradient
    bit, value = (digits * rounded(one) + grows * rounded(a_bit * one) for one in (digit.bit, digit.value))
    saved = summed(bit, value, lut.FITTED.bias_saved)
    return saved + tf.stop_gradient(count - saved)


def rounded(price: Any) -> Any:
    """To whole `STEP`."""
    return tf.round(price / STEP) * STEP


def _used(linear_cost: Callable[..., Any], alive: Any, kernel: Any) -> Any:
    """1 for each weight that meets data with bits, else 0: EBOPs are linear in the kernel, by how often each weight is used."""
    ones = tf.ones_like(kernel)
    with tf.GradientTape() as tape:
        tape.watch(ones)
        products = linear_cost(alive, ones, None)
    return tf.cast(tape.gradient(products, ones) > 0, tf.float32)

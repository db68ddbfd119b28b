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
    linear_cost: Callable[..., Any], bits_x: Any, bits_kernel: Any, bits_bias: Any, kernel: Any, *, activated: bool = True
) -> Any:
    """LUTs of a linear map and its bias under distributed arithmetic (`hgq.resources.lut`): a float32 scalar.

    A formula for EBOPs sums ``bx * bw`` over all products, so with the price of a weight in place of its bits it sums prices.

    The value is the count, the gradient that of what is saved (`hgq.resources.lut.savings`). Digits are whole numbers and have no gradient:
    what a weight saves is taken to grow in proportion to its bits.

    Args:
        linear_cost: ``linear_cost(bits_x, bits_kernel, bits_bias)`` gives EBOPs.
        bits_x: Bits of the data.
        bits_kernel: Effective bits of the arranged kernel, the axis of the outputs last.
        bits_bias: Those of the bias, or None.
        kernel: The kernel, quantized.
        activated: Whether outputs go through an activation.
    """
    alive = tf.stop_gradient(tf.minimum(bits_x, 1.0))
    digits = ops.signed_digits(tf.stop_gradient(kernel)) * _used(linear_cost, alive, bits_kernel)
    flat = tf.reshape(digits, (-1, digits.shape[-1]))

    def summed(prices: lut.Prices, grows: Any, bias: float) -> Any:
        a_bit, a_value = (tf.reshape(tf.round(price / STEP) * STEP, digits.shape) * grows for price in prices)
        of_bias = None if bits_bias is None else round(bias / STEP) * STEP * bits_bias
        return linear_cost(bits_x, a_bit, of_bias) + linear_cost(alive, a_value, None)

    grows = tf.math.divide_no_nan(bits_kernel, tf.stop_gradient(bits_kernel))  # 1, with the gradient of the logarithm
    saved = summed(lut.savings(flat, tf.reduce_sum), grows, lut.FITTED.bias_saved)
    count = summed(lut.prices(flat, tf.reduce_sum, activated=activated), 1.0, lut.FITTED.bias)
    return saved + tf.stop_gradient(count - saved)


def _used(linear_cost: Callable[..., Any], alive: Any, kernel: Any) -> Any:
    """1 for each weight that meets data with bits, else 0: EBOPs are linear in the kernel, by how often each weight is used."""
    ones = tf.ones_like(kernel)
    with tf.GradientTape() as tape:
        tape.watch(ones)
        products = linear_cost(alive, ones, None)
    return tf.cast(tape.gradient(products, ones) > 0, tf.float32)

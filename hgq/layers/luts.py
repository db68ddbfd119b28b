"""Charging LUTs where a layer has formulas for EBOPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from hgq.quantizers import ops
from hgq.resources import lut


def luts_of_linear(linear_cost: Callable[..., Any], bits_x: Any, bits_kernel: Any, kernel: Any) -> Any:
    """LUTs of a linear map under distributed arithmetic (`hgq.resources.lut`): a float32 scalar.

    A formula for EBOPs sums ``bx * bw`` over all products, so with the price of a weight in place of its bits it sums prices. Digits are
    whole numbers and have no gradient: a weight's price is taken to grow in proportion to its bits.

    Args:
        linear_cost: ``linear_cost(bits_x, bits_kernel, None)`` gives EBOPs.
        bits_x: Bits of the data.
        bits_kernel: Effective bits of the arranged kernel, the axis of the outputs last.
        kernel: The kernel, quantized.
    """
    digits = ops.signed_digits(tf.stop_gradient(kernel))
    flat = tf.reshape(digits, (-1, digits.shape[-1]))
    grows = tf.math.divide_no_nan(bits_kernel, tf.stop_gradient(bits_kernel))  # 1, with the gradient of the logarithm
    a_bit, a_value = (tf.reshape(price, digits.shape) * grows for price in lut.prices(flat, tf.reduce_sum))
    return linear_cost(bits_x, a_bit, None) + linear_cost(tf.stop_gradient(tf.minimum(bits_x, 1.0)), a_value, None)

"""Powers of two near a number, from the bits of its exponent: no logarithm, no error at exact powers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any

LEAST = 2.0**-126
"""The least normal float32: processors that train flush what is smaller to 0."""


def usable(scale: Tensor) -> Tensor:
    """A scale that one can divide by: at least `LEAST`, also where all is 0. NaN if it is not finite, so that everything scaled is NaN."""
    return tf.where(scale < float("inf"), tf.where(scale > LEAST, scale, LEAST), float("nan"))


def power_from(x: Tensor) -> Tensor:
    """The least power of two that is not below positive `x`, float32; infinity and NaN stay."""
    power = tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32) + 0x007FFFFF, 0x7F800000), tf.float32)
    return tf.where(x < float("inf"), power, x)


def power_upto(x: Tensor) -> Tensor:
    """The greatest power of two that is not above positive `x`, float32."""
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), 0x7F800000), tf.float32)


def power_for(peak: Tensor, bits: int) -> Tensor:
    """The least power of two of which `peak`, float32, is at most ``2**(bits - 1) - 1``, `usable` as a scale."""
    room = (1 << 23 >> (bits - 2)) - 1  # between the mantissa of that and the next power of two
    up = tf.bitwise.right_shift(tf.bitcast(peak, tf.int32) + room, 23)
    scale = tf.bitcast(tf.bitwise.left_shift(tf.maximum(up - (bits - 2), 1), 23), tf.float32)
    return tf.where(peak < float("inf"), scale, float("nan"))

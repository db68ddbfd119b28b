"""Powers of two near a number, from the bits of its exponent: no logarithm, no error at exact powers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def power_from(x: Tensor) -> Tensor:
    """The least power of two that is not below positive `x`, float32."""
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32) + 0x007FFFFF, 0x7F800000), tf.float32)


def power_upto(x: Tensor) -> Tensor:
    """The greatest power of two that is not above positive `x`, float32."""
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), 0x7F800000), tf.float32)

"""How many bits data or constants take: the range half of a quantizer that follows its values."""

from __future__ import annotations

import tensorflow as tf

from hgq.quantizers import ops
from hgq.quantizers.ops import Tensor

HIGHEST = 60.0
"""Most integer bits that any bound may allow; beyond, float32 would run out of exponents."""


def needed(x: Tensor, width: Tensor, *, fixed_fraction: bool, rounding: str, shared: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Sign and integer bits that `x` takes once it is rounded, per group of elements that share them.

    Rounding keeps order, so the ends of the range tell all, and no pass over rounded data is made.

    Args:
        x: Values.
        width: f if `fixed_fraction`, else ``b = i + f``.
        fixed_fraction: Whether f is given, or follows from i.
        rounding: One of `hgq.numerics.ROUNDINGS`; ``S_RND`` is taken at its worst on either side.
        shared: Axes of `x` over which bits are shared.

    Returns:
        k and i, of the shape of `width`; i is very low for a group of zeros.
    """
    x, width = tf.stop_gradient(x), tf.stop_gradient(width)
    ends = [tf.reduce_min(x, shared, keepdims=True), tf.reduce_max(x, shared, keepdims=True)] if shared else [x]

    def rounded(f):
        scale, step = ops.exp2(f), ops.exp2(-f)
        if rounding == "S_RND":
            ways = [tf.floor(ends[0] * scale), tf.math.ceil(ends[-1] * scale)]
        else:
            ways = [ops.round_to_integer(end, scale, rounding) for end in ends]
        return [way * step for way in ways]

    def bits(values):
        return tf.maximum(ops.integer_bits(values[0]), ops.integer_bits(values[-1])) if len(values) > 1 else ops.integer_bits(values[0])

    if fixed_fraction:
        values = rounded(width)
        i = bits(values)
    else:  # f depends on i: rounding can carry into one more integer bit, after which it cannot carry again
        i = tf.maximum(bits(ends), -HIGHEST)
        i = tf.maximum(i, bits(rounded(width - i)))
        values = rounded(width - i)
    return tf.cast(values[0] < 0, tf.float32), i

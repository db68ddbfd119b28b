"""The TensorFlow ops of fixed-point training: exact float32 arithmetic forward, surrogate gradients backward.

`fixed_quantize` is one `tf.custom_gradient`: the backward pass yields the gradients of the data and of both bitwidths together, already
summed over the axes that share a bitwidth. Everything compiles under XLA, and gives the same bits there.

Powers of two are assembled from exponent bits, never by ``pow``, which is off by an ulp on some machines. All results are exact as long as
``i + f <= SIGNIFICANT``, and equal those of `hgq.numerics`, against which they are tested.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

LN2 = math.log(2.0)

SIGNIFICANT = 24
"""Widest magnitude, in bits, whose every mantissa float32 can hold."""

NO_BITS = -126.0
"""What `integer_bits` answers for zero: fewer bits than any format has."""

Tensor = Any  # tf.Tensor is no useful static type: TensorFlow ships no stubs


def exp2(n: Tensor) -> Tensor:
    """Exact ``2**n`` for float32 `n` that holds integers from -126 to 127."""
    return tf.bitcast(tf.cast((n + 127.0) * float(1 << 23), tf.int32), tf.float32)


def integer_bits(q: Tensor) -> Tensor:
    """Fewest integer bits ``i`` such that ``-2**i <= q < 2**i``; `NO_BITS` for 0.

    Both signs are exact: -4 needs two bits, +4 three. That is one exponent, of the magnitude, or of the next smaller number if negative.
    """
    pattern = tf.bitcast(tf.abs(q), tf.int32) - tf.cast(q < 0, tf.int32)
    return tf.cast(tf.bitwise.right_shift(pattern, 23) - 126, tf.float32)


def significant_bits(q: Tensor) -> Tensor:
    """Bits from the leading to the trailing significant bit of every constant, sign included: ``Fixed.minimal(m, f).width``, exactly.

    A float32 holds its number as a 24-bit significand; without its trailing zeros that is the odd part. A negative number costs one bit
    more, except a power of two: -1, -2, -4 … are the sign bit alone.
    """
    significand = _significand(q)
    lowest = tf.cast(tf.bitwise.bitwise_and(significand, -significand), tf.float32)
    width = float(SIGNIFICANT + 1) - integer_bits(lowest)
    width = width + tf.cast((q < 0) & (width > 1.0), tf.float32)
    return tf.where(q == 0, 0.0, width)


def signed_digits(q: Tensor) -> Tensor:
    """Digits of every constant in canonical signed-digit form (Reitwiesner 1960): additions and subtractions of shifted data, plus one.

    The digits of ``3 n`` and ``n`` differ, in binary, just where ``n`` has a signed digit.
    """
    significand = _significand(q)
    digits = tf.raw_ops.PopulationCount(x=tf.bitwise.bitwise_xor(significand, 3 * significand))
    return tf.where(q == 0, 0.0, tf.cast(digits, tf.float32))


def _significand(q: Tensor) -> Tensor:
    """Of a float32 that is not 0: 24 bits, int32, without sign and exponent."""
    return tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(tf.bitcast(q, tf.int32), (1 << 23) - 1), 1 << 23)


@tf.custom_gradient
def ste_round(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes straight through.

    Not ``x + stop_gradient(round(x) - x)``: TensorFlow's graph optimizer moves constants added next into that sum, where they round.
    """
    return tf.round(x), lambda upstream: upstream


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` itself, but its gradient times `factor`."""
    if factor == 1.0:
        return x
    still = tf.stop_gradient(x)
    return still + (x - still) * factor


def round_to_integer(x: Tensor, scale: Tensor, rounding: str, seed: Tensor | None = None) -> Tensor:
    """``x * scale``, a power of two, rounded by one of `hgq.numerics.ROUNDINGS`; ``S_RND`` without a seed rounds as ``RND``.

    For RND ``floor(u + 0.5)`` would be wrong just below one half and, for want of bits, from 2**23 on. ``ceil(floor(2 u) / 2)`` is exact.
    """
    if rounding == "RND_CONV":
        return tf.round(x * scale)
    if rounding == "TRN":
        return tf.floor(x * scale)
    if rounding == "S_RND" and seed is not None:
        u = x * scale
        whole = tf.floor(u)
        dice = tf.random.stateless_uniform(tf.shape(u), seed, alg="philox")
        return whole + tf.cast(u - whole > dice, tf.float32)
    return tf.math.ceil(tf.floor(x * (scale + scale)) * 0.5)


def _wrap(u: Tensor, k: Tensor, n: Tensor, mirror: bool) -> Tensor:
    """Bring integers `u` into the range of `n` magnitude bits and `k` sign bits: modulo, or mirrored at both ends.

    Remainders are taken around zero wherever they may be negative, so that each subtraction is exact, also with all 24 bits in use.
    """
    top = exp2(n)
    period = n + k + (1.0 if mirror else 0.0)
    turns = u * exp2(-period)
    whole = tf.floor(turns)
    nearer = tf.cast(turns - whole >= 0.5, tf.float32)
    y = u - exp2(period) * (whole + (nearer if mirror else k * nearer))
    if not mirror:
        return y
    signed = tf.maximum(tf.minimum(y, 2.0 * top - y - 1.0), -2.0 * top - y - 1.0)
    return tf.where(k > 0, signed, tf.maximum(y, -1.0 - y))


def dead(k: Tensor, i: Tensor, f: Tensor, overflow: str) -> Tensor:
    """Where a format can hold nothing but 0. A symmetric range gives up -2**i, so its sign bit alone holds nothing either."""
    return (i + f if overflow == "SAT_SYM" else k + i + f) <= 0


def fixed_quantize(
    x: Tensor, k: Tensor, i: Tensor, f: Tensor, *, rounding: str, overflow: str, wrap: bool = True, seed: Tensor | None = None
) -> Tensor:
    """Quantize `x` to ``Fixed(k, i, f)`` with the surrogate gradients of HGQ (arXiv:2405.00645).

    Args:
        x: Data, float32.
        k: Sign bits, float32 that holds integers, of the rank of `x`, size 1 on every axis that shares them.
        i: Integer bits, likewise.
        f: Fractional bits, likewise.
        rounding: One of `hgq.numerics.ROUNDINGS`.
        overflow: One of `hgq.numerics.OVERFLOWS`.
        wrap: Whether ``WRAP`` and ``WRAP_SM`` wrap. Training, where the range follows the data, only rounds.
        seed: Two integers: the random bits of ``S_RND``. Without it ``S_RND`` rounds as ``RND``.

    Returns:
        q, of the shape of `x`. With ``e = max(i, -f)``, its gradients are

        =============  =====  =================  ================================================
        x              dq/dx  dq/di              dq/df
        =============  =====  =================  ================================================
        in range       1      0                  ln2 (x - q)
        above          0      ln2 2**e           ln2 2**-f
        below          0      -k ln2 2**e        -k ln2 2**-f for SAT_SYM, 0 for SAT
        =============  =====  =================  ================================================

        WRAP and WRAP_SM are in range everywhere. A format without bits has the range [0, 0] and the same formulas: a dead element's bits
        still feel the task, and can grow back.
    """
    saturates = overflow in ("SAT", "SAT_SYM")
    shared = [axis for axis, size in enumerate(f.shape) if size == 1]

    def total(t):
        return tf.reduce_sum(t, axis=shared, keepdims=True) if shared else t

    @tf.custom_gradient
    def op(x, i, f):
        scale, top = exp2(f), exp2(tf.maximum(i, -f))
        step = exp2(-f)  # not 1 / scale: compiled graphs turn that into an approximate reciprocal, wrong in the last bit
        y = low = high = x
        if saturates:
            high = top - step  # zero where nothing fits
            low = -k * (high if overflow == "SAT_SYM" else tf.where(i + f < 0, 0.0, top))
            y = tf.clip_by_value(x, low, high)
        u = round_to_integer(y, scale, rounding, seed)
        q = y_grid = u * step
        if not saturates and wrap:
            q = tf.where(dead(k, i, f, overflow), 0.0, _wrap(u, k, i + f, mirror=overflow == "WRAP_SM") * step)

        def gradient(upstream):
            d_f = total(upstream * (y - y_grid))  # clipped ends lie on the grid: no term from them
            if not saturates:
                return upstream, tf.zeros_like(i), LN2 * d_f
            above, below = x > high, x < low
            d_above = total(tf.where(above, upstream, 0.0))
            d_below = k * total(tf.where(below, upstream, 0.0))
            d_f += step * (d_above - d_below if overflow == "SAT_SYM" else d_above)
            return tf.where(above | below, 0.0, upstream), LN2 * top * (d_above - d_below), LN2 * d_f

        return q, gradient

    return op(x, i, f)

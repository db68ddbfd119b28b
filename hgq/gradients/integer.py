"""Gradients as integers of a common scale: what LUQ is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hgq import native
from hgq.errors import ConfigError
from hgq.gradients import random
from hgq.gradients.base import GradientQuantizer, register
from hgq.gradients.powers import usable

Tensor = Any


@register("int4")
@register("int4_rn", stochastic=False)
@register("int3", bits=3)
@register("int3_rn", bits=3, stochastic=False)
@register("int2", bits=2)
@register("int2_rn", bits=2, stochastic=False)
@register("int8", bits=8)
@dataclass(frozen=True)
class IntegerGradient(GradientQuantizer):
    """Multiples of ``max|g| / (2**(bits - 1) - 1)``, symmetric.

    Args:
        bits: Of a gradient, sign included.
        stochastic: Round at random (unbiased), or to the nearest.
    """

    bits: int = 4
    stochastic: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ConfigError("An integer gradient cannot have these bits.", expected="an integer from 2 to 16", received=repr(self.bits))

    def quantize(self, g: Tensor, seed: Tensor) -> Tensor:
        ops = native.ops_for(g)
        if ops is not None:
            return ops.hgqc_integer(g, seed, bits=self.bits, stochastic=self.stochastic)
        codes, scale = integer_codes(g, self.bits, seed if self.stochastic else None)
        return codes * scale

    @property
    def greatest_code(self) -> int | None:
        return 2 ** (self.bits - 1) - 1

    def codes(self, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        ops = native.ops_for(g)
        if ops is not None:
            return tuple(ops.hgqc_integer_codes(g, seed, bits=self.bits, stochastic=self.stochastic))
        codes, scale = integer_codes(g, self.bits, seed if self.stochastic else None)
        scale = tf.reshape(scale, ())
        return tf.cast(tf.where(tf.math.is_finite(scale), codes, 0.0), tf.int8), scale


def integer_codes(g: Tensor, bits: int, seed: Tensor | None, axis: Any = None) -> tuple[Tensor, Tensor]:
    """Integers, as float32, and their scale.

    Args:
        g: What to quantize.
        bits: Of a code, sign included.
        seed: For stochastic rounding; None rounds to the nearest.
        axis: Over which axes the scale is shared; None: all.
    """
    highest = 2.0 ** (bits - 1) - 1
    peak = tf.reduce_max(tf.abs(g), axis=axis, keepdims=True)
    scale = usable(peak * (1 / highest))  # what graphs make of a division by a constant
    return rounded(g / scale, bits, seed), scale


def rounded(y: Tensor, bits: int, seed: Tensor | None) -> Tensor:
    """To integers that `bits` hold, symmetric, as float32: at random with the seed, else to the nearest."""
    highest, whole = 2.0 ** (bits - 1) - 1, tf.floor(y)
    codes = tf.round(y) if seed is None else whole + tf.cast(random.uniform(tf.shape(y), seed) < y - whole, tf.float32)
    return tf.clip_by_value(codes, -highest, highest)

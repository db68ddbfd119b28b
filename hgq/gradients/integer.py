"""Gradients as integers of a common scale: what LUQ is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import random
from hgq.gradients.base import GradientQuantizer, register

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
        codes, scale = integer_codes(g, self.bits, seed if self.stochastic else None)
        return codes * scale


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
    scale = tf.where(peak > 0, peak / highest, 1.0)
    y = g / scale
    whole = tf.floor(y)
    codes = tf.round(y) if seed is None else whole + tf.cast(random.uniform(tf.shape(g), seed) < y - whole, tf.float32)
    return tf.clip_by_value(codes, -highest, highest), scale

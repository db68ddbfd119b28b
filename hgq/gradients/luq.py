"""Logarithmic unbiased quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import random
from hgq.gradients.base import GradientQuantizer, register

Tensor = Any


@register("luq4", levels=7)
@register("luq3", levels=3)
@register("luq2", levels=1)
@register("luq")
@dataclass(frozen=True)
class LUQ(GradientQuantizer):
    """LUQ (Chmiel et al., arXiv:2112.10769): sign and power of two, rounded at random so that the mean is the gradient.

    With ``alpha = max|g| / 2**(levels - 1)`` the values are 0 and ``±alpha * 2**n`` for n from 0 to ``levels - 1``. Stochastic underflow
    (eq. 10) and logarithmic stochastic rounding (eq. 12) are together one stochastic rounding between neighbours on that grid; the
    greatest magnitude is on the grid (eq. 11), so nothing is clipped.

    Args:
        levels: Magnitudes other than 0. A 4-bit code [1, 3, 0] has 7 (15 codes in all): ``"luq4"``, the default. The paper's reference code
            has 8, hence 17 codes; eq. 11 as printed has 5. 3 fit into 3 bits, 1 into 2 bits.
        samples: Quantized gradients that are averaged (SMP); the variance is divided by it. The average is no 4-bit number: hardware runs
            that many products.
        granularity: What shares a scale: ``"tensor"``, as in the paper, or ``"row"`` (the last axis).
        unbiased_rounding: False rounds to the nearest on the logarithmic grid instead, with underflow to 0: a biased control.
    """

    levels: int = 7
    samples: int = 1
    granularity: str = "tensor"
    unbiased_rounding: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (("levels", 1, 127), ("samples", 1, 1024)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"LUQ cannot have these {name}.", expected=f"an integer from {low} to {high}", received=repr(value))
        if self.granularity not in ("tensor", "row"):
            raise ConfigError("Unknown granularity of LUQ's scale.", expected="'tensor' or 'row'", received=repr(self.granularity))

    def quantize(self, g: Tensor, seed: Tensor) -> Tensor:
        peak = tf.reduce_max(tf.abs(g), axis=-1 if self.granularity == "row" else None, keepdims=True)
        alpha = tf.where(peak > 0, peak * 2.0 ** -(self.levels - 1), 1.0)
        if not self.unbiased_rounding:
            return self._rounded(g, alpha, 0.5)
        total = self._rounded(g, alpha, random.uniform(tf.shape(g), seed))
        for sample in range(1, self.samples):
            total += self._rounded(g, alpha, random.uniform(tf.shape(g), random.derived(seed, 16 + sample)))
        return total / self.samples if self.samples > 1 else total

    def _rounded(self, g: Tensor, alpha: Tensor, dice: Tensor) -> Tensor:
        """Up where `dice` falls below the distance from the lower neighbour, in units of the gap.

        The neighbour below of a number is the number without its fraction bits: no logarithm, no error at exact powers.
        """
        y = tf.abs(g) / alpha
        pattern = tf.bitwise.bitwise_and(tf.bitcast(y, tf.int32), 0x7F800000)
        power = tf.bitcast(pattern, tf.float32)
        low = tf.where(y < 1.0, 0.0, power)
        gap = tf.where(y < 1.0, 1.0, power)
        up = tf.cast(dice < (y - low) / gap, tf.float32)
        return tf.sign(g) * tf.minimum(low + gap * up, 2.0 ** (self.levels - 1)) * alpha

"""Gradients in a tiny floating-point format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hgq.gradients import random
from hgq.gradients.base import GradientQuantizer, register

Tensor = Any

E2M1_HIGHEST = 6.0
"""Greatest value of the 4-bit float of the OCP microscaling standard: 0, 0.5, 1, 1.5, 2, 3, 4, 6."""


def e2m1(y: Tensor, dice: Tensor) -> Tensor:
    """Numbers of magnitude up to 6, rounded to E2M1: to the neighbour above where `dice` is below the distance from the one below."""
    magnitude = tf.abs(y)
    gap = tf.where(magnitude < 2.0, 0.5, tf.where(magnitude < 4.0, 1.0, 2.0))
    low = tf.floor(magnitude / gap) * gap
    rounded = low + gap * tf.cast(dice < (magnitude - low) / gap, tf.float32)
    return tf.sign(y) * tf.minimum(rounded, E2M1_HIGHEST)


@register("fp4")
@register("fp4_rn", stochastic=False)
@dataclass(frozen=True)
class FP4(GradientQuantizer):
    """Sign, two exponent bits and one mantissa bit (E2M1), with one scale for the tensor that brings its greatest magnitude to 6.

    Args:
        stochastic: Round at random (unbiased), or to the nearest.
    """

    stochastic: bool = True

    def quantize(self, g: Tensor, seed: Tensor) -> Tensor:
        peak = tf.reduce_max(tf.abs(g))
        scale = tf.where(peak > 0, peak / E2M1_HIGHEST, 1.0)
        return e2m1(g / scale, random.uniform(tf.shape(g), seed) if self.stochastic else tf.fill(tf.shape(g), 0.5)) * scale

"""Logarithmic unbiased quantization."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from hgq import native, replicas
from hgq.errors import ConfigError
from hgq.gradients import random
from hgq.gradients.base import GradientQuantizer, Linear, quantized_gradient, register
from hgq.gradients.powers import power_from, power_upto, usable

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
        scale: ``"max"``: the greatest magnitude of this gradient, which costs a pass over it before the first value can be quantized.
            ``"hindsight"`` (eq. 18): what the last steps lead one to expect, ``m <- momentum m + (1 - momentum) max|g|``, after the first
            step, which sees itself. Magnitudes above m become m: there, and only there, the gradient is biased, towards 0.
        momentum: Of that average; the paper's eta.
        power_of_two: Round alpha up to a power of two, so that all values are: products become shifts, at the price of up to a bit of
            range at the bottom. Nothing more is clipped.
    """

    levels: int = 7
    samples: int = 1
    granularity: str = "tensor"
    unbiased_rounding: bool = True
    scale: str = "max"
    momentum: float = 0.9
    power_of_two: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("levels", 1, 127), ("samples", 1, 1024)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"LUQ cannot have these {name}.", expected=f"an integer from {low} to {high}", received=repr(value))
        if self.granularity not in ("tensor", "row"):
            raise ConfigError("Unknown granularity of LUQ's scale.", expected="'tensor' or 'row'", received=repr(self.granularity))
        if self.scale not in ("max", "hindsight") or (self.scale == "hindsight" and self.granularity != "tensor"):
            raise ConfigError(
                "LUQ cannot take its scale from there.",
                expected="'max', or 'hindsight' with granularity='tensor': the rows of the next batch are others",
                received=f"scale={self.scale!r}, granularity={self.granularity!r}",
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError("LUQ cannot have this momentum.", expected="0 <= momentum < 1", received=repr(self.momentum))

    @property
    def remembers(self) -> bool:
        return self.scale == "hindsight"

    def product(self, linear: Linear, x: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        if not self.remembers:
            return super().product(linear, x, kernel, seed)
        return quantized_gradient(linear(x, kernel), partial(self._in_hindsight, memory=memory), seed)

    def _in_hindsight(self, g: Tensor, seed: Tensor, memory: Any) -> Tensor:
        (seen,) = replicas.greatest(tf.reduce_max(tf.abs(g)))
        expected = self._expected(seen, memory)
        if memory is not None:
            memory.assign(self.momentum * expected + (1 - self.momentum) * seen)
        return self.quantize(g, seed, expected)

    def read(self, g: Tensor, kernel: Tensor, seed: Tensor, memory: Any = None) -> Tensor:
        return self.quantize(g, seed, self._expected(tf.reduce_max(tf.abs(g)), memory) if self.remembers else None)

    def _expected(self, seen: Tensor, memory: Any) -> Tensor:
        """The greatest magnitude that the last steps lead one to expect; of a first step, its own, which is `seen`."""
        before = tf.zeros(()) if memory is None else tf.convert_to_tensor(memory)
        return tf.where(before > 0, before, seen)

    def limit(self, g: Tensor, memory: Any = None) -> Tensor:
        if not self.remembers:
            return super().limit(g)
        return self._alpha(self._expected(tf.reduce_max(tf.abs(g)), memory)) * 2.0 ** (self.levels - 1)

    def _peak(self, g: Tensor) -> Tensor:
        return tf.reduce_max(tf.abs(g), axis=-1 if self.granularity == "row" else None, keepdims=True)

    def _alpha(self, peak: Tensor) -> Tensor:
        alpha = usable(peak * 2.0 ** -(self.levels - 1))
        return power_from(alpha) if self.power_of_two else alpha

    def quantize(self, g: Tensor, seed: Tensor, peak: Tensor | None = None) -> Tensor:
        """The quantized gradient.

        Args:
            g: Gradient.
            seed: As in `Scheme.product`.
            peak: What the highest level is; None for the greatest magnitude of `g`.
        """
        ops = native.ops_for(g)
        if ops is not None and self.unbiased_rounding:
            own = peak is None and not self.power_of_two
            alpha = tf.zeros((0,)) if own else self._alpha(self._peak(g) if peak is None else peak)
            return ops.hgqc_luq(g, alpha, seed, levels=self.levels, samples=self.samples, rows=self.granularity == "row")
        alpha = self._alpha(self._peak(g) if peak is None else peak)
        if not self.unbiased_rounding:
            return self._rounded(g, alpha, 0.5)
        total = self._rounded(g, alpha, random.uniform(tf.shape(g), seed))
        for sample in range(1, self.samples):
            total += self._rounded(g, alpha, random.uniform(tf.shape(g), random.derived(seed, 16 + sample)))
        return total * (1 / self.samples) if self.samples > 1 else total  # what graphs make of a division by a constant

    def codes(self, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        ops = native.ops_for(g)
        if ops is not None:
            return tuple(ops.hgqc_luq_codes(g, seed, levels=self.levels))
        alpha = self._alpha(tf.reduce_max(tf.abs(g)))
        levels = self._levels(g, alpha, random.uniform(tf.shape(g), seed))
        return tf.cast(tf.where(tf.math.is_finite(alpha), levels, 0.0), tf.int8), alpha

    @property
    def greatest_code(self) -> int | None:
        plain = LUQ(self.levels, momentum=self.momentum)
        return 2 ** (self.levels - 1) if self == plain else None

    def _rounded(self, g: Tensor, alpha: Tensor, dice: Tensor) -> Tensor:
        return self._levels(g, alpha, dice) * alpha

    def _levels(self, g: Tensor, alpha: Tensor, dice: Tensor) -> Tensor:
        """In units of alpha. Up where `dice` falls below the distance from the lower neighbour, in units of the gap.

        The neighbour below of a number is the number without its fraction bits: no logarithm, no error at exact powers.
        """
        y = tf.abs(g) / alpha
        power = power_upto(y)
        low = tf.where(y < 1.0, 0.0, power)
        gap = tf.where(y < 1.0, 1.0, power)
        up = tf.cast(dice < (y - low) / gap, tf.float32)
        return tf.sign(g) * tf.minimum(low + gap * up, 2.0 ** (self.levels - 1))

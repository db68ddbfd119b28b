"""Four bits with a clip from two moments of the values: statistics-aware weight binning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq import replicas
from hgq.errors import ConfigError, FreezeError
from hgq.numerics import Fixed, Ints
from hgq.quantizers import ops
from hgq.quantizers.base import Quantizer, register_quantizer

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

COEFFICIENTS = {"sawb": (12.68, 12.80), "luq": (12.1, 12.2)}
"""c1 and c2 for 4 bits: of the paper on SAWB, and of LUQ's reference code."""
SIGNED, UNSIGNED = 7.0, 15.0
"""Greatest integer of four bits with and without a sign. -8 is left out: the range is symmetric."""


@register_quantizer("sawb4")
@keras.saving.register_keras_serializable(package="hgqc")
class SawbQuantizer(Quantizer):
    """Four bits, clipped where the values' moments say (SAWB, arXiv:1807.06964): the forward pass of LUQ (arXiv:2112.10769).

    With ``clip = c1 sqrt(E x**2) - c2 E|x|`` and ``s = clip / 7`` the numbers are ``s`` times the integers from -7 to 7, or ``clip / 15``
    times those from 0 to 15 for data that are never negative; to the nearest. Where clip is not positive, which happens where all
    magnitudes are nearly equal, it is ``max|x|``; for heavy tails it can lie above that. The moments of weights are those of the present
    values; of data they are moving averages, which training moves and uses, and inference uses as they are.

    By default s is rounded to the nearest power of two, which is exact in hardware. The gradient of x is passed on where x lies between the
    ends of the range, else 0. Nothing is trained.

    Args:
        coefficients: ``"sawb"``: 12.68 and 12.80, of the paper; ``"luq"``: 12.1 and 12.2, of LUQ's reference code.
        scale: ``"po2"``, or ``"real"``: as in both papers, for training only; it does not freeze.
        momentum: Of the moving averages.
        place: As in every `Quantizer`.
        granularity: What shares a scale. Left out: ``"tensor"``, as in the papers.

    Raises:
        ConfigError: an argument means nothing.
        FreezeError: when frozen, with a real scale.
    """

    default_granularity: ClassVar[dict[str, str]] = dict.fromkeys(Quantizer.default_granularity, "tensor")

    def __init__(
        self,
        *,
        coefficients: str = "sawb",
        scale: str = "po2",
        momentum: float = 0.9,
        place: str | None = None,
        granularity: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(place=place, granularity=granularity, **kwargs)
        for what, value, known in (("coefficients", coefficients, tuple(COEFFICIENTS)), ("scale", scale, ("po2", "real"))):
            if value not in known:
                raise ConfigError(
                    f"Unknown {what} of sawb4.",
                    where=f"quantizer {self.name}",
                    expected=" or ".join(map(repr, known)),
                    received=repr(value),
                )
        if not 0 <= momentum < 1:
            raise ConfigError("Not a momentum.", where=f"quantizer {self.name}", expected="0 <= momentum < 1", received=repr(momentum))
        self.coefficients, self.scale, self.momentum = coefficients, scale, float(momentum)

    def _create(self, constant) -> None:
        if self.constant:
            return

        def state(name: str):
            return self.add_weight(name=name, shape=self._widths, initializer="zeros", dtype="float32", trainable=False)

        self._square, self._magnitude, self._highest = state("mean_square"), state("mean_magnitude"), state("highest")
        self._sign = state("sign")
        self._seen = self.add_weight(name="seen", shape=(), initializer="zeros", dtype="float32", trainable=False)

    # ---- the scale ----------------------------------------

    def _moments(self, x):
        """Mean square, mean magnitude, greatest magnitude and whether anything is negative, each of the shape of the scales.

        In float64: a compiler may add in another order, and a scale at the border between two powers must not depend on that.
        """
        x = tf.cast(tf.stop_gradient(x), tf.float64)
        shared = list(self._shared_axes(len(x.shape)))
        return (
            tf.reduce_mean(x * x, shared, keepdims=True),
            tf.reduce_mean(tf.abs(x), shared, keepdims=True),
            tf.reduce_max(tf.abs(x), shared, keepdims=True),
            tf.cast(tf.reduce_any(x < 0, shared, keepdims=True), tf.float64),
        )

    def _follow(self, x) -> None:
        """Move the averages; the first batch sets them."""
        square, magnitude, highest, sign = (tf.cast(part, tf.float32) for part in self._moments(x))
        if not self.looped:
            square, magnitude, (highest, sign) = replicas.mean(square), replicas.mean(magnitude), replicas.greatest(highest, sign)
        kept = self.momentum * tf.convert_to_tensor(self._seen)
        for variable, new in ((self._square, square), (self._magnitude, magnitude), (self._highest, highest)):
            variable.assign(kept * tf.convert_to_tensor(variable) + (1.0 - kept) * new)
        self._sign.assign(tf.maximum(tf.convert_to_tensor(self._sign), sign))
        self._seen.assign(1.0)

    def agree(self) -> None:
        """Have all replicas take the same averages, after a loop in which each followed its own data."""
        if not self.constant and replicas.count() > 1:
            for variable in (self._square, self._magnitude):
                variable.assign(replicas.mean(tf.convert_to_tensor(variable)))
            highest, sign = replicas.greatest(tf.convert_to_tensor(self._highest), tf.convert_to_tensor(self._sign))
            self._highest.assign(highest)
            self._sign.assign(sign)

    def _steps(self, x):
        """The scale, its inverse, and the ends of the range in units of the scale."""
        if self.constant:
            square, magnitude, highest, _ = self._moments(x)
            sign = tf.ones_like(square)
        else:
            stored = (self._square, self._magnitude, self._highest, self._sign)
            square, magnitude, highest, sign = (tf.cast(tf.convert_to_tensor(part), tf.float64) for part in stored)
        c1, c2 = COEFFICIENTS[self.coefficients]
        clip = c1 * tf.sqrt(square) - c2 * magnitude
        clip = tf.where(clip > 0, clip, highest)
        top = tf.where(sign > 0, tf.constant(SIGNED, tf.float64), UNSIGNED)
        scale = tf.where(clip > 0, clip / top, 1.0)
        if self.scale == "po2":
            exponent = tf.round(tf.math.log(scale) * (1.0 / ops.LN2))
            exponent = tf.cast(tf.clip_by_value(exponent, -60.0, 60.0), tf.float32)
            scale, inverse = ops.exp2(exponent), ops.exp2(-exponent)  # no quotient: compiled graphs have approximate ones
        else:
            scale, inverse = tf.cast(scale, tf.float32), tf.cast(1.0 / scale, tf.float32)
        return scale, inverse, tf.cast(-top * sign, tf.float32), tf.cast(top, tf.float32)

    # ---- forward ----------------------------------------

    def call(self, inputs, training=None):
        """Quantize; in training, first move the averages of data."""
        x = tf.cast(tf.convert_to_tensor(inputs), tf.float32)
        if training and not self.constant:
            self._follow(x)
        scale, inverse, low, high = self._steps(x)

        @tf.custom_gradient
        def quantized(x):
            y = x * inverse
            inside = (y >= low) & (y <= high)
            return _nearest(tf.clip_by_value(y, low, high)) * scale, lambda g: tf.where(inside, g, 0.0)

        return quantized(x)

    # ---- bits ----------------------------------------

    def bits(self, shape: tuple[int, ...]):
        """Four."""
        return tf.fill(shape, 4.0)

    def effective_bits(self, constant):
        """Those of the integers; they have no gradient."""
        x = tf.stop_gradient(tf.cast(tf.convert_to_tensor(constant), tf.float32))
        _, inverse, low, high = self._steps(x)
        return ops.significant_bits(_nearest(tf.clip_by_value(x * inverse, low, high)))

    def format(self, constant=None) -> Fixed:
        """``Fixed(1, e + 3, -e)`` or ``Fixed(0, e + 4, -e)`` for a scale of ``2**e``."""
        self._refuse_real()
        scale, _, low, _ = (np.asarray(part) for part in self._steps(None))
        e, k = np.log2(scale).astype(np.int64)[0], (low < 0).astype(np.int64)[0]
        return Fixed(k, e + 4 - k, -e)

    def quantized_constant(self, w) -> tuple[Ints, Fixed]:
        self._refuse_real()
        return super().quantized_constant(w)

    def to_ir(self, b: GraphBuilder, x: Ref, name: str) -> Ref:
        """Rounding and saturation: one node."""
        fixed = self.format().broadcast_to(tuple(x.shape))
        return b.quantize(x, fixed, "RND", "SAT_SYM", name=name)

    def _refuse_real(self) -> None:
        if self.scale == "real":
            raise FreezeError(
                "A real scale is no fixed-point number: hardware would multiply where it can shift.",
                where=f"quantizer {self.path}",
                expected='sawb4 with scale="po2", the default',
                received='scale="real"',
                fix='Train with scale="po2": the nearest power of two is at most a factor of 1.42 away.',
            )

    # ---- configuration ----------------------------------------

    def get_config(self) -> dict:
        return {**super().get_config(), "coefficients": self.coefficients, "scale": self.scale, "momentum": self.momentum}


def _nearest(y):
    """Halves up, as RND; exact for integers of four bits."""
    return ops.round_to_integer(y, tf.constant(1.0), "RND")

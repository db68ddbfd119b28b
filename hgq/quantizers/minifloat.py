"""Small floating-point numbers as weights, with a trained number of mantissa bits, of exponents, and of the largest one."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq.quantizers import ops
from hgq.quantizers.arguments import checked_bounds
from hgq.quantizers.base import Quantizer, register_quantizer
from hgq.quantizers.places import Bounds


@register_quantizer("minifloat")
@keras.saving.register_keras_serializable(package="hgqc")
class MinifloatQuantizer(Quantizer):
    """The nearest of ``+-(1 + j 2**-m) 2**n`` and, below, of the subnormal ``+-j 2**(n_low - m)``.

    Ties go to the even j; between two powers (m = 0) up.

    ``n`` runs from ``n_low = e0 + 2 - 2**e`` to ``e0``: a float with m bits of mantissa, a field of e bits for the exponent whose code 0
    marks the subnormal, as in FP8 (arXiv:2209.05433), but with no code for infinity or NaN. The largest number is
    ``(2 - 2**-m) 2**e0``, to which larger ones saturate. With ``m = -1`` even the leading one is gone: the number is 0.
    E4M3 is about ``minifloat(m=3, e=4, e0=8)``, E2M1 (FP4) is ``minifloat(m=1, e=2, e0=2)``.

    All three are trained. With ``q(x) - x`` an error that, like that of a fixed-point number, halves with each bit of mantissa (the
    surrogate of HGQ, arXiv:2405.00645)::

        normal      dq/dx = 1   dq/dm = ln2 (x - q)   dq/de0 = 0               dq/de = 0
        subnormal   dq/dx = 1   dq/dm = ln2 (x - q)   dq/de0 = -ln2 (x - q)    dq/de = ln2 2**e ln2 (x - q)
        above       dq/dx = 0   dq/dm = ln2 2**(e0 - m) sign(x)                dq/de0 = ln2 (2 - 2**-m) 2**e0 sign(x), dq/de = 0

    Firmware multiplies with a constant, so only its significant bits count: from the leading to the trailing one, sign included. Their
    gradient goes to m where a weight is not 0. Data would need a shifter for every element; for them there are fixed-point quantizers.

    Args:
        m: Initial mantissa bits, the leading one not counted.
        e: Initial exponent bits.
        e0: Initial largest exponent. None: that of the largest magnitude of each group; 0 where there is none.
        m_bounds: Where m is kept.
        e_bounds: Where e is kept.
        e0_bounds: Where e0 is kept.
        place: As in every `Quantizer`.
        granularity: What shares m, e and e0.
    """

    places: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        m: float = 3,
        e: float = 3,
        e0: float | None = None,
        *,
        m_bounds: Bounds = (-1.0, 10.0),
        e_bounds: Bounds = (1.0, 5.0),
        e0_bounds: Bounds = (-24.0, 24.0),
        place: str | None = None,
        granularity: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(place=place, granularity=granularity, **kwargs)
        self.m, self.e, self.e0 = float(m), float(e), None if e0 is None else float(e0)
        self.m_bounds = checked_bounds(m_bounds, "m_bounds", self, -1.0, 22.0)
        self.e_bounds = checked_bounds(e_bounds, "e_bounds", self, 1.0, 6.0)
        self.e0_bounds = checked_bounds(e0_bounds, "e0_bounds", self, -32.0, 32.0)

    def _create(self, constant) -> None:
        e0 = self.e0 or 0.0
        if self.e0 is None and constant is not None:
            largest = np.abs(np.asarray(constant, np.float64))
            if shared := self._shared_axes(largest.ndim):
                largest = largest.max(axis=shared, keepdims=True)
            e0 = np.where(largest > 0, np.frexp(largest)[1] - 1, 0)
        self._m = self._trained("m", self.m, self.m_bounds)
        self._e = self._trained("e", self.e, self.e_bounds)
        self._e0 = self._trained("e0", e0, self.e0_bounds)

    def call(self, inputs, training=None):
        """Quantize; training and inference are the same."""
        shared = [axis for axis, size in enumerate(self._widths) if size == 1]

        def total(t):
            return tf.reduce_sum(t, axis=shared, keepdims=True) if shared else t

        @tf.custom_gradient
        def minifloat(x, m, e, e0):
            exponents = ops.exp2(e)
            lowest = e0 + 2.0 - exponents
            top = (2.0 - ops.exp2(-m)) * ops.exp2(e0)
            y = tf.clip_by_value(x, -top, top)
            binade = ops.integer_bits(tf.abs(y)) - 1.0
            f = m - tf.maximum(binade, lowest)
            q = ops.round_to_integer(y, ops.exp2(f), "RND_CONV") * ops.exp2(-f)

            def gradient(upstream):
                above = tf.abs(x) > top
                error = ops.LN2 * tf.where(above, 0.0, upstream * (x - q))
                beyond = ops.LN2 * tf.where(above, upstream * tf.sign(x), 0.0)
                below = tf.where(binade < lowest, error, 0.0)
                return (
                    tf.where(above, 0.0, upstream),
                    total(error + beyond * ops.exp2(e0 - m)),
                    total(below * (ops.LN2 * exponents)),
                    total(beyond * top - below),
                )

            return q, gradient

        x = tf.cast(tf.convert_to_tensor(inputs), tf.float32)
        return minifloat(x, *(ops.ste_round(tf.convert_to_tensor(part)) for part in (self._m, self._e, self._e0)))

    def effective_bits(self, constant):
        """Bits of each weight from its leading to its trailing significant one, sign included. The gradient goes to m."""
        q = tf.stop_gradient(self(tf.convert_to_tensor(constant), training=False))
        m = ops.scale_gradient(tf.convert_to_tensor(self._m), self._share(q))
        return ops.significant_bits(q) + tf.where(q == 0, 0.0, m - tf.stop_gradient(m))

    def get_config(self) -> dict:
        numbers = {name: getattr(self, name) for name in ("m", "e", "e0", "m_bounds", "e_bounds", "e0_bounds")}
        return {**super().get_config(), **numbers}


@register_quantizer("po2")
@keras.saving.register_keras_serializable(package="hgqc")
class PowerOfTwoQuantizer(MinifloatQuantizer):
    """Powers of two and 0 (as in arXiv:1603.01025 and arXiv:1702.03044): `MinifloatQuantizer` with no mantissa.

    The nearest one is taken, not that of the nearest logarithm: 1.5 is the border between 1 and 2 (to 2, the tie). A product is a shift,
    and counts as one effective bit. m can be trained from 0 to -1, where the weight vanishes.

    Args:
        e: Initial exponent bits: there are ``2**e - 1`` powers.
        e0: Initial largest exponent. None: that of the largest magnitude of each group.
        e_bounds: Where e is kept.
        e0_bounds: Where e0 is kept.
        place: As in every `Quantizer`.
        granularity: What shares e and e0.
    """

    def __init__(
        self,
        e: float = 3,
        e0: float | None = None,
        *,
        e_bounds: Bounds = (1.0, 5.0),
        e0_bounds: Bounds = (-24.0, 24.0),
        place: str | None = None,
        granularity: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            0, e, e0, m_bounds=(-1.0, 0.0), e_bounds=e_bounds, e0_bounds=e0_bounds, place=place, granularity=granularity, **kwargs
        )

    def get_config(self) -> dict:
        config = super().get_config()
        del config["m"], config["m_bounds"]
        return config

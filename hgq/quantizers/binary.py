"""Quantizers of one and two bits: numbers that are a power of two times -1 or 1, or times -1, 0 or 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq.numerics import Fixed
from hgq.quantizers import ops
from hgq.quantizers.arguments import checked_bounds
from hgq.quantizers.base import Quantizer, register_quantizer
from hgq.quantizers.places import Bounds

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

TWN_THRESHOLD = 0.7
"""Threshold over mean magnitude that is best for weights between a uniform and a normal distribution (arXiv:1605.04711, eq. 6)."""


class _Coded(Quantizer):
    """A code from a few integers times a scale ``s = 2**round(e)`` that is trained."""

    default_granularity: ClassVar[dict[str, str]] = {"weight": "channel", "bias": "element", "data": "tensor"}

    def __init__(
        self,
        *,
        e0: float | None = None,
        e_bounds: Bounds = (-24.0, 24.0),
        place: str | None = None,
        granularity: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(place=place, granularity=granularity, **kwargs)
        self.e0 = None if e0 is None else float(e0)
        self.e_bounds = checked_bounds(e_bounds, "e_bounds", self)

    def _magnitudes(self, constant) -> tuple[np.ndarray, tuple[int, ...]]:
        values = np.abs(np.asarray(constant, np.float64))
        return values, self._shared_axes(values.ndim)

    def _exponent(self):
        return ops.ste_round(tf.convert_to_tensor(self._e))

    def bits(self, shape: tuple[int, ...]):
        """Two bits an element: the format that holds -1 and 1."""
        return tf.fill(shape, 2.0)

    def format(self, constant=None) -> Fixed:
        """``Fixed(1, e + 1, -e)``."""
        e = np.rint(np.asarray(self._e)).astype(np.int64)[0]
        return Fixed(1, e + 1, -e)

    def get_config(self) -> dict:
        return {**super().get_config(), "e0": self.e0, "e_bounds": self.e_bounds}


@register_quantizer("binary")
@keras.saving.register_keras_serializable(package="hgqc")
class BinaryQuantizer(_Coded):
    """``q = s`` where ``x >= 0``, else ``-s``, with a trained power of two ``s = 2**round(e)``.

    Gradients: ``dq/de = ln2 q``, which is exact for a given code (as in TTQ, arXiv:1612.01064, eq. 7). ``dq/dx = 1`` for weights
    (BinaryConnect, arXiv:1511.00363; give the kernel a constraint to clip it as there), and for data ``1`` where ``|x| <= s``, else 0
    (BNN, arXiv:1602.02830, eq. 4).

    A weight costs one effective bit: hardware adds or subtracts. Of data each element is one wire, but counts as two bits in products,
    like any number whose format holds -1 and 1, and one EBOP more for becoming that number.

    Args:
        e0: Initial exponent of the scale. None: for weights the nearest to the best scale, their mean magnitude (XNOR-Net,
            arXiv:1603.05279, eq. 6); else 0.
        e_bounds: Where e is kept; ``(0, 0)`` with ``e0=0`` for plain -1 and 1.
        place: As in every `Quantizer`.
        granularity: What shares a scale. Left out: ``"channel"`` for weights, ``"tensor"`` for data.
    """

    def _create(self, constant) -> None:
        initial = self.e0 or 0.0
        if self.e0 is None and constant is not None and self.constant:
            magnitudes, shared = self._magnitudes(constant)
            mean = magnitudes.mean(axis=shared, keepdims=True)
            initial = np.log2(np.where(mean > 0, mean, 1.0))
        self._e = self._trained("e", initial, self.e_bounds)

    def call(self, inputs, training=None):
        """Quantize; training and inference are the same."""
        windowed, e = not self.constant, self._exponent()
        shared = [axis for axis, size in enumerate(self._widths) if size == 1]

        @tf.custom_gradient
        def binary(x, e):
            s = ops.exp2(e)
            q = tf.where(x >= 0, s, -s)

            def gradient(upstream):
                d_x = tf.where(tf.abs(x) <= s, upstream, 0.0) if windowed else upstream
                return d_x, ops.LN2 * tf.reduce_sum(upstream * q, axis=shared, keepdims=True) if shared else ops.LN2 * upstream * q

            return q, gradient

        return binary(tf.cast(tf.convert_to_tensor(inputs), tf.float32), e)

    def cost(self):
        """One EBOP an element of data: the constant that makes -1 and 1 of one bit."""
        return tf.constant(float(math.prod(size or 1 for size in self._shape[1:])))

    def to_ir(self, b: GraphBuilder, x: Ref, name: str) -> Ref:
        """One bit that is -2 s where x is negative, plus s."""
        fixed = self.format().broadcast_to(tuple(x.shape))
        sign = b.quantize(x, Fixed(1, fixed.i, -fixed.i), "TRN", "SAT", name=name)
        return b.op("add", sign, b.constant(np.ones(x.shape, np.int64), fixed, name=f"{name}_scale"), name=f"{name}_value")


@register_quantizer("ternary")
@keras.saving.register_keras_serializable(package="hgqc")
class TernaryQuantizer(_Coded):
    """``q = s sign(x)`` where ``|x|`` reaches the threshold ``t s``, else 0, with a trained power of two ``s = 2**round(e)``.

    Of weights t is trained too; of data it is 1/2 (where positive ``x`` must reach it, and negative ``x`` pass it), which is rounding.

    Gradients: ``dq/de = ln2 q``, exact for a given code (TTQ, arXiv:1612.01064, eq. 7). ``dq/dx = 1`` for weights (TWN,
    arXiv:1605.04711, section 2.3), and for data ``1`` where ``|x| <= 3/2 s``, else 0. That treats a step of height s as a ramp of width s;
    the same ramp gives ``dq/dt = -s sign(x)``, and for the bits ``-1``, where ``||x| - t s| <= s / 2``, else 0: the cost can raise t and
    so make more weights 0.

    Args:
        e0: Initial exponent of the scale. None: for weights the nearest to the mean of those above TWN's threshold; else 0.
        t0: Initial threshold over scale. None: for weights that of TWN, 0.7 of their mean magnitude; else 1/2. Weights only.
        e_bounds: Where e is kept.
        t_bounds: Where t is kept.
        place: As in every `Quantizer`.
        granularity: What shares scale and threshold. Left out: ``"channel"`` for weights, ``"tensor"`` for data.
    """

    def __init__(
        self,
        *,
        e0: float | None = None,
        t0: float | None = None,
        e_bounds: Bounds = (-24.0, 24.0),
        t_bounds: Bounds = (0.0, 2.0),
        place: str | None = None,
        granularity: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(e0=e0, e_bounds=e_bounds, place=place, granularity=granularity, **kwargs)
        self.t0 = None if t0 is None else float(t0)
        self.t_bounds = checked_bounds(t_bounds, "t_bounds", self, 0.0)

    def _create(self, constant) -> None:
        e, t = self.e0 or 0.0, 0.5 if self.t0 is None else self.t0
        if constant is not None and self.constant:
            magnitudes, shared = self._magnitudes(constant)
            threshold = TWN_THRESHOLD * magnitudes.mean(axis=shared, keepdims=True)
            kept = magnitudes >= threshold
            scale = (magnitudes * kept).sum(axis=shared, keepdims=True) / np.maximum(kept.sum(axis=shared, keepdims=True), 1)
            if self.e0 is None:
                e = np.log2(np.where(scale > 0, scale, 1.0))
            if self.t0 is None:
                t = np.where(threshold > 0, threshold / np.exp2(np.rint(e)), 0.5)
        self._e = self._trained("e", e, self.e_bounds)
        if self.constant:
            self._t = self._trained("t", t, self.t_bounds)

    def call(self, inputs, training=None):
        """Quantize; training and inference are the same."""
        x = tf.cast(tf.convert_to_tensor(inputs), tf.float32)
        return self._weights(x)[0] if self.constant else self._data(x)

    def _total(self, x):
        shared = [axis for axis, size in enumerate(self._widths) if size == 1]
        return tf.reduce_sum(x, axis=shared, keepdims=True) if shared else x

    def _data(self, x):
        @tf.custom_gradient
        def ternary(x, e):
            s = ops.exp2(e)
            half = 0.5 * s
            q = tf.where(x >= half, s, tf.where(x < -half, -s, 0.0))

            def gradient(upstream):
                return tf.where(tf.abs(x) <= s + half, upstream, 0.0), ops.LN2 * self._total(upstream * q)

            return q, gradient

        return ternary(x, self._exponent())

    def _weights(self, x):
        """The quantized weights and their bits."""

        @tf.custom_gradient
        def ternary(x, e, t):
            s = ops.exp2(e)
            kept = tf.abs(x) >= t * s
            q, sign = tf.where(kept, tf.where(x < 0, -s, s), 0.0), tf.where(x < 0, -1.0, 1.0)
            near = tf.abs(tf.abs(x) - t * s) <= 0.5 * s

            def gradient(d_q, d_bits):
                d_t = tf.where(near, -s * sign * d_q - self._share(x) * d_bits, 0.0)
                return d_q, ops.LN2 * self._total(d_q * q), self._total(d_t)

            return (q, tf.cast(kept, tf.float32)), gradient

        return ternary(x, self._exponent(), tf.convert_to_tensor(self._t))

    def effective_bits(self, constant):
        """One bit where the weight is not 0. The gradient goes to the thresholds."""
        return self._weights(tf.stop_gradient(tf.convert_to_tensor(constant)))[1]

    def to_ir(self, b: GraphBuilder, x: Ref, name: str) -> Ref:
        """Rounding, saturated to -s, 0 and s."""
        # halves go up under RND, and so -1/2 goes to 0
        return b.quantize(x, self.format().broadcast_to(tuple(x.shape)), "RND", "SAT_SYM", name=name)

    def get_config(self) -> dict:
        return {**super().get_config(), "t0": self.t0, "t_bounds": self.t_bounds}

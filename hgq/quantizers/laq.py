"""Weights of one and two bits whose scale minimises the error that the loss feels."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError, FreezeError
from hgq.numerics import Fixed, Ints
from hgq.quantizers import ops
from hgq.quantizers.base import Quantizer, register_quantizer

EXPONENTS = (-24.0, 24.0)
"""Of scales that are powers of two."""
ITERATIONS = 10
"""Of the alternation, whose error falls quickly; each forward pass runs them all."""


def nearest_code(w: Any, scale: Any, bits: int) -> Any:
    """The level nearest to ``w / scale``: -1 or 1 with one bit, -1, 0 or 1 with two."""
    return tf.where(w < 0, -1.0, 1.0) if bits == 1 else tf.clip_by_value(tf.round(w / scale), -1.0, 1.0)


def loss_aware_scale(w: Any, d: Any, bits: int, axes: list[int], iterations: int = ITERATIONS) -> Any:
    """The scale s and codes b that lower ``sum of d (w - s b)**2``; returns s (LAQ, arXiv:1802.08635, section 3.2, algorithm 2).

    One bit has a closed form, ``sum of d |w| / sum of d``. With two, scale and codes take turns, each the best for the other, so that the
    error never rises. A group of zeros has scale 1.

    Args:
        w: Weights.
        d: Their curvatures, positive; weights alike where they are equal.
        bits: 1 or 2.
        axes: What shares a scale.
        iterations: Of the alternation.
    """

    def total(x):
        return tf.reduce_sum(x, axis=axes, keepdims=True)

    magnitude = total(d * tf.abs(w))
    scale = tf.where(magnitude > 0, magnitude / total(d), 1.0)
    for _ in range(iterations if bits > 1 else 0):
        code = nearest_code(w, scale, bits)
        above, below = total(d * code * w), total(d * code * code)
        scale = tf.where((above > 0) & (below > 0), above / tf.where(below > 0, below, 1.0), scale)
    return scale


@register_quantizer("laq")
@keras.saving.register_keras_serializable(package="hgqc")
class LAQQuantizer(Quantizer):
    """Loss-aware weights of one or two bits (LAQ, Hou and Kwok, arXiv:1802.08635; LAB, arXiv:1611.01600, for one bit).

    ``q = s b`` with codes b of -1 and 1 (one bit) or -1, 0 and 1 (two bits) and the scale s of `loss_aware_scale`, computed anew from the
    weights in each forward pass of training. The gradient passes as it is: ``dq/dw = 1``.

    The curvature of each weight is what training by the method ``"laq"`` or ``"zigzag"`` (`hgq.training`) hands over after each step, from
    the optimizer's second moments; without one of them all weights count alike.

    Args:
        code_bits: 1 or 2.
        power_of_two: Round the scale to the nearest power of two (and the codes with it): only then can the weights be frozen, since
            sums of multiples of any other number are not exact in float32.
        place: As in every `Quantizer`; weights only.
        granularity: What shares a scale. Left out: ``"channel"``.
    """

    places: ClassVar[tuple[str, ...]] = ("bias", "weight")
    default_granularity: ClassVar[dict[str, str]] = {"weight": "channel", "bias": "tensor", "data": "tensor"}

    def __init__(
        self, *, code_bits: int = 1, power_of_two: bool = True, place: str | None = None, granularity: str | None = None, **kwargs
    ) -> None:
        super().__init__(place=place, granularity=granularity, **kwargs)
        if code_bits not in (1, 2):
            raise ConfigError("LAQ weights have one or two bits.", where=self.name, expected="1 or 2", received=repr(code_bits))
        self.code_bits, self.power_of_two = code_bits, bool(power_of_two)

    def _create(self, constant) -> None:
        self.curvature = self.add_weight(name="curvature", shape=self._shape, initializer="ones", dtype="float32", trainable=False)
        self._scale = self.add_weight(name="scale", shape=self._widths, initializer="ones", dtype="float32", trainable=False)
        if constant is not None:
            self._scale.assign(self._best_scale(tf.convert_to_tensor(constant)))

    def _best_scale(self, w) -> Any:
        shared = [axis for axis, size in enumerate(self._widths) if size == 1]
        scale = loss_aware_scale(tf.stop_gradient(w), tf.convert_to_tensor(self.curvature), self.code_bits, shared)
        return ops.exp2(tf.clip_by_value(tf.round(tf.math.log(scale) / ops.LN2), *EXPONENTS)) if self.power_of_two else scale

    def call(self, inputs, training=None):
        """Quantize; training sets the scale first, and inference takes it as it is: codes are then exact wherever they are computed."""
        w = tf.cast(tf.convert_to_tensor(inputs), tf.float32)
        scale = tf.convert_to_tensor(self._scale)
        if training:
            scale = self._best_scale(w)
            self._scale.assign(scale)

        @tf.custom_gradient
        def quantized(w):
            return scale * nearest_code(w, scale, self.code_bits), lambda upstream: upstream

        return quantized(w)

    def quantized_constant(self, w) -> tuple[Ints, Fixed]:
        """As in every quantizer.

        Raises:
            FreezeError: the scale is no power of two.
        """
        if not self.power_of_two:
            raise FreezeError(
                "The scales of these weights are no powers of two, and so their sums are not exact.",
                where=f"quantizer {self.path}",
                expected="power_of_two=True",
                fix='Train with "laq", whose scales are powers of two, or keep this model for studies without firmware.',
            )
        return super().quantized_constant(np.asarray(w))

    def get_config(self) -> dict:
        return {**super().get_config(), "code_bits": self.code_bits, "power_of_two": self.power_of_two}

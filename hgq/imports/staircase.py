"""A function of one number with a few steps: activations of two, three, or a few values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.ir.integers import IntArray
from hgq.layers import QLayer
from hgq.numerics import Fixed

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QStaircase(QLayer):
    """``lowest + sum over k of heights[k] * [x >= thresholds[k]]``, element by element, exact.

    In hardware a comparison for each threshold: the sign of ``x - threshold``. The gradient passes straight through between the outermost
    thresholds, and half a step beyond them; elsewhere it is 0, as that of a saturating quantizer.

    Args:
        thresholds: Where it steps, ascending; numbers that float32 holds.
        heights: How high each step is, likewise.
        lowest: Its value below all thresholds.
        bits: Of the numbers that come in: a comparison costs as many EBOPs.
        beta: Loss per EBOP.

    Raises:
        ConfigError: no thresholds, or not one height for each.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        heights: Sequence[float],
        lowest: float = 0.0,
        *,
        bits: int = 16,
        beta: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.thresholds, self.heights = tuple(map(float, thresholds)), tuple(map(float, heights))
        self.lowest, self.bits = float(lowest), int(bits)
        if not self.thresholds or len(self.thresholds) != len(self.heights) or list(self.thresholds) != sorted(self.thresholds):
            raise ConfigError(
                "A staircase has one height for each of its ascending thresholds.",
                where=f"layer {self.name}",
                expected="two sequences of one length, the first sorted",
                received=f"thresholds={self.thresholds}, heights={self.heights}",
            )

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        margin = max(map(abs, self.heights)) / 2
        low, high = self.thresholds[0] - margin, self.thresholds[-1] + margin

        @tf.custom_gradient
        def staircase(x):
            y = tf.fill(tf.shape(x), tf.constant(self.lowest, tf.float32))
            for threshold, height in zip(self.thresholds, self.heights, strict=True):
                y = y + tf.where(x >= threshold, height, 0.0)
            return y, lambda upstream: tf.where((x >= low) & (x <= high), upstream, 0.0)

        return staircase(tf.convert_to_tensor(inputs))

    def cost(self):
        return tf.constant(float(math.prod(self._shape) * len(self.thresholds) * self.bits))

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        count = len(self.thresholds)
        spread = b.op("take", b.op("reshape", x, shape=(*x.shape, 1)), axis=len(x.shape), indices=(0,) * count)
        # -1 below a threshold, 0 from it on: the sign bit alone
        signs = b.quantize(
            b.op("subtract", spread, _constant(b, self.thresholds, "thresholds")), Fixed(1, 0, 0), "TRN", "SAT", name="below"
        )
        y = b.op("matmul", signs, _constant(b, np.reshape(self.heights, (count, 1)), "heights"), name="steps")
        y = b.op("reshape", y, shape=x.shape)
        highest = self.lowest + math.fsum(self.heights)
        return b.op("add", y, _constant(b, np.full((1,) * len(x.shape), highest), "highest"), name="value")

    def get_config(self) -> dict:
        own = {"thresholds": self.thresholds, "heights": self.heights, "lowest": self.lowest, "bits": self.bits}
        return {**super().get_config(), **own}


def _constant(b: GraphBuilder, values, name: str) -> Ref:
    exact = IntArray.of_reals(np.asarray(values, np.float64))
    return b.constant(exact.mantissa, Fixed(1, 0, exact.f), name)

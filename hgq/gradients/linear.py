"""Bilinear functions that a scheme may recognise, to compute their products in a way of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any


@dataclass(frozen=True)
class MatrixProduct:
    """``x @ kernel``: the last axis of `x`, (…, inputs), and the first of `kernel`, (inputs, outputs), as one product whatever the rank."""

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Shape (…, outputs)."""
        if len(x.shape) == 2:
            return tf.matmul(x, kernel)
        return self.with_leading(x, tf.matmul(self.flat(x), kernel))

    @staticmethod
    def flat(x: Tensor) -> Tensor:
        """Shape (positions, channels)."""
        return x if len(x.shape) == 2 else tf.reshape(x, (-1, x.shape[-1]))

    @staticmethod
    def with_leading(x: Tensor, y: Tensor) -> Tensor:
        """`y`, (positions, channels), with the leading axes of `x`."""
        return y if len(x.shape) == 2 else tf.reshape(y, tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0))

"""Einstein sums as matrix products, in which schemes for the backward pass find the axes that they work along."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from hgq.gradients.base import Linear
from hgq.ir.contraction import Contraction
from hgq.layers.dense import matmul


def as_matrices(parts: Contraction, x: Any, y: Any, both: bool) -> tuple[Any, Any, Linear, Callable[[Any], Any]]:
    """The operands of an Einstein sum as those of a matrix product: their last, and next to last, axes are contracted.

    Of two data: (batch and kept, rows, n) and (batch and kept, n, columns). Of data and a kernel (batch, rows, n), or (batch, n) without
    rows, and (n, columns); if axes are kept, (kept, batch and rows, n) and (kept, n, columns).

    Args:
        parts: The equation, without batch.
        x: Data, batch first.
        y: Data, batch first, or a kernel.
        both: Which of the two `y` is.

    Returns:
        Both, the matrix product, and what brings its result into the shape that the equation says, batch first.
    """
    sizes = parts.sizes(x.shape[1:], y.shape[1:] if both else y.shape)
    kept, rows, n, columns = (
        math.prod(sizes[letter] for letter in letters) for letters in (parts.kept, parts.free_x, parts.contracted, parts.free_y)
    )
    batch = "*"  # no letter: the axis that the equation does not name
    outer = parts.kept + batch if parts.kept and not both else batch + parts.kept
    left = _ordered(x, batch + parts.x, outer + parts.free_x + parts.contracted)
    right = _ordered(y, (batch if both else "") + parts.y, (batch if both else "") + parts.kept + parts.contracted + parts.free_y)
    if both:
        left, right = tf.reshape(left, (-1, rows, n)), tf.reshape(right, (-1, n, columns))
    elif parts.kept:
        left, right = tf.reshape(left, (kept, -1, n)), tf.reshape(right, (kept, n, columns))
    else:
        left, right = tf.reshape(left, (-1, rows, n) if parts.free_x else (-1, n)), tf.reshape(right, (n, columns))

    def back(z: Any) -> Any:
        letters = outer + parts.free_x + parts.free_y
        shaped = tf.reshape(z, [-1 if letter == batch else sizes[letter] for letter in letters])
        return _ordered(shaped, letters, batch + parts.out)

    return left, right, matmul if len(right.shape) == 2 else tf.matmul, back


def _ordered(x: Any, letters: str, wanted: str) -> Any:
    return x if letters == wanted else tf.transpose(x, [letters.index(letter) for letter in wanted])

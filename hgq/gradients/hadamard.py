"""Walsh-Hadamard matrices, and rotations of an axis in blocks."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import random

Tensor = Any


@cache
def walsh(order: int) -> np.ndarray:
    """The orthonormal Walsh matrix: a row a function, rows by the number of their sign changes (sequency); float32, its own inverse
    but for the order of rows: ``walsh(n) @ walsh(n).T`` is the identity.

    Raises:
        ConfigError: `order` is no power of two.
    """
    if order < 1 or order & (order - 1):
        raise ConfigError("There is no such Hadamard matrix.", expected="a power of two", received=str(order))
    rows = np.ones((1, 1), np.float32)
    while len(rows) < order:
        rows = np.block([[rows, rows], [rows, -rows]])
    by_sequency = np.argsort((np.diff(rows, axis=1) != 0).sum(1), kind="stable")
    result = rows[by_sequency] / np.sqrt(np.float32(order))
    result.flags.writeable = False
    return result


def block_of(size: int, largest: int) -> int:
    """The largest power of two, up to `largest`, that divides `size`."""
    return min(size & -size, largest)


def rotate_last(x: Tensor, order: int) -> Tensor:
    """Each block of `order` elements of the last axis times the Walsh matrix. The transpose undoes it: `rotate_last_back`."""
    return _last(x, walsh(order).T)


def rotate_last_back(x: Tensor, order: int) -> Tensor:
    """The inverse of `rotate_last`."""
    return _last(x, walsh(order))


def _last(x: Tensor, matrix: np.ndarray) -> Tensor:
    if len(matrix) == 1:
        return x
    blocks = tf.reshape(x, (-1, len(matrix)))
    return tf.reshape(blocks @ tf.constant(matrix), tf.shape(x))


def project_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Blocks of the middle axis onto basis functions: (groups, length, columns) -> (groups, blocks, functions, columns).

    A last, incomplete block is filled up with zeros.

    Args:
        x: Shape (groups, length, columns).
        rows: The basis, shape (functions, block).
    """
    order = rows.shape[-1]
    groups, length, columns = tf.unstack(tf.shape(x))
    padded = tf.pad(x, [(0, 0), (0, -length % order), (0, 0)])
    return tf.matmul(rows, tf.reshape(padded, (groups, -1, order, columns)))  # an einsum would transpose all of it, twice


def unproject_rows(y: Tensor, rows: Tensor, length: Tensor) -> Tensor:
    """Back to the middle axis: the transpose of `project_rows`, its inverse where `rows` is a whole basis."""
    blocks = tf.matmul(rows, y, transpose_a=True)
    groups, _, _, columns = tf.unstack(tf.shape(blocks))
    return tf.reshape(blocks, (groups, -1, columns))[:, :length]


def random_signs(order: int, seed: Tensor) -> Tensor:
    """A diagonal of ±1 that turns a Hadamard matrix into a random rotation."""
    return tf.where(random.uniform((order,), seed) < 0.5, -1.0, 1.0)

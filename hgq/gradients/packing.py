"""Fewer bytes for what the backward pass needs: flags of one bit, codes of four."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def packed(codes: Tensor, bits: int) -> Tensor:
    """Non-negative integers below ``2**bits`` of any type and shape, as many in a byte as fit: uint8, one axis.

    Args:
        codes: The integers.
        bits: 1, 2 or 4.
    """
    each = 8 // bits
    flat = tf.reshape(tf.cast(codes, tf.uint8), (-1,))
    rows = tf.reshape(tf.pad(flat, [(0, -tf.size(flat) % each)]), (-1, each))
    return tf.add_n([tf.bitwise.left_shift(column, tf.constant(bits * at, tf.uint8)) for at, column in enumerate(tf.unstack(rows, axis=1))])


def unpacked(bytes_: Tensor, bits: int, shape: Tensor) -> Tensor:
    """The inverse of `packed`, uint8.

    Args:
        bytes_: What `packed` gave.
        bits: The same.
        shape: Of the integers.
    """
    columns = [tf.bitwise.right_shift(bytes_, tf.constant(at, tf.uint8)) for at in range(0, 8, bits)]
    flat = tf.reshape(tf.bitwise.bitwise_and(tf.stack(columns, axis=1), tf.constant(2**bits - 1, tf.uint8)), (-1,))
    return tf.reshape(flat[: tf.reduce_prod(shape)], shape)


def relu(x: Tensor) -> Tensor:
    """``tf.nn.relu``, value and gradient the same, which keeps one bit of each element for its gradient, not all of them."""

    @tf.custom_gradient
    def bitwise(x):
        x = tf.stop_gradient(x)  # else eager tapes would record, and keep, what is computed here
        kept, shape = packed(x > 0, 1), tf.shape(x)

        def gradient(g):
            with tf.control_dependencies([g]):  # not before it is needed
                return tf.where(unpacked(kept, 1, shape) > 0, g, 0.0)

        return tf.nn.relu(x), gradient

    return bitwise(x)

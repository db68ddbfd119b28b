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


def in_order(first: Tensor, then: Any) -> tuple[Tensor, Any]:
    """Both, the same values; nothing that reads `then` as returned is computed before `first` is there, in a graph, under XLA neither.

    XLA knows no order of things that do not need each other, and sees through all but a branch: codes of one byte it would not keep for
    the backward pass, but the float32 they come from, or unpack them all before that begins. So it gets a branch whose condition nobody
    knows beforehand, and that changes nothing: where all of `first` is 0, `first` is 0.

    Args:
        first: A tensor.
        then: A tensor, or a nest of them.
    """
    return tf.cond(tf.reduce_any(first != 0), lambda: (first, then), lambda: (tf.zeros_like(first), then))


def relu(x: Tensor) -> Tensor:
    """``tf.nn.relu``, value and gradient the same, which keeps one bit of each element for its gradient, not all of them."""

    @tf.custom_gradient
    def bitwise(x):
        x = tf.stop_gradient(x)  # else eager tapes would record, and keep, what is computed here
        (kept, y), shape = in_order(packed(x > 0, 1), tf.nn.relu(x)), tf.shape(x)

        def gradient(g):
            g, flags = in_order(g, kept)
            return tf.where(unpacked(flags, 1, shape) > 0, g, 0.0)

        return y, gradient

    return bitwise(x)

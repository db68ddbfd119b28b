"""``relu(y + bias)`` whose gradient takes one pass over the data, on a native op; two of TensorFlow's are the reference."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from hgq import native

Tensor = Any


def bias_relu(y: Tensor, bias: Tensor) -> Tensor | None:
    """``relu(y + bias)``, or None where native ops may not be used.

    Args:
        y: Data (…, channels).
        bias: (channels,).
    """
    ops = native.ops_for(y)
    if ops is None:
        return None

    @tf.custom_gradient
    def op(y, bias):
        z = tf.nn.relu(tf.nn.bias_add(y, bias))  # one op with the matrix product before it, once TensorFlow has fused them
        return z, lambda upstream: tuple(ops.hgqc_bias_relu_gradient(upstream, z))

    return op(y, bias)


@tf.RegisterGradient("HgqcBiasReluGradient")
def _of_gradient(op: tf.Operation, of_data: Tensor, of_bias: Tensor) -> tuple[Tensor, None]:
    _, result = op.inputs
    return tf.where(result > 0, of_data + of_bias, 0.0), None

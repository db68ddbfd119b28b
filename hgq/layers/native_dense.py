"""The product of a dense layer with a small kernel, its bias and its ReLU as one native op; TensorFlow's own ops are the reference.

TensorFlow packs both operands of a product and hands parts of them to threads, which takes longer than the arithmetic of a layer of some
tens of channels. Sums of quantized numbers are exact in float32 in any order, as far as they fit into 24 bits: forward passes agree bit for
bit, gradients to the rounding of their sums. Those are the same on any number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from hgq import native
from hgq.gradients import MatrixProduct

Tensor = Any

MOST_WEIGHTS = 2**14
"""Of a kernel, 128 x 128: with larger ones TensorFlow's sums over the batch are faster."""


def dense(x: Tensor, kernel: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor | None:
    """``x @ kernel + bias``, or the ReLU of that; None where native ops may not be used, or are slower.

    Args:
        x: Data (…, inputs).
        kernel: (inputs, outputs).
        bias: (outputs,), or None.
        relu: Whether the ReLU is taken, of a result with a bias.
    """
    ops = native.ops_for(x)
    if ops is None or None in tuple(kernel.shape) or math.prod(kernel.shape) > MOST_WEIGHTS:
        return None
    rows = MatrixProduct.flat(x)
    y = ops.hgqc_mat_mul(rows, kernel) if bias is None else ops.hgqc_dense(rows, kernel, bias, relu=relu)
    return MatrixProduct.with_leading(x, y)


@tf.RegisterGradient("HgqcMatMul")
def _of_product(op: tf.Operation, upstream: Tensor) -> tuple[Tensor, Tensor]:
    a, b = op.inputs
    if op.get_attr("transpose_a"):
        return _product(b, upstream, transpose_b=True), _product(a, upstream)
    if op.get_attr("transpose_b"):
        return _product(upstream, b), _product(upstream, a, transpose_a=True)
    return _product(upstream, b, transpose_b=True), _product(a, upstream, transpose_a=True)


@tf.RegisterGradient("HgqcDense")
def _of_dense(op: tf.Operation, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, kernel, _ = op.inputs
    if op.get_attr("relu"):
        upstream, of_bias = native.ops_in_graphs().hgqc_bias_relu_gradient(upstream, op.outputs[0])
    else:
        of_bias = tf.raw_ops.BiasAddGrad(out_backprop=upstream)
    return _product(upstream, kernel, transpose_b=True), _product(x, upstream, transpose_a=True), of_bias


def _product(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    return native.ops_in_graphs().hgqc_mat_mul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)

"""Convolutions and pooling of training on native ops, for up to two axes; TensorFlow's own ops are the reference and what XLA runs.

On a CPU without AVX-512 TensorFlow spends most of a small convolution on moving data, and the gradient of a max pooling costs as much as
that of the convolution before it. Sums of quantized numbers are exact in float32 here as there: forward passes agree bit for bit, gradients
to the rounding of their sums.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from hgq import native

Tensor = Any


def convolve(x: Tensor, kernel: Tensor, strides: tuple[int, ...]) -> Tensor | None:
    """``tf.nn.convolution(x, kernel, strides, "VALID")``, channels last, or None where native ops may not be used or know no such shape.

    Args:
        x: Data (batch, sizes…, channels) of one or two axes of sizes, all known but the batch.
        kernel: (taps…, channels, outputs).
        strides: One for each axis.
    """
    ops = native.ops_for(x)
    if ops is None or len(strides) > 2 or None in tuple(x.shape[1:]):
        return None
    image, flat = _image(x), tf.reshape(kernel, (1, *kernel.shape)) if len(strides) == 1 else kernel
    y = ops.hgqc_convolve(image, flat, strides=_two(strides))
    counts = [(size - taps) // stride + 1 for size, taps, stride in zip(x.shape[1:-1], kernel.shape, strides, strict=False)]
    shape = (x.shape[0], *counts, kernel.shape[-1])
    if len(strides) == 1:
        y = tf.reshape(y, (-1, *shape[1:]))
    return tf.ensure_shape(y, shape)


def max_pool(x: Tensor, pool: tuple[int, ...], strides: tuple[int, ...]) -> Tensor | None:
    """The greatest of each window without padding, or None as in `convolve`; its gradient goes to the first element that is greatest.

    Args:
        x: Data (batch, sizes…, channels) of one or two axes of sizes, all known but the batch.
        pool: Sizes of a window.
        strides: One for each axis.
    """
    ops = native.ops_for(x)
    if ops is None or len(strides) > 2 or None in tuple(x.shape[1:]):
        return None
    sizes, steps = _two(pool), _two(strides)

    @tf.custom_gradient
    def op(image):
        y = tf.nn.max_pool2d(image, sizes, steps, "VALID")
        return y, lambda upstream: ops.hgqc_greatest_gradient(image, y, upstream, sizes=sizes, strides=steps)

    y = op(_image(x))
    return tf.reshape(y, (-1, *y.shape[2:])) if len(strides) == 1 else y


def _two(values: tuple[int, ...]) -> list[int]:
    return [1, *values] if len(values) == 1 else list(values)


def _image(x: Tensor) -> Tensor:
    return tf.reshape(x, (-1, 1, *x.shape[1:])) if len(x.shape) == 3 else x


# The three products are each other's gradients. `sizes` are what no operand says: the data's for the data, the taps for the kernel.


@tf.RegisterGradient("HgqcConvolve")
def _of_result(op: tf.Operation, upstream: Tensor) -> tuple[Tensor, Tensor]:
    x, kernel = op.inputs
    return _data(upstream, kernel, op, x.shape[1:3]), _kernel(x, upstream, op, kernel.shape[:2])


@tf.RegisterGradient("HgqcConvolveData")
def _of_data(op: tf.Operation, upstream: Tensor) -> tuple[Tensor, Tensor]:
    gradient, kernel = op.inputs
    return _result(upstream, kernel, op), _kernel(upstream, gradient, op, kernel.shape[:2])


@tf.RegisterGradient("HgqcConvolveKernel")
def _of_kernel(op: tf.Operation, upstream: Tensor) -> tuple[Tensor, Tensor]:
    x, gradient = op.inputs
    return _data(gradient, upstream, op, x.shape[1:3]), _result(x, upstream, op)


@tf.RegisterGradient("HgqcGreatestGradient")
def _of_greatest(op: tf.Operation, upstream: Tensor) -> tuple[None, None, Tensor]:
    """The gradient of a pooling is linear in what comes from above: each window gave to one element, and takes from it."""
    x, greatest, _ = op.inputs
    sizes, strides = ([1, *op.get_attr(name), 1] for name in ("sizes", "strides"))
    taken = tf.raw_ops.MaxPoolGradGrad(
        orig_input=x, orig_output=greatest, grad=upstream, ksize=sizes, strides=strides, padding="VALID", data_format="NHWC"
    )
    return None, None, taken


def _result(x: Tensor, kernel: Tensor, op: tf.Operation) -> Tensor:
    return native.ops_in_graphs().hgqc_convolve(x, kernel, strides=op.get_attr("strides"))


def _data(gradient: Tensor, kernel: Tensor, op: tf.Operation, sizes: Any) -> Tensor:
    dx = native.ops_in_graphs().hgqc_convolve_data(gradient, kernel, strides=op.get_attr("strides"), sizes=list(sizes))
    return tf.ensure_shape(dx, (None, *sizes, kernel.shape[2]))


def _kernel(x: Tensor, gradient: Tensor, op: tf.Operation, taps: Any) -> Tensor:
    dk = native.ops_in_graphs().hgqc_convolve_kernel(x, gradient, strides=op.get_attr("strides"), sizes=list(taps))
    return tf.ensure_shape(dk, (*taps, x.shape[-1], gradient.shape[-1]))

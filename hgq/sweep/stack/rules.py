"""How an op of one model's graph is done for many models at once.

Every rule gives each model the very bits that the op would give it alone. So one op does the stack of all where it treats elements one by
one, by operations that IEEE 754 defines, and where that was tried out. What sums, or is approximated, or is large, is done model by model:
`each`, or within one native op (see `hgq.sweep.stack.plan`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from hgq.sweep.stack.values import Value

LARGE = 4096
"""Elements of one model's tensor from which on an op is done model by model: its data stay in the caches, and no stack is put together."""

BROADCASTING = frozenset(
    """Add AddV2 Sub Mul RealDiv Div DivNoNan FloorDiv Maximum Minimum SquaredDifference Less LessEqual Greater GreaterEqual Equal NotEqual
    LogicalAnd LogicalOr BitwiseAnd BitwiseOr BitwiseXor SelectV2""".split()
)
"""Element by element, over operands that broadcast."""
SAME_SHAPE = frozenset(
    """AddN Bitcast Cast Neg Abs Sign Square Sqrt Relu ReluGrad Floor Ceil Rint Round LogicalNot
    ZerosLike OnesLike IsNan IsInf IsFinite""".split()
)
"""Element by element, over operands of one shape."""
PASSING = frozenset("Identity IdentityN StopGradient PreventGradient Snapshot".split())
"""What changes nothing: gradients are in the graph already."""
FIXED = frozenset(("HgqcFixed", "HgqcFixedConstantBits", "HgqcFixedDataBits", "HgqcFixedRoundGradient", "HgqcFixedSaturateGradient"))
"""Native quantizers: element by element where each element has bits of its own."""

Made = list[Value]


def known(tensor: Any) -> bool:
    """Whether a tensor's shape is known when a graph is traced."""
    return tensor.shape.rank is not None and None not in tensor.shape


def size(tensor: Any) -> int:
    """Elements of a tensor of one model."""
    return math.prod(tensor.shape)


def create(op: Any, inputs: list[Any], **changed: Any) -> list[Any]:
    """The same op on other inputs.

    Args:
        op: Of the traced graph.
        inputs: Tensors of the present graph.
        **changed: Attributes (as protocol buffers) that are to be others.
    """
    attributes = {name: value for name, value in op.node_def.attr.items() if not name.startswith("_")} | changed
    graph = tf.compat.v1.get_default_graph()
    made = graph.create_op(op.type, inputs, [output.dtype for output in op.outputs], attrs=attributes)
    return list(made.outputs)


def each(op: Any, inputs: list[Value]) -> Made:
    """Model by model."""
    rows = [create(op, list(row)) for row in zip(*(value.parts() for value in inputs), strict=True)]
    return [Value(len(rows), parts=list(outputs)) for outputs in zip(*rows, strict=True)]


def goes_together(op: Any, varies: Sequence[bool]) -> bool:
    """Whether `together` has a rule for this op.

    Args:
        op: Of the traced graph.
        varies: Of each input, whether models differ in it.
    """
    if op.type not in _RULES or not op.outputs:
        return False
    tensors = (*op.outputs, *op.inputs)
    if not all(known(tensor) for tensor in tensors) or max(size(tensor) for tensor in tensors) >= LARGE:
        return False
    return _RULES[op.type][0](op, varies)


def together(op: Any, inputs: list[Value]) -> Made:
    """On stacks, where `goes_together` says so."""
    return [Value(inputs[0].models, stacked=output) for output in _RULES[op.type][1](op, inputs)]


def _always(op: Any, varies: Sequence[bool]) -> bool:
    return True


def _first_varies(op: Any, varies: Sequence[bool]) -> bool:
    return varies[0]


def _axes_are_known(op: Any, varies: Sequence[bool]) -> bool:
    return varies[0] and tf.get_static_value(op.inputs[1]) is not None


def _bits_of_their_own(op: Any, varies: Sequence[bool]) -> bool:
    return len({tuple(tensor.shape) for tensor in op.inputs}) == 1


def _broadcasting(op: Any, inputs: list[Value]) -> list[Any]:
    rank = max(len(tensor.shape) for tensor in op.inputs)
    return create(op, [value.aligned(rank) for value in inputs])


def _same_shape(op: Any, inputs: list[Value]) -> list[Any]:
    return create(op, [value.stacked() for value in inputs])


def _reshape(op: Any, inputs: list[Value]) -> list[Any]:
    return [tf.reshape(inputs[0].stacked(), [inputs[0].models, *op.outputs[0].shape])]


def _tile(op: Any, inputs: list[Value]) -> list[Any]:
    return [tf.tile(inputs[0].stacked(), [1, *tf.get_static_value(op.inputs[1])])]


def _pack(op: Any, inputs: list[Value]) -> list[Any]:
    axis = op.get_attr("axis")
    return [tf.stack([value.stacked() for value in inputs], axis + 1 if axis >= 0 else axis)]


def _can_slice(op: Any, varies: Sequence[bool]) -> bool:
    data, numbers = (varies[-1], varies[:-1]) if op.type == "StridedSliceGrad" else (varies[0], varies[1:])
    return data and not any(numbers)


def _slice(op: Any, inputs: list[Value]) -> list[Any]:
    """A part of a tensor, or a tensor around a part: of the models' axis, all."""
    grad = op.type == "StridedSliceGrad"
    data, numbers = (inputs[-1], inputs[:-1]) if grad else (inputs[0], inputs[1:])
    shape = [tf.concat([[data.models], numbers[0].shared], 0)] if grad else []
    begin, end, strides = (tf.concat([[first], number.shared], 0) for first, number in zip((0, 0, 1), numbers[len(shape) :], strict=True))
    masks = {name: op.get_attr(name) << 1 for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")}
    masks |= {name: op.get_attr(name) << 1 | 1 for name in ("begin_mask", "end_mask")}
    operands = [*shape, begin, end, strides, data.stacked()] if grad else [data.stacked(), begin, end, strides]
    return create(op, operands, **{name: tf.compat.v1.AttrValue(i=mask) for name, mask in masks.items()})


def _sum(op: Any, inputs: list[Value]) -> list[Any]:
    axes, rank = tf.get_static_value(op.inputs[1]), len(op.inputs[0].shape)
    return [tf.reduce_sum(inputs[0].stacked(), [int(axis) % rank + 1 for axis in axes.reshape(-1)], op.get_attr("keep_dims"))]


def _product_sums_alike(op: Any, varies: Sequence[bool]) -> bool:
    left, right = (tuple(tensor.shape) for tensor in op.inputs)
    return _sums_alike(left, right, op.get_attr("transpose_a"), op.get_attr("transpose_b"))


def _matmul(op: Any, inputs: list[Value]) -> list[Any]:
    x, y = (value.aligned(2) for value in inputs)
    return [tf.raw_ops.BatchMatMulV2(x=x, y=y, adj_x=op.get_attr("transpose_a"), adj_y=op.get_attr("transpose_b"))]


@cache
def _sums_alike(left: tuple[int, int], right: tuple[int, int], transpose_left: bool, transpose_right: bool) -> bool:
    """Whether TensorFlow adds the products of many matrices of these shapes in the order in which it adds those of one: tried out here."""
    if left[0 if transpose_left else 1] == 1:
        return True  # nothing is added
    if transpose_left and transpose_right:
        return False
    draw = np.random.default_rng(0)
    x, y = (draw.normal(size=(8, *shape)).astype(np.float32) for shape in (left, right))

    @tf.function(autograph=False)
    def both(x: Any, y: Any) -> Any:
        pairs = zip(tf.unstack(x), tf.unstack(y), strict=True)
        apart = tf.stack([tf.matmul(a, b, transpose_left, transpose_right) for a, b in pairs])
        return apart, tf.raw_ops.BatchMatMulV2(x=x, y=y, adj_x=transpose_left, adj_y=transpose_right)

    with tf.init_scope():
        apart, together = both.get_concrete_function(tf.TensorSpec(x.shape), tf.TensorSpec(y.shape))(tf.constant(x), tf.constant(y))
        return bool(np.array_equal(apart.numpy(), together.numpy()))


_RULES: dict[str, tuple[Callable[[Any, Sequence[bool]], bool], Callable[[Any, list[Value]], list[Any]]]] = {
    **dict.fromkeys(BROADCASTING, (_always, _broadcasting)),
    **dict.fromkeys(SAME_SHAPE, (_always, _same_shape)),
    **dict.fromkeys(FIXED, (_bits_of_their_own, _same_shape)),
    **dict.fromkeys(("StridedSlice", "StridedSliceGrad"), (_can_slice, _slice)),
    "Tile": (_axes_are_known, _tile),
    "Pack": (_always, _pack),
    "Sum": (_axes_are_known, _sum),
    "MatMul": (_product_sums_alike, _matmul),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), (_first_varies, _reshape)),
}
"""By type of op: whether there is a rule for an op, and the rule."""

"""How an op of one model's graph is done for many models at once.

Every rule gives each model the very bits that the op would give it alone. So the stack is used where an op treats elements one by one, by
operations that IEEE 754 defines; what sums, or is approximated, or is large, is done model by model. That is no loss: such ops pay for
their work, not for being called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
Rule = Callable[[Any, list[Value]], "Made | None"]


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


def stacked(op: Any, inputs: list[Value]) -> Made | None:
    """On stacks, where the op goes element by element and the tensors are small; None: no rule."""
    if op.type in PASSING:
        return inputs
    if op.type == "Shape" and known(op.inputs[0]):
        return [Value(inputs[0].models, shared=tf.constant(op.inputs[0].shape, op.outputs[0].dtype))]
    tensors = (*op.outputs, *op.inputs)
    if not op.outputs or not all(known(tensor) for tensor in tensors) or max(size(tensor) for tensor in tensors) >= LARGE:
        return None
    rule = _RULES.get(op.type)
    return rule(op, inputs) if rule is not None else None


def _broadcasting(op: Any, inputs: list[Value]) -> Made:
    rank = max(len(tensor.shape) for tensor in op.inputs)
    return _made(inputs, create(op, [value.aligned(rank) for value in inputs]))


def _same_shape(op: Any, inputs: list[Value]) -> Made:
    return _made(inputs, create(op, [value.stacked() for value in inputs]))


def _fixed(op: Any, inputs: list[Value]) -> Made | None:
    if len({tuple(tensor.shape) for tensor in op.inputs}) != 1:
        return None  # elements share bits
    return _same_shape(op, inputs)


def _reshape(op: Any, inputs: list[Value]) -> Made | None:
    if not inputs[0].varies:
        return None
    return _made(inputs, [tf.reshape(inputs[0].stacked(), [inputs[0].models, *op.outputs[0].shape])])


def _tile(op: Any, inputs: list[Value]) -> Made | None:
    multiples = tf.get_static_value(op.inputs[1])
    if multiples is None or not inputs[0].varies:
        return None
    return _made(inputs, [tf.tile(inputs[0].stacked(), [1, *multiples])])


def _pack(op: Any, inputs: list[Value]) -> Made:
    axis = op.get_attr("axis")
    return _made(inputs, [tf.stack([value.stacked() for value in inputs], axis + 1 if axis >= 0 else axis)])


def _slice(op: Any, inputs: list[Value]) -> Made | None:
    """A part of a tensor, or a tensor around a part: of the models' axis, all."""
    grad = op.type == "StridedSliceGrad"
    data, numbers = (inputs[-1], inputs[:-1]) if grad else (inputs[0], inputs[1:])
    if not data.varies or any(number.varies for number in numbers):
        return None
    shape = [tf.concat([[data.models], numbers[0].shared], 0)] if grad else []
    begin, end, strides = (tf.concat([[first], number.shared], 0) for first, number in zip((0, 0, 1), numbers[len(shape) :], strict=True))
    masks = {name: op.get_attr(name) << 1 for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")}
    masks |= {name: op.get_attr(name) << 1 | 1 for name in ("begin_mask", "end_mask")}
    operands = [*shape, begin, end, strides, data.stacked()] if grad else [data.stacked(), begin, end, strides]
    return _made([data], create(op, operands, **{name: tf.compat.v1.AttrValue(i=mask) for name, mask in masks.items()}))


def _sum(op: Any, inputs: list[Value]) -> Made | None:
    axes = tf.get_static_value(op.inputs[1])
    if axes is None or not inputs[0].varies:
        return None
    rank = len(op.inputs[0].shape)
    return _made(
        inputs, [tf.reduce_sum(inputs[0].stacked(), [int(axis) % rank + 1 for axis in axes.reshape(-1)], op.get_attr("keep_dims"))]
    )


def _matmul(op: Any, inputs: list[Value]) -> Made | None:
    transposes = op.get_attr("transpose_a"), op.get_attr("transpose_b")
    left, right = (tuple(tensor.shape) for tensor in op.inputs)
    if not _sums_alike(left, right, *transposes):
        return None
    x, y = (value.aligned(2) for value in inputs)
    return _made(inputs, [tf.raw_ops.BatchMatMulV2(x=x, y=y, adj_x=transposes[0], adj_y=transposes[1])])


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


def _made(inputs: list[Value], outputs: list[Any]) -> Made:
    return [Value(inputs[0].models, stacked=output) for output in outputs]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(BROADCASTING, _broadcasting),
    **dict.fromkeys(SAME_SHAPE, _same_shape),
    **dict.fromkeys(FIXED, _fixed),
    **dict.fromkeys(("StridedSlice", "StridedSliceGrad"), _slice),
    "Tile": _tile,
    "Pack": _pack,
    "Sum": _sum,
    "MatMul": _matmul,
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), _reshape),
}

"""How an op of one model's graph is done for many models at once.

Every rule gives each model the very bits that the op would give it alone. So the stack is used where an op treats elements one by one, by
operations that IEEE 754 defines; what sums, or is approximated, or is large, is done model by model. That is no loss: such ops pay for
their work, not for being called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from hgq.sweep.stack.values import Value

LARGE = 4096
"""Elements of one model's tensor from which on an op is done model by model: its data stay in the caches, and no stack is copied together."""

BROADCASTING = frozenset(
    """Add AddV2 Sub Mul RealDiv Div DivNoNan FloorDiv Maximum Minimum SquaredDifference Less LessEqual Greater GreaterEqual Equal NotEqual
    LogicalAnd LogicalOr BitwiseAnd BitwiseOr BitwiseXor SelectV2""".split()
)
"""Element by element, over operands that broadcast."""
SAME_SHAPE = frozenset(
    """AddN Identity IdentityN StopGradient PreventGradient Cast Neg Abs Sign Square Sqrt Relu ReluGrad Floor Ceil Rint Round LogicalNot
    ZerosLike OnesLike IsNan IsInf IsFinite Snapshot""".split()
)
"""Element by element, over operands of one shape."""
FIXED = frozenset(("HgqcFixed", "HgqcFixedConstantBits", "HgqcFixedDataBits", "HgqcFixedRoundGradient", "HgqcFixedSaturateGradient"))
"""Native quantizers: element by element where each element has bits of its own."""

Made = list[Value]
Rule = Callable[[Any, list[Value]], "Made | None"]


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


def once(op: Any, inputs: list[Value]) -> Made:
    """Models do not differ: once for all."""
    models = inputs[0].models if inputs else 0
    return [Value(models, shared=output) for output in create(op, [value.shared for value in inputs])]


def each(op: Any, inputs: list[Value]) -> Made:
    """Model by model."""
    rows = [create(op, list(row)) for row in zip(*(value.parts() for value in inputs), strict=True)]
    return [Value(len(rows), parts=list(outputs)) for outputs in zip(*rows, strict=True)]


def stacked(op: Any, inputs: list[Value]) -> Made | None:
    """On stacks, where the op goes element by element and the tensors are small; None: no rule."""
    if not op.outputs or max(size(tensor) for tensor in (*op.outputs, *op.inputs)) >= LARGE:
        return None
    rule = _RULES.get(op.type)
    made = rule(op, inputs) if rule is not None else None
    return None if made is None else made


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


def _made(inputs: list[Value], outputs: list[Any]) -> Made:
    return [Value(inputs[0].models, stacked=output) for output in outputs]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(BROADCASTING, _broadcasting),
    **dict.fromkeys(SAME_SHAPE, _same_shape),
    **dict.fromkeys(FIXED, _fixed),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), _reshape),
}

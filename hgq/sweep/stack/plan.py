"""In which order the ops of one model's graph are done for many, and which of them together.

Ops of three kinds alternate: those done once on the stack of all models (small tensors: variables, bits, costs), those done model by model
(data), and those on variables. A native op does a whole `Part` of the second kind, model after model, at the price of its work. So parts
are to be few and large: what lies between two ops of a part joins it, even if it could be done on the stack. Most networks' steps
have one part, from the data to the gradients of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from hgq.sweep.stack import rules
from hgq.sweep.stack.traced import ON_VARIABLES

NOTHING = ("Placeholder", "NoOp", *rules.PASSING)

COMBINED = frozenset(
    """Add AddV2 AddN Sub Mul RealDiv Div Neg Square Sqrt Rsqrt Reciprocal Inv Pow Log Log1p Exp Expm1 Tanh Sigmoid Elu Selu Softplus
    Softsign Softmax LogSoftmax Erf Sin Cos""".split()
)
"""What TensorFlow's graph optimizer makes into something else, of other rounding, where two of them meet or one meets a constant:
``a / sqrt(b)`` becomes ``a * rsqrt(b)``, sums are regrouped. It does so in the graph of one model, and as well in that of many, but
not within a native op."""


@dataclass
class Part:
    """Ops that one native op does, model by model."""

    ops: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    """Tensors that are read outside."""


class Plan:
    """What to do one after the other.

    Args:
        graph: Traced, of one model.
        constants: Names of its inputs that are the same for all models.
        joined: Whether there is a native op for parts; otherwise all ops stay single.

    Attributes:
        steps: `Part`, or an op that is done by itself.
    """

    def __init__(self, graph: Any, constants: set[str], joined: bool) -> None:
        self._ops = [op for op in graph.get_operations() if op.type not in NOTHING]
        self._origin = _origins(graph)
        self._varies = self._varying(graph, constants)
        self._inside = self._apart() if joined else set[str]()
        self.steps = self._ordered(graph)

    def origin(self, tensor: Any) -> Any:
        """The tensor that this one is, behind ops that change nothing."""
        return self._origin.get(tensor.name, tensor)

    def inputs(self, op: Any) -> list[Any]:
        """What an op reads: origins."""
        return [self.origin(tensor) for tensor in op.inputs]

    def varies(self, op: Any) -> list[bool]:
        """Of each input of an op, whether models differ in it."""
        return [self._varies[tensor.name] for tensor in self.inputs(op)]

    def _varying(self, graph: Any, constants: set[str]) -> dict[str, bool]:
        found = {tensor.name: tensor.name not in constants for tensor in graph.inputs}
        for op in self._ops:
            differs = op.type in ON_VARIABLES or (any(found[tensor.name] for tensor in self.inputs(op)) and not is_known_shape(op))
            found |= {tensor.name: differs for tensor in op.outputs}
        return found

    def _apart(self) -> set[str]:
        """Names of the ops that parts are made of."""
        readers: dict[str, list[Any]] = {}
        for op in self._ops:
            for tensor in self.inputs(op):
                readers.setdefault(tensor.name, []).append(op)

        def keeps(op: Any) -> bool:
            """Whether the graph optimizer leaves its numbers as they are."""
            if op.type not in COMBINED:
                return True
            sources = [tensor.op.type for tensor in self.inputs(op)]
            around = [*sources, *(reader.type for tensor in op.outputs for reader in readers.get(tensor.name, ()))]
            if op.type == "Pow":  # only of a constant exponent another op can be made
                return sources[1] != "Const"
            by_constant = op.type in ("RealDiv", "Div") and sources[1] == "Const"
            return not by_constant and not any(kind in COMBINED or kind == "BiasAdd" for kind in around)

        able = {op.name for op in self._ops if op.type not in ON_VARIABLES and any(self.varies(op)) and _can_be_inside(op) and keeps(op)}
        apart = {op.name for op in self._ops if op.name in able and not rules.goes_together(op, self.varies(op))}
        after, before = set[str](), set[str]()
        for op in self._ops:
            if any(tensor.op.name in apart or tensor.op.name in after for tensor in self.inputs(op)):
                after.add(op.name)
        for op in reversed(self._ops):
            if op.name in apart or op.name in before:
                before |= {tensor.op.name for tensor in self.inputs(op)}
        return apart | (able & after & before)

    def _ordered(self, graph: Any) -> list[Any]:
        """By levels: what reads results of a part of level n is of level n + 1, unless it is of that part. In a level, it comes last."""
        levels, read, written = dict[str, int](), dict[str, int](), dict[str, int]()
        order = list[tuple[int, bool, Any]]()
        for op in self._ops:
            inside, handles = op.name in self._inside, [tensor.name for tensor in op.inputs if tensor.dtype == tf.resource]
            needed = [levels.get(t.op.name, 0) + (t.op.name in self._inside and not inside) for t in self.inputs(op)]
            reads = op.type == "ReadVariableOp"  # what happens to a variable keeps its order
            needed += [written.get(handle, 0) for handle in handles] + [0 if reads else read.get(handle, 0) for handle in handles]
            level = max(needed, default=0)
            for handle in handles:
                kept = read if reads else written
                kept[handle] = max(level, kept.get(handle, 0))
            levels[op.name] = level
            order.append((level, inside, op))
        steps: list[Any] = []
        for level in range(max(levels.values(), default=0) + 1):
            steps += [op for own, inside, op in order if own == level and not inside]
            ops = [op for own, inside, op in order if own == level and inside]
            if ops:
                steps.append(Part(ops, self._results({op.name for op in ops}, graph)))
        return steps

    def _results(self, names: set[str], graph: Any) -> list[Any]:
        """Tensors of these ops that others read."""
        asked = [tensor for op in self._ops if op.name not in names for tensor in self.inputs(op)]
        asked += [self.origin(tensor) for tensor in tf.nest.flatten(graph.structured_outputs) if isinstance(tensor, tf.Tensor)]
        return list({tensor.name: tensor for tensor in asked if tensor.op.name in names}.values())


def gives_the_same(part: Part, inputs: Callable[[Any], list[Any]], native_op: Any) -> bool:
    """Whether the native op's bits for a part are those of TensorFlow's graph: tried out here, on random numbers.

    A graph is optimized and, where oneDNN is in use, other kernels are put into it; what is added in which order depends on shapes alone.

    Args:
        part: Of a plan.
        inputs: Gives the tensors that an op reads.
        native_op: ``HgqcEach``.
    """
    outer, nodes, results = nodes_of(part, inputs)
    if not all(rules.known(tensor) for tensor in outer):
        return False
    static = [tf.get_static_value(tensor) for tensor in outer]
    draw = np.random.default_rng(0)
    values = [
        tf.constant(static_value)
        if static_value is not None
        else tf.cast(draw.normal(size=tensor.shape) * tensor.dtype.is_floating, tensor.dtype)
        for tensor, static_value in zip(outer, static, strict=True)
    ]

    @tf.function(autograph=False)
    def graph(*given: Any) -> list[Any]:
        made = {
            tensor.name: tf.constant(fixed) if fixed is not None else value
            for tensor, value, fixed in zip(outer, given, static, strict=True)
        }
        for op in part.ops:
            outputs = rules.create(op, [made[tensor.name] for tensor in inputs(op)])
            made |= {tensor.name: output for tensor, output in zip(op.outputs, outputs, strict=True)}
        return [made[tensor.name] for tensor in part.results]

    with tf.init_scope():
        alone = graph.get_concrete_function(*(tf.TensorSpec(value.shape, value.dtype) for value in values))
        types, shapes = [tensor.dtype for tensor in part.results], [tensor.shape for tensor in part.results]
        all_shared = [True] * len(values)
        try:
            own = native_op(values, made=types, models=1, shared=all_shared, nodes=nodes, results=results, shapes=shapes)
            wanted = alone(*values)
        except tf.errors.OpError:  # what it reads, a shape for instance, cannot be any number
            return False
        return all(np.array_equal(a[0].numpy(), b.numpy(), equal_nan=True) for a, b in zip(own, wanted, strict=True))


def is_known_shape(op: Any) -> bool:
    """Whether an op asks for a shape that is known already."""
    return op.type == "Shape" and rules.known(op.inputs[0])


def _origins(graph: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for op in graph.get_operations():
        if op.type in rules.PASSING:
            for tensor, source in zip(op.outputs, op.inputs, strict=True):
                found[tensor.name] = found.get(source.name, source)
    return found


def _can_be_inside(op: Any) -> bool:
    """Whether results can be put into stacks: of known shapes, and plain numbers."""
    plain = all(rules.known(tensor) and tensor.dtype not in (tf.variant, tf.string, tf.resource) for tensor in op.outputs)
    return bool(op.outputs) and plain


def nodes_of(part: Part, inputs: Callable[[Any], list[Any]]) -> tuple[list[Any], bytes, list[int]]:
    """A part as the native op ``HgqcEach`` wants it.

    Args:
        part: Of a plan.
        inputs: Gives the tensors that an op reads.

    Returns:
        The tensors that it reads from outside; its ops as a serialised ``GraphDef``, whose ``input`` are numbers of slots; the slots of
        its results.
    """
    inside = {op.name for op in part.ops}
    outer = list({t.name: t for op in part.ops for t in inputs(op) if t.op.name not in inside}.values())
    slots = {tensor.name: slot for slot, tensor in enumerate(outer)}
    graph = tf.compat.v1.GraphDef()
    for op in part.ops:
        node = graph.node.add(name=op.name, op=op.type, input=[str(slots[tensor.name]) for tensor in inputs(op)])
        for name, value in op.node_def.attr.items():
            if not name.startswith("_"):
                node.attr[name].CopyFrom(value)
        for tensor in op.outputs:
            slots[tensor.name] = len(slots)
    return outer, graph.SerializeToString(deterministic=True), [slots[tensor.name] for tensor in part.results]

"""`NativeStep`: the training step of each model as a program of its own, one native op for all models and all steps of an epoch.

The graph of one model's step becomes a list of nodes on slots of memory: variables, the step's samples, constants, what nodes make. The
native op ``HgqcProgram`` runs it, model by model, on threads that wait for nobody. See `hgq/native/src/program.h`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hgq.sweep.stack import rules
from hgq.sweep.stack.plan import Plan, is_known_shape
from hgq.sweep.stack.traced import ASSIGNMENTS, ON_VARIABLES, Traced
from hgq.variables import read, write

CHECKED = 6
"""Steps by which a program is compared to TensorFlow's graph."""
SAME_ELEMENTS = frozenset(("Reshape", "EnsureShape", "Squeeze", "ExpandDims", "Bitcast", "StridedSlice", "StridedSliceGrad", "Sum"))
"""What only looks at memory in another way, where it neither drops nor adds elements."""


class NativeStep:
    """A step of one model as nodes and slots.

    Args:
        traced: Of one model, on its samples.

    Raises:
        NotImplementedError: not every op can be a node.
    """

    def __init__(self, traced: Traced) -> None:
        self._traced = traced
        self._plan = Plan(traced.graph, traced.captured, joined=False)
        self._ops = list(self._plan.steps)
        self._outside = {t.name for op in self._ops if self._is_outside(op) for t in op.outputs} | set(traced.constants)
        inner = [op for op in self._ops if not self._is_outside(op)]
        self._slots: dict[str, int] = {}
        self._types, self._shapes, self._memory = list[Any](), list[Any](), list[int]()
        for name, variable in traced.stacked.items():
            self._slot(name, variable.dtype, variable.shape[1:])
        feeds = {tensor.name: tensor for tensor in traced.graph.inputs}
        for name in traced.feeds:
            self._slot(name, feeds[name].dtype, feeds[name].shape)
        needed = list({t.name: t for op in inner for t in self._plan.inputs(op) if t.name in self._outside}.values())
        self._constants: list[Any] = tf.function(lambda: self._evaluated(needed), autograph=False)()
        for tensor, value in zip(needed, self._constants, strict=True):
            self._slot(tensor.name, value.dtype, value.shape)
        self._shape_of = self._inferred(inner, {tensor.name: value for tensor, value in zip(needed, self._constants, strict=True)})
        self._graph = tf.compat.v1.GraphDef()
        self._copied = self._to_be_copied(inner)
        for op in inner:
            self._emit(op)

    def run(self, ops: Any, variables: Sequence[Any], order: Any, data: Sequence[Any], own_data: Sequence[bool], models: int) -> None:
        """Train: where a graph is traced.

        Args:
            ops: The native ones.
            variables: Of all models, as ``traced.stacked`` has them.
            order: (steps, models, samples): which samples a step takes.
            data: For each input of the function all samples: (n, …), or (models, n, …) where `own_data` says so.
            own_data: Of each of them, whether each model has its own.
            models: How many there are.
        """
        ops.hgqc_program(
            variables=[variable.handle for variable in variables],
            order=order,
            data=data,
            constants=self._constants,
            own_data=own_data,
            models=models,
            nodes=self._graph.SerializeToString(deterministic=True),
            types=self._types,
            shapes=self._shapes,
            memory=self._memory,
        )

    def gives_the_same(self, ops: Any, mine: Sequence[Any], theirs: Sequence[Any], data: Sequence[Any]) -> bool:
        """Whether some steps of one model by the native op and by TensorFlow's graph end with the same bits. The model is put back.

        TensorFlow optimizes a graph before it runs it: it may regroup sums, or put other kernels in.

        Args:
            ops: The native ones.
            mine: Variables of that model.
            theirs: Those of all models in the same order.
            data: Samples, for each input of the function.
        """
        alone = {id(variable): tf.Variable(value[None]) for variable, value in zip(theirs, read(mine), strict=True)}
        samples = self._shapes[self._slots[self._traced.feeds[0]]][0]
        draw = np.random.default_rng(0)
        order = draw.integers(len(data[0]), size=(CHECKED, 1, samples)).astype(np.int32)

        @tf.function(autograph=False)
        def natively(order: Any) -> None:
            variables = [alone[id(variable)] for variable in self._traced.stacked.values()]
            self.run(ops, variables, order, data, [False] * len(data), 1)

        kept = read(mine)
        try:
            for index in order[:, 0]:
                self._traced.alone(*(tf.gather(part, index) for part in data))
            natively(tf.constant(order))
            return all(np.array_equal(a, alone[id(own)].numpy()[0], equal_nan=True) for a, own in zip(read(mine), theirs, strict=True))
        finally:
            write(mine, kept)

    def _is_outside(self, op: Any) -> bool:
        """Whether an op's results are the same for all models: they are made once, outside."""
        return is_known_shape(op) or (op.type not in ON_VARIABLES and not any(self._plan.varies(op)))

    def _evaluated(self, needed: Sequence[Any]) -> list[Any]:
        """What these tensors of the traced graph are, which are the same for all models, in the present graph."""
        made = {name: tf.convert_to_tensor(tensor) for name, tensor in self._traced.constants.items()}
        for op in self._ops:
            if is_known_shape(op):
                made[op.outputs[0].name] = tf.constant(op.inputs[0].shape, op.outputs[0].dtype)
            elif self._is_outside(op):
                outputs = rules.create(op, [made[tensor.name] for tensor in self._plan.inputs(op)])
                made |= {tensor.name: output for tensor, output in zip(op.outputs, outputs, strict=True)}
        return [made[tensor.name] for tensor in needed]

    def _inferred(self, inner: Sequence[Any], constants: dict[Any, Any]) -> dict[Any, Any]:
        """Shapes of what ops make, by name, now that constants are known: axes of sums are, of which the traced graph knows nothing."""
        found: dict[Any, Any] = {}
        with tf.Graph().as_default():
            made = {name: tf.constant(value.numpy()) for name, value in constants.items()}
            for name, slot in self._slots.items():
                if name not in made:
                    made[name] = tf.compat.v1.placeholder(self._types[slot], self._shapes[slot])
            for op in inner:
                if op.type == "ReadVariableOp":
                    outputs = [made[op.inputs[0].name]]
                elif op.type in ON_VARIABLES:
                    continue
                else:
                    outputs = rules.create(op, [made[tensor.name] for tensor in self._plan.inputs(op)])
                for tensor, output in zip(op.outputs, outputs, strict=True):
                    made[tensor.name], found[tensor.name] = output, output.shape
        return found

    def _slot(self, name: str, dtype: Any, shape: Any, of: int | None = None) -> int:
        """A new slot, on memory of its own or that of another one."""
        number = len(self._types)
        if not shape.is_fully_defined() or dtype in (tf.string, tf.variant, tf.resource):
            raise NotImplementedError(f"{name}: of unknown size")
        self._slots[name] = number
        self._types.append(dtype)
        self._shapes.append(shape)
        self._memory.append(number if of is None else self._memory[of])
        return number

    def _emit(self, op: Any) -> None:
        handles = [self._slots[tensor.name] for tensor in op.inputs if tensor.dtype == tf.resource]
        inputs = [self._slots[tensor.name] for tensor in self._plan.inputs(op) if tensor.dtype != tf.resource]
        if op.type == "ReadVariableOp":
            (tensor,) = op.outputs
            copied = tensor.name in self._copied
            self._node(op, "Snapshot" if copied else "Identity", handles, {"T": tf.compat.v1.AttrValue(type=tensor.dtype.as_datatype_enum)})
            self._slot(tensor.name, tensor.dtype, self._shapes[handles[0]], None if copied else handles[0])
        elif op.type == "AssignVariableOp":
            self._node(op, op.type, [*handles, *inputs])
        elif op.type in ASSIGNMENTS:
            kind = tf.compat.v1.AttrValue(type=self._types[handles[0]].as_datatype_enum)
            self._node(op, "AddV2" if op.type == "AssignAddVariableOp" else "Sub", [*handles, *inputs], {"T": kind})
            total = self._slot(op.name, self._types[handles[0]], self._shapes[handles[0]])
            self._node(op, "AssignVariableOp", [*handles, total])
        elif op.type == "HgqcAdam":
            self._node(op, op.type, [*handles, *inputs], op.node_def.attr)
        elif self._is_view(op):
            self._node(op, "Identity", [])
            self._slot(op.outputs[0].name, op.outputs[0].dtype, self._shape_of[op.outputs[0].name], self._slots[self._source(op).name])
        else:
            attributes = dict(op.node_def.attr)
            if op.type == "ArgMax" and tf.get_static_value(op.inputs[1]) in (-1, len(op.inputs[0].shape) - 1):
                attributes["_last_axis"] = tf.compat.v1.AttrValue(b=True)
            self._node(op, op.type, inputs, attributes)
            for tensor in op.outputs:
                self._slot(tensor.name, tensor.dtype, self._shape_of[tensor.name])

    def _node(self, op: Any, kind: str, inputs: Sequence[int], attributes: Any = None) -> None:
        node = self._graph.node.add(name=f"{op.name}_{len(self._graph.node)}", op=kind, input=[str(slot) for slot in inputs])
        for name, value in (attributes or {}).items():
            if name == "_last_axis" or not name.startswith("_"):
                node.attr[name].CopyFrom(value)

    def _source(self, op: Any) -> Any:
        """What an op looks at in another way."""
        return self._plan.inputs(op)[-1 if op.type == "StridedSliceGrad" else 0]

    def _is_view(self, op: Any) -> bool:
        if op.type not in SAME_ELEMENTS:
            return False
        source, (made,) = self._source(op), op.outputs
        shapes = self._shape_of.get(source.name, source.shape), self._shape_of[made.name]
        known = all(shape.is_fully_defined() for shape in shapes) and source.name not in self._outside
        if not known or math.prod(shapes[0]) != math.prod(shapes[1]) or source.dtype.size != made.dtype.size:
            return False
        if op.type in ("StridedSlice", "StridedSliceGrad"):
            strides = tf.get_static_value(self._plan.inputs(op)[3])
            return strides is not None and bool((strides > 0).all())
        return True

    def _to_be_copied(self, inner: Sequence[Any]) -> set[str]:
        """Values of variables that are still read when the variable has a new one: names."""
        looks_at: dict[Any, Any] = {}
        last, read_at, written = dict[Any, int](), dict[Any, tuple[Any, int]](), dict[Any, list[int]]()
        for time, op in enumerate(inner):
            for tensor in self._plan.inputs(op):
                last[looks_at.get(tensor.name, tensor.name)] = time
            handles = [tensor.name for tensor in op.inputs if tensor.dtype == tf.resource]
            if op.type == "ReadVariableOp":
                read_at[op.outputs[0].name] = handles[0], time
            else:
                for handle in handles:
                    written.setdefault(handle, []).append(time)
                if self._is_view(op):
                    source = self._source(op).name
                    looks_at[op.outputs[0].name] = looks_at.get(source, source)
        return {name for name, (handle, time) in read_at.items() if any(time < at < last.get(name, -1) for at in written.get(handle, ()))}

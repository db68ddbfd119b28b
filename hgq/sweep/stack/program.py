"""`Program`: a function of one model, traced once and done for many models at once.

This is what ``vmap`` is elsewhere, at the level of TensorFlow's graphs: the function is traced with the variables of one model; then its
ops are made anew, one after the other, with a variable for all models in the place of each variable. Layers know nothing of it.
"""

from __future__ import annotations

import logging
from typing import Any

import tensorflow as tf

from hgq import native
from hgq.sweep.stack import rules
from hgq.sweep.stack.plan import Part, Plan, gives_the_same, is_known_shape, nodes_of
from hgq.sweep.stack.traced import ASSIGNMENTS, Traced
from hgq.sweep.stack.values import Value

log = logging.getLogger("hgq.sweep")


class Program:
    """A function of one model, for many.

    Args:
        traced: The function.
        models: How many there are.
    """

    def __init__(self, traced: Traced, models: int) -> None:
        self.models = models
        self._graph, self._structure, self._feeds = traced.graph, traced.structure, traced.feeds
        self._stacked, self._constants, captured = traced.stacked, traced.constants, traced.captured
        self._native: Any = native.ops_in_graphs()
        self._plan = Plan(self._graph, captured, joined=self._native is not None)
        parts = [step for step in self._plan.steps if isinstance(step, Part)]
        if not all(gives_the_same(part, self._plan.inputs, self._native.hgqc_each) for part in parts):
            log.info("TensorFlow's graphs have other kernels than the native op of a stack: its data are done op by op.")
            self._plan = Plan(self._graph, captured, joined=False)

    def __call__(self, *inputs: Value) -> Any:
        """The function's results, as `Value`, in its structure. Call it where a graph is traced."""
        known: dict[str, Value] = dict(zip(self._feeds, inputs, strict=True))
        known |= {name: Value(self.models, shared=tf.convert_to_tensor(tensor)) for name, tensor in self._constants.items()}
        for step in self._plan.steps:
            made, values = (step.results, self._part(step, known)) if isinstance(step, Part) else (step.outputs, self._done(step, known))
            known |= {tensor.name: value for tensor, value in zip(made, values, strict=True)}
        return tf.nest.map_structure(lambda tensor: None if tensor is None else known[self._plan.origin(tensor).name], self._structure)

    def _done(self, op: Any, known: dict[str, Value]) -> list[Value]:
        if op.type == "ReadVariableOp":
            return [Value(self.models, stacked=self._stacked[op.inputs[0].name].read_value())]
        values = [known[tensor.name] for tensor in self._plan.inputs(op) if tensor.dtype != tf.resource]
        if op.type in ASSIGNMENTS:
            self._assign(op, values[0])
            return []
        if op.type == "HgqcAdam":
            return self._adam(op, values)
        if is_known_shape(op):
            return [Value(self.models, shared=tf.constant(op.inputs[0].shape, op.outputs[0].dtype))]
        if not any(value.varies for value in values):
            return [Value(self.models, shared=output) for output in rules.create(op, [value.shared for value in values])]
        return (rules.together if rules.goes_together(op, [value.varies for value in values]) else rules.each)(op, values)

    def _part(self, part: Part, known: dict[str, Value]) -> list[Value]:
        outer, nodes, results = nodes_of(part, self._plan.inputs)
        values = [known[tensor.name] for tensor in outer]
        made = self._native.hgqc_each(
            [value.stacked() if value.varies else value.shared for value in values],
            made=[tensor.dtype for tensor in part.results],
            models=self.models,
            shared=[not value.varies for value in values],
            nodes=nodes,
            results=results,
            shapes=[tensor.shape for tensor in part.results],
        )
        return [Value(self.models, stacked=tensor) for tensor in made]

    def _assign(self, op: Any, value: Value) -> None:
        variable = self._stacked[op.inputs[0].name]
        if op.type == "AssignVariableOp":
            variable.assign(value.stacked())
        else:
            (variable.assign_add if op.type == "AssignAddVariableOp" else variable.assign_sub)(value.stacked())

    def _adam(self, op: Any, values: list[Value]) -> list[Value]:
        handles = [self._stacked[tensor.name].handle for tensor in op.inputs if tensor.dtype == tf.resource]
        rules.create(op, [*handles, *(value.stacked() for value in values)], models=tf.compat.v1.AttrValue(i=self.models))
        return []

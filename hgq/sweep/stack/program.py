"""`Program`: a function of one model, traced once and done for many models at once.

This is what ``vmap`` is elsewhere, at the level of TensorFlow's graphs: the function is traced with the variables of one model; then its
ops are made anew, one after the other, with a variable for all models in the place of each variable. Layers know nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from hgq import native
from hgq.errors import ConfigError
from hgq.sweep.stack import rules
from hgq.sweep.stack.plan import ASSIGNMENTS, ON_VARIABLES, Part, Plan, gives_the_same, is_known_shape, nodes_of
from hgq.sweep.stack.values import Value

log = logging.getLogger("hgq.sweep")


class Program:
    """A function of one model, for many.

    Args:
        function: What is traced: takes tensors like `inputs`, returns a (nested) structure of tensors.
        inputs: Their specifications, of one model.
        variables: By the id of the handle of a variable of that one model: the variable of all models, models first.
        models: How many there are.

    Raises:
        ConfigError: it holds an op that cannot be done for many: names op and layer.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any], variables: dict[int, Any], models: int) -> None:
        self.models = models
        traced = tf.function(function, autograph=False).get_concrete_function(*inputs)
        self._graph, self._structure = traced.graph, traced.graph.structured_outputs
        self._stacked: dict[str, Any] = {}
        self._constants: dict[str, Any] = {}
        for outer, inner in self._graph.captures:
            if outer.dtype != tf.resource:
                self._constants[inner.name] = outer
            elif id(outer) in variables:
                self._stacked[inner.name] = variables[id(outer)]
            else:
                raise _refused(f"a variable that is neither the model's nor its optimizer's ({inner.name})", inner.op)
        captured = {*self._stacked, *self._constants}
        self._feeds = [tensor.name for tensor in self._graph.inputs if tensor.name not in captured]
        for op in self._graph.get_operations():
            _check(op)
        with native.in_graphs():
            self._native: Any = native.ops_for(tf.TensorSpec((), tf.float32))
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


def _check(op: Any) -> None:
    """Refuse what no rule can do right."""
    if op.type in ("Placeholder", "NoOp", *ON_VARIABLES):
        return
    if any(attribute.HasField("func") or attribute.list.func for attribute in op.node_def.attr.values()):
        raise _refused("a loop, a branch or a function call", op)
    if op.op_def is not None and op.op_def.is_stateful:
        raise _refused("a state that is no variable", op)
    if any(tensor.dtype == tf.resource for tensor in op.inputs):
        raise _refused("a variable that is read in a way of its own", op)


def _refused(what: str, op: Any) -> ConfigError:
    return ConfigError(
        "These models cannot be trained in one step together.",
        where=f"{op.name}, an op of type {op.type}",
        expected="layers whose training step is made of ops without loops and hidden state",
        received=what,
        fix="Leave --vectorize out; --workers N trains several at a time.",
    )

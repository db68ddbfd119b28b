"""`Traced`: a function of one model, as a graph of ops on that model's variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from hgq.errors import ConfigError

ASSIGNMENTS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
ON_VARIABLES = ("ReadVariableOp", "HgqcAdam", *ASSIGNMENTS)


class Traced:
    """A function of one model, traced once.

    Args:
        function: Takes tensors like `inputs`, returns a (nested) structure of tensors.
        inputs: Their specifications, of one model.
        variables: By the id of the handle of a variable of that one model: the variable of all models, models first.

    Attributes:
        alone: The function of the one model, as TensorFlow runs it.
        graph: Its ops.
        stacked: By the name of a tensor of the graph, a variable's handle: the variable of all models.
        constants: By name: what the graph takes from outside and is the same for all.
        feeds: Names of its inputs.

    Raises:
        ConfigError: it holds an op that cannot be done for many: names op and layer.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any], variables: dict[int, Any]) -> None:
        self.alone = tf.function(function, autograph=False).get_concrete_function(*inputs)
        self.graph, self.structure = self.alone.graph, self.alone.graph.structured_outputs
        self.stacked: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}
        for outer, inner in self.graph.captures:
            if outer.dtype != tf.resource:
                self.constants[inner.name] = outer
            elif id(outer) in variables:
                self.stacked[inner.name] = variables[id(outer)]
            else:
                raise refused(f"a variable that is neither the model's nor its optimizer's ({inner.name})", inner.op)
        self.captured = {*self.stacked, *self.constants}
        self.feeds = [tensor.name for tensor in self.graph.inputs if tensor.name not in self.captured]
        for op in self.graph.get_operations():
            _check(op)


def _check(op: Any) -> None:
    """Refuse what no rule can do right."""
    if op.type in ("Placeholder", "NoOp", *ON_VARIABLES):
        return
    if any(attribute.HasField("func") or attribute.list.func for attribute in op.node_def.attr.values()):
        raise refused("a loop, a branch or a function call", op)
    if op.op_def is not None and op.op_def.is_stateful:
        raise refused("a state that is no variable", op)
    if any(tensor.dtype == tf.resource for tensor in op.inputs):
        raise refused("a variable that is read in a way of its own", op)


def refused(what: str, op: Any) -> ConfigError:
    """The error for an op that is `what`."""
    return ConfigError(
        "These models cannot be trained in one step together.",
        where=f"{op.name}, an op of type {op.type}",
        expected="layers whose training step is made of ops without loops and hidden state",
        received=what,
        fix="Leave --vectorize out; --workers N trains several at a time.",
    )

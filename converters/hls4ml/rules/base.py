"""What rules are made of: the layer that a rule yields, the context that it asks, and the register of all rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from hgq.errors import LoweringError
from hgq.ir.graph import Const, Graph, Node
from hgq.numerics import Fixed

from .. import generated
from ..settings import Settings
from ..types import tensor_format, type_name

PREVIOUS = "<previous>"
"""In `Layer.inputs`: the rule's layer before this one."""


@dataclass(frozen=True)
class Layer:
    """One hls4ml layer.

    Args:
        value: Name of the graph's value that it computes; None for a step in between, read by the rule's next layer only.
        kind: hls4ml's class name.
        inputs: Names of the graph's values that it reads; ``<previous>`` is the rule's layer before.
        types: hls4ml type by attribute (``result``, ``accum``, ``weight``, …).
        attributes: The rest of the layer's dictionary.
        source: Path of the Keras layer.
    """

    value: str | None
    kind: str
    inputs: tuple[str, ...]
    types: Mapping[str, str]
    attributes: Mapping[str, Any]
    source: str = ""


Rule = Callable[["Context", Node], Iterator[Layer]]
RULES: dict[str, Rule] = {}


def lowers(op: str) -> Callable[[Rule], Rule]:
    """Declare the rule of one IR op: a generator of the layers that it becomes."""

    def register(rule: Rule) -> Rule:
        RULES[op] = rule
        return rule

    return register


@dataclass
class Context:
    """What rules ask and tell."""

    graph: Graph
    settings: Settings
    formats: Mapping[str, Fixed] = field(init=False)
    done: set[str] = field(default_factory=set)
    """Nodes that an earlier rule has absorbed."""

    def __post_init__(self) -> None:
        self.formats = self.graph.formats()

    def shape(self, value: str) -> tuple[int, ...]:
        return self.formats[value].shape

    def type_of(self, *values: str) -> str:
        """The narrowest hls4ml type of a tensor that can hold any of these values."""
        return type_name(*(self.formats[value] for value in values))

    def const(self, name: str) -> Const | None:
        return self.graph.consts.get(name)

    def only_user(self, value: str) -> Node | None:
        """The node that reads this value, if it is read once and is no output."""
        users = self.graph.users(value)
        return users[0] if len(users) == 1 and value not in self.graph.outputs else None

    def absorb_bias(self, node: Node, per_channel: bool) -> tuple[str, Const | None]:
        """The name of the value and the constant, if the only reader of `node` adds a constant to it."""
        user = self.only_user(node.name)
        if user is None or user.op != "add" or self.shape(user.name) != self.shape(node.name):
            return node.name, None
        other = next((self.const(name) for name in user.inputs if name != node.name), None)
        if other is None or (per_channel and not per_channel_const(other.mantissa.shape, self.shape(node.name))):
            return node.name, None
        self.done.add(user.name)
        return user.name, other


def where(node: Node) -> str:
    """How errors name a node."""
    return f"node {node.name} ({node.op}), layer {node.source or '?'}"


OTHER_WAY = "Export with --backend rtl, which takes every op and mode, or change this layer."


def refused(node: Node, what: str, expected: str | None, received: str | None, fix: str = OTHER_WAY) -> LoweringError:
    """The error of a node that hls4ml cannot take."""
    return LoweringError(
        what,
        where=where(node),
        expected=expected,
        received=received,
        fix=fix,
    )


def per_channel_const(shape: tuple[int, ...], value: tuple[int, ...]) -> bool:
    """Whether a constant of this shape has at most one number per last-axis element of a value."""
    return prod(shape[:-1]) == 1 and (not shape or shape[-1] in (1, value[-1])) and len(shape) <= len(value)


def mask_kbi(fixed: Fixed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """hls4ml's (k, B, I), each of shape (1, *shape): B and I count the sign; all 0 where nothing is held (hls4ml #1523)."""
    k, i, f = (part.astype(np.int16) for part in fixed.canonical().astuple())
    return k[None], (k + i + f)[None], (k + i)[None]


def function(
    context: Context, value: str | None, source: str, shape: tuple[int, ...], of: tuple[int, ...], expressions: list[str], result: str
) -> Layer:
    """A layer that is a C++ function of ours, which may read all of its operand; see `generated`.

    Args:
        context: The rules' context.
        value: As in `Layer`.
        source: What it reads.
        shape: Of the result.
        of: Shape of the operand.
        expressions: One in ``inp[…]`` for each element of the result.
        result: hls4ml type of the result.
    """
    dialect = context.settings.dialect
    text = dialect.gathered(expressions, prod(of)) if context.settings.stream else dialect.parallel(expressions)
    return Layer(value, generated.KIND, (source,), {"result": result}, generated.attributes(text, shape))


def cast(
    context: Context,
    value: str | None,
    source: str,
    fixed: Fixed,
    rounding: str = "TRN",
    overflow: str = "WRAP",
    *,
    result: str | None = None,
) -> Layer:
    """A cast of each element into its own format. The default changes no value, if the format can hold it.

    Args:
        context: The rules' context.
        value: As in `Layer`.
        source: What it reads.
        fixed: The formats; in a stream of more axes than one, they differ between channels only.
        rounding: As `hgq.ir.ops.quantize` has it.
        overflow: The same.
        result: hls4ml type of the result; None for the narrowest.
    """
    kind, dialect = result or type_name(fixed), context.settings.dialect
    if not context.settings.stream and context.settings.vendor.quantizers:
        attributes = {"mask_kbi": mask_kbi(fixed), "RND": rounding, "SAT": overflow, "fusible": None, "overrides": {}}
        return Layer(value, "FixedPointQuantizer", (source,), {"result": kind}, attributes)
    if len(fixed.shape) == 1 or not context.settings.stream:
        return function(context, value, source, fixed.shape, fixed.shape, generated.casts(dialect, fixed, rounding, overflow), kind)
    pixel = fixed.reshape((-1, fixed.shape[-1]))[0]
    text = dialect.each_packet(generated.casts(dialect, pixel, rounding, overflow), prod(fixed.shape[:-1]))
    return Layer(value, generated.KIND, (source,), {"result": kind}, generated.attributes(text, fixed.shape))


def kept(context: Context, value: str | None, source: str, fixed: Fixed, *, result: str | None = None) -> Layer:
    """A copy of a value in a layer of its own; `fixed` can hold every element."""
    return cast(context, value, source, tensor_format(fixed) if context.settings.stream else fixed, result=result)


def broadcast(context: Context, value: str | None, source: str, shape: tuple[int, ...], of: tuple[int, ...], kind: str) -> Layer:
    """The elements of a tensor of shape `of` as often as NumPy's broadcasting to `shape` repeats them."""
    numbers = np.broadcast_to(np.arange(prod(of)).reshape(of), shape)
    return function(context, value, source, shape, of, generated.picks(numbers.ravel().tolist()), kind)


def reshaped(context: Context, value: str | None, source: str, shape: tuple[int, ...], kind: str) -> Layer:
    """The same elements in another shape: free in parallel; in a stream the packets change."""
    if not context.settings.stream:
        return Layer(value, "Reshape", (source,), {"result": kind}, {"target_shape": list(shape)})
    return function(context, value, source, shape, shape, generated.picks(range(prod(shape))), kind)

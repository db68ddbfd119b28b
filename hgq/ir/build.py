"""`GraphBuilder`: how a layer's `to_ir` writes its part of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.ir import spec
from hgq.ir.graph import Const, Graph, Input, Node, by_name
from hgq.ir.ops import OPS
from hgq.numerics import Fixed, Ints, Overflow, Rounding


@dataclass(frozen=True)
class Ref:
    """A value under construction.

    Args:
        name: Its name in the graph.
        shape: Its shape without batch.
    """

    name: str
    shape: tuple[int, ...]


class GraphBuilder:
    """Collects ports, constants and nodes; `graph` checks and freezes them.

    Names are prefixed with the path of the layer whose `layer` block is open, and numbered when taken.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[Input] = []
        self._consts: list[Const] = []
        self._nodes: list[Node] = []
        self._taken: set[str] = set()
        self._path: list[str] = []

    @contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """What is added inside belongs to this Keras layer; nests."""
        self._path.append(name)
        try:
            yield
        finally:
            self._path.pop()

    @property
    def source(self) -> str:
        """Path of the layer being written."""
        return "/".join(self._path)

    def _name(self, name: str) -> str:
        full = "/".join([*self._path, name])
        unique, number = full, 1
        while unique in self._taken:
            number += 1
            unique = f"{full}.{number}"
        self._taken.add(unique)
        return unique

    def input(self, name: str, fixed: Fixed, rounding: Rounding, overflow: Overflow) -> Ref:
        """A port; `fixed` has the shape of one sample."""
        port = Input(self._name(name), fixed.shape, fixed.canonical(), rounding, overflow)
        self._inputs.append(port)
        return Ref(port.name, port.shape)

    def constant(self, mantissa: Ints, fixed: Fixed, name: str) -> Ref:
        """The integers ``mantissa * 2**-fixed.f``, each stored in its narrowest format."""
        const = Const.minimal(self._name(name), np.asarray(mantissa, np.int64), fixed.broadcast_to(np.shape(mantissa)).f)
        self._consts.append(const)
        return Ref(const.name, const.mantissa.shape)

    def quantize(self, x: Ref, fixed: Fixed, rounding: Rounding, overflow: Overflow, name: str = "quantize") -> Ref:
        """Round and overflow `x`; `fixed` is broadcast to its shape. Stochastic rounding becomes RND: hardware has no dice."""
        rounding = "RND" if rounding == "S_RND" else rounding
        return self.op("quantize", x, name=name, format=fixed.broadcast_to(x.shape).canonical(), rounding=rounding, overflow=overflow)

    def op(self, op: str, *inputs: Ref, name: str = "", **attrs: Any) -> Ref:
        """Any op of `hgq.ir.ops`; its result's shape is derived from the operands'."""
        node = Node(self._name(name or op), op, tuple(ref.name for ref in inputs), attrs, self.source)
        self._nodes.append(node)
        return Ref(node.name, self._shape(node, inputs))

    def _shape(self, node: Node, inputs: Sequence[Ref]) -> tuple[int, ...]:
        consts = {const.name for const in self._consts}
        samples = [np.zeros(ref.shape if ref.name in consts else (1, *ref.shape)) for ref in inputs]
        if node.op == "quantize":  # a format changes no shape, and plain arrays cannot quantize
            return inputs[0].shape
        return OPS[node.op].function(*samples, **node.attrs).shape[1:]

    def graph(self, *outputs: Ref, **meta: Any) -> Graph:
        """The finished graph, checked."""
        names = tuple(ref.name for ref in outputs)
        return spec.check(Graph(self.name, tuple(self._inputs), by_name(self._consts), tuple(self._nodes), names, meta))

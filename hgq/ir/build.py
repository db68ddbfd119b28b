"""`GraphBuilder`: how a layer's `to_ir` writes its part of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.errors import FreezeError
from hgq.ir import spec
from hgq.ir.graph import Const, Graph, Input, Node, by_name
from hgq.ir.ops import OPS
from hgq.ir.ports import settle_ports
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


@dataclass(frozen=True)
class RawRef(Ref):
    """A port before anything has said how it is quantized; `shape` may be a reshaped view of it."""


class GraphBuilder:
    """Collects ports, constants and nodes; `graph` checks and freezes them.

    Names are prefixed with the path of the layer whose `layer` block is open, and numbered when taken.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[Input] = []
        self._consts: list[Const] = []
        self._nodes: list[Node] = []
        self._raw: dict[str, tuple[int, ...]] = {}
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

    def raw_input(self, name: str, shape: tuple[int, ...]) -> Ref:
        """A port of real numbers; the quantizers that read it decide its format (`hgq.ir.ports`)."""
        ref = RawRef(self._name(name), shape)
        self._raw[ref.name] = shape
        return ref

    def constant(self, mantissa: Ints, fixed: Fixed, name: str) -> Ref:
        """The integers ``mantissa * 2**-fixed.f``, each stored in its narrowest format."""
        const = Const.minimal(self._name(name), np.asarray(mantissa, np.int64), fixed.broadcast_to(np.shape(mantissa)).f)
        self._consts.append(const)
        return Ref(const.name, const.mantissa.shape)

    def lookup(self, x: Ref, mantissa: Ints, result: Fixed, fixed: Fixed, name: str = "lookup") -> Ref:
        r"""What a table of integers ``mantissa * 2**-result.f`` holds for each element of `x`: see `hgq.ir.ops.lookup`.

        Args:
            x: Data, quantized to `fixed`.
            mantissa: The table, shape (\*element shape, entries).
            result: Formats of the entries, broadcast to the table; kept, since they are the wires behind the table.
            fixed: Formats of the data, broadcast to the shape of `x`.
            name: Of the node; the constant is ``NAME_table``.
        """
        mantissa = np.asarray(mantissa, np.int64)
        const = Const(self._name(f"{name}_table"), mantissa, result.broadcast_to(mantissa.shape).canonical())
        self._consts.append(const)
        return self.op("lookup", x, Ref(const.name, mantissa.shape), name=name, format=fixed.broadcast_to(x.shape).canonical())

    def quantize(self, x: Ref, fixed: Fixed, rounding: Rounding, overflow: Overflow, name: str = "quantize") -> Ref:
        """Round and overflow `x`; `fixed` is broadcast to its shape. Stochastic rounding becomes RND: hardware has no dice."""
        rounding = "RND" if rounding == "S_RND" else rounding
        attrs = {"format": fixed.broadcast_to(x.shape).canonical(), "rounding": rounding, "overflow": overflow}
        if isinstance(x, RawRef):
            self._nodes.append(Node(self._name(name), "quantize", (x.name,), attrs, self.source))
            return Ref(self._nodes[-1].name, x.shape)
        return self.op("quantize", x, name=name, **attrs)

    def op(self, op: str, *inputs: Ref, name: str = "", **attrs: Any) -> Ref:
        """Any op of `hgq.ir.ops`; its result's shape is derived from the operands'.

        Raises:
            FreezeError: a port reaches the op without having been quantized.
        """
        for ref in inputs:
            if isinstance(ref, RawRef):
                if op == "reshape":  # moving real numbers about is the host's business
                    return RawRef(ref.name, tuple(attrs["shape"]))
                raise FreezeError(
                    "A model input reaches arithmetic without a quantizer.",
                    where=f"input {ref.name}, layer {self.source}",
                    expected="a quantizer right behind every input",
                    received=f"op {op}",
                    fix="Put hgq.layers.QInput() behind keras.Input, or give this layer an input_quantizer.",
                )
        node = Node(self._name(name or op), op, tuple(ref.name for ref in inputs), attrs, self.source)
        self._nodes.append(node)
        return Ref(node.name, self._shape(node, inputs))

    def _shape(self, node: Node, inputs: Sequence[Ref]) -> tuple[int, ...]:
        consts = {const.name for const in self._consts}
        samples = [np.zeros(ref.shape if ref.name in consts else (1, *ref.shape)) for ref in inputs]
        if node.op in ("quantize", "lookup"):  # element by element, and plain arrays can do neither
            return inputs[0].shape
        return OPS[node.op].function(*samples, **node.attrs).shape[1:]

    def graph(self, *outputs: Ref, **meta: Any) -> Graph:
        """The finished graph, checked."""
        inputs, nodes, names = settle_ports(self._inputs, self._raw, self._nodes, [ref.name for ref in outputs])
        return spec.check(Graph(self.name, inputs, by_name(self._consts), nodes, names, meta))

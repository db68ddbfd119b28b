"""One QONNX model under construction: its nodes, constants and quantizers.

A ``Quant`` node has one bitwidth for all elements, and neither our RND (halves up) nor WRAP. So a quantizer is standard ONNX arithmetic,
exact in float32, and a ``Quant`` behind it that changes nothing and says what the numbers are; where a ``Quant`` alone computes the same,
it stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hgq import __version__
from hgq.errors import LoweringError
from hgq.ir.graph import Graph, Node
from hgq.numerics import Fixed

from . import proto

Lower = Callable[[Any, Node, list[str]], str]

LOWERINGS: dict[str, Lower] = {}


def lowers(*names: str) -> Callable[[Lower], Lower]:
    """Register ``function(lowering, node, operands) -> name of the result`` for ops."""

    def register(function: Lower) -> Lower:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return register


class Lowering:
    """One model under construction."""

    def __init__(self, graph: Graph, batch: int) -> None:
        self.graph, self.batch, self.model = graph, batch, proto.Model(graph.name)
        self.formats = graph.formats()
        self._count, self._here, self._source = 0, "", ""
        self._known: dict[tuple, str] = {}

    def run(self) -> bytes:
        """The whole file."""
        names: dict[str, str] = {}
        for port in self.graph.inputs:
            self._here = self._source = port.name
            self.model.inputs.append(proto.value_info(port.name, (self.batch, *port.shape)))
            names[port.name] = self.quantized(port.name, port.shape, port.format, port.rounding, port.overflow, None)
        for node in self.graph.nodes:
            self._here, self._source = node.name, node.source
            if node.op not in LOWERINGS:
                known = ", ".join(sorted(LOWERINGS))
                raise LoweringError("QONNX has no such op.", where=f"node {node.name}", expected=known, received=node.op)
            operands = [names[name] if name in names else self.constant_operand(name, node) for name in node.inputs]
            names[node.name] = LOWERINGS[node.op](self, node, operands)
        for number, name in enumerate(self.graph.outputs):
            shape = self.shape(name)
            port = f"output_{number}"
            self._emit("Identity", [names[name]], port, {}, "")
            self.model.outputs.append(proto.value_info(port, (self.batch, *shape)))
        return self.model.serialize("hgqc", __version__)

    # ---- pieces ----------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value, without batch."""
        return self.formats[name].shape

    def _emit(self, op: str, inputs: Sequence[str], output: str, attributes: dict[str, Any], domain: str) -> None:
        self.model.nodes.append(proto.node(op, inputs, output, attributes, domain, self._source))

    def op(
        self, op: str, inputs: Sequence[str], shape: Sequence[int], *, domain: str = "", code: int = proto.FLOAT, **attributes: Any
    ) -> str:
        """A node; `shape` is its result's, batch included. Returns the result's name."""
        self._count += 1
        output = f"{self._here}/{op.lower()}.{self._count}"
        self._emit(op, inputs, output, attributes, domain)
        self.model.infos.append(proto.value_info(output, shape, code))
        return output

    def sample(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """A node whose result has this shape for each sample."""
        return self.op(op, inputs, (self.batch, *shape), **attributes)

    def const(self, values: Any) -> str:
        """An initializer; float32 must hold the numbers exactly.

        Raises:
            LoweringError: it cannot.
        """
        values = np.asarray(values)
        stored = values.astype(np.int64) if values.dtype.kind == "i" else values.astype(np.float32)
        if values.dtype.kind == "f" and (stored.astype(np.float64) != values).any():
            raise self.refused("A constant has more bits than float32 holds.", "at most 24 significant bits")
        key = (stored.dtype.kind, stored.shape, stored.tobytes())
        if key not in self._known:
            self._known[key] = f"const_{len(self._known)}"
            self.model.tensors.append(proto.tensor(self._known[key], stored))
        return self._known[key]

    def refused(self, what: str, expected: str) -> LoweringError:
        """An error at the present node."""
        return LoweringError(
            what,
            where=f"node {self._here}, layer {self._source}",
            expected=expected,
            fix="Bound the bits of this layer's quantizers, or export with --backend rtl, whose integers are as wide as they need.",
        )

    def constant_operand(self, name: str, node: Node) -> str:
        """A constant: weights behind a ``Quant`` that says their type."""
        const = self.graph.consts[name]
        values = self.const(const.value)
        if node.op not in ("matmul", "conv", "einsum", "multiply"):
            return values
        return self.typed(values, const.value.shape, const.format)

    def typed(self, x: str, shape: Sequence[int], fixed: Fixed) -> str:
        """`x` behind a ``Quant`` that changes nothing: one type that holds all elements."""
        alive = fixed.width > 0
        if not alive.any():
            return x
        k, i, f = (int(part[alive].max()) for part in fixed.astuple())
        width = k + max(i + f, 1)
        if width > 24:  # int_quant computes its ends in float32
            return x
        return self.quant(x, shape, np.float64(2.0**-f), width + (k == 1 and width == 1), bool(k), False, "FLOOR")

    def quant(self, x: str, shape: Sequence[int], scale: Any, width: int, signed: bool, narrow: bool, rounding: str) -> str:
        """A ``Quant`` node, `shape` with what batch there is."""
        inputs = [x, self.const(scale), self.const(np.float64(0.0)), self.const(np.float64(width))]
        attributes = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": rounding}
        return self.op("Quant", inputs, shape, domain=proto.QUANT_DOMAIN, **attributes)

    # ---- the quantizer ----------------------------------------

    def quantized(self, x: str, shape: tuple[int, ...], fixed: Fixed, rounding: str, overflow: str, incoming: Fixed | None) -> str:
        """`x` rounded and overflowed into `fixed`, element by element: `Fixed.requantize` in float32.

        `incoming` is the proven format of x; None: any real number.
        """
        fixed = fixed.broadcast_to(shape)
        full = (self.batch, *shape)
        alone = self._as_quant(x, full, fixed, rounding, overflow, incoming)
        if alone is not None:
            return alone
        low, high = fixed.low.astype(np.float64), fixed.high.astype(np.float64)
        if overflow == "SAT_SYM":
            low = np.where(fixed.k == 1, -high, 0.0)
        u = self.op("Mul", [x, self.const(np.exp2(fixed.f.astype(np.float64)))], full)
        if overflow in ("SAT", "SAT_SYM"):  # first, so that real numbers from outside stay small; nothing between the ends moves
            u = self.op("Max", [u, self.const(low)], full)
            u = self.op("Min", [u, self.const(high)], full)
        u = self._rounded(u, full, rounding)
        if overflow in ("WRAP", "WRAP_SM"):
            u = self._wrapped(u, full, fixed, overflow)
        y = self.op("Mul", [u, self.const(np.exp2(-fixed.f.astype(np.float64)))], full)
        return self.typed(y, full, fixed)

    def _rounded(self, u: str, full: Sequence[int], rounding: str) -> str:
        if rounding == "RND_CONV":
            return self.op("Round", [u], full)
        if rounding == "RND":  # floor(u + 1/2) would round the sum; ceil(floor(2 u) / 2) is exact
            twice = self.op("Floor", [self.op("Mul", [u, self.const(2.0)], full)], full)
            return self.op("Ceil", [self.op("Mul", [twice, self.const(0.5)], full)], full)
        return self.op("Floor", [u], full)

    def _wrapped(self, u: str, full: Sequence[int], fixed: Fixed, overflow: str) -> str:
        """Integers modulo 2**width, into [low, high]; WRAP_SM: mirrored at both ends."""
        mirror = overflow == "WRAP_SM"
        width = fixed.width.astype(np.float64) + mirror
        low = np.where(mirror & (fixed.width > 0), 2.0 * fixed.low, fixed.low) if mirror else fixed.low.astype(np.float64)
        shifted = self.op("Sub", [u, self.const(low)], full)
        turns = self.op("Floor", [self.op("Mul", [shifted, self.const(np.exp2(-width))], full)], full)
        u = self.op("Sub", [u, self.op("Mul", [turns, self.const(np.exp2(width))], full)], full)
        if mirror:
            high = fixed.high.astype(np.float64)
            u = self.op("Min", [u, self.op("Sub", [self.const(2.0 * high + 1.0), u], full)], full)
            below = np.where(fixed.k == 1, 2.0 * fixed.low - 1.0, 0.0)
            flip = self.op("Mul", [u, self.const(np.where(fixed.k == 1, 1.0, 0.0))], full)
            u = self.op("Max", [u, self.op("Sub", [self.const(below), flip], full)], full)
            u = self.op("Mul", [u, self.const((fixed.width > 0).astype(np.float64))], full)
        return u

    def _as_quant(self, x: str, full: Sequence[int], fixed: Fixed, rounding: str, overflow: str, incoming: Fixed | None) -> str | None:
        """A ``Quant`` alone, where it computes the same."""
        modes = {"TRN": "FLOOR", "RND_CONV": "ROUND"}
        widths, signs = np.unique(fixed.width), np.unique(fixed.k)
        wraps = overflow in ("WRAP", "WRAP_SM")
        if len(widths) > 1 or len(signs) > 1 or not 2 <= widths[0] <= 24 or rounding not in modes:
            return None
        if wraps and (incoming is None or (incoming.broadcast_to(fixed.shape).i >= fixed.i).any() or (incoming.k > signs[0]).any()):
            return None
        scale = np.exp2(-fixed.f.astype(np.float64))
        scale = scale.flat[0] if (scale == scale.flat[0]).all() else scale
        return self.quant(x, full, scale, int(widths[0]), bool(signs[0]), overflow == "SAT_SYM" and bool(signs[0]), modes[rounding])

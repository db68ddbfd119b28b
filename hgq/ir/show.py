"""A graph as tables: what ``hgq inspect``, ``hgq diff`` and the report print. Rows are plain dicts of JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hgq.ir.graph import Const, Graph, Node
from hgq.ir.ops import MOVES, OPS
from hgq.numerics import Fixed

Row = dict[str, Any]


def declared_format(graph: Graph, name: str) -> Fixed:
    """The wires of a value as the hardware has them: what its port, ``quantize`` node or table says, else the proven format.

    Ops that only move elements (`hgq.ir.ops.MOVES`) keep what their operands declare.
    """
    for port in graph.inputs:
        if port.name == name:
            return port.format
    if name in graph.consts:
        return graph.consts[name].format
    node = graph.node(name)
    if node.op == "quantize":
        return node.attrs["format"]
    if node.op == "lookup":  # the table keeps the formats that its entries were quantized to
        entries = graph.consts[node.inputs[1]].format.astuple()
        return Fixed(*(part.max(axis=-1) for part in entries)).broadcast_to(node.attrs["format"].shape)
    if node.op in MOVES:
        operands = [declared_format(graph, operand).astuple() for operand in node.inputs]
        moved = (OPS[node.op].function(*(part[None] for part in parts), **node.attrs)[0] for parts in zip(*operands, strict=True))
        return Fixed(*(part.astype(np.int64) for part in moved))
    return graph.formats()[name]


def table(graph: Graph) -> list[Row]:
    """One row for each port and node, in order of definition.

    Returns:
        Rows with ``name``, ``op`` (``"input"`` for a port), ``layer``, ``inputs``, ``shape``, ``elements``, ``dead`` (elements that can
        only be 0), ``format`` (text: smallest to largest k, i and f of the live elements), ``bits_mean`` and ``bits_max`` (dead elements
        count as 0 bits), ``bits`` (their sum: wires), ``rounding`` and ``overflow`` (or None), ``constants`` (names),
        ``constants_nonzero``, ``constants_total``, ``output`` (whether it leaves the graph).
    """
    rows = [
        _row(graph, port.name, op="input", layer=port.name, inputs=(), rounding=port.rounding, overflow=port.overflow)
        for port in graph.inputs
    ]
    for node in graph.nodes:
        modes = {key: node.attrs.get(key) for key in ("rounding", "overflow")}
        rows.append(_row(graph, node.name, op=node.op, layer=node.source, inputs=node.inputs, **modes))
    return rows


def _row(graph: Graph, name: str, *, op: str, layer: str, inputs: tuple[str, ...], rounding: Any, overflow: Any) -> Row:
    fixed = declared_format(graph, name)
    width = fixed.width
    consts = [graph.consts[key] for key in inputs if key in graph.consts]
    return {
        "name": name,
        "op": op,
        "layer": layer,
        "inputs": list(inputs),
        "shape": list(fixed.shape),
        "elements": int(width.size),
        "dead": int(np.count_nonzero(width == 0)),
        "format": summary(fixed),
        "bits_mean": round(float(width.mean()), 3) if width.size else 0.0,
        "bits_max": int(width.max(initial=0)),
        "bits": int(width.sum()),
        "rounding": rounding,
        "overflow": overflow,
        "constants": [const.name for const in consts],
        "constants_nonzero": int(sum(np.count_nonzero(const.mantissa) for const in consts)),
        "constants_total": int(sum(const.mantissa.size for const in consts)),
        "output": name in graph.outputs,
    }


def summary(fixed: Fixed) -> str:
    """A format in one short line, such as ``k 1  i 0..3  f 2..6``; ``all dead`` when nothing but 0 fits."""
    alive = fixed.width > 0
    if not alive.any():
        return "all dead"
    return "  ".join(f"{name} {_span(part[alive])}" for name, part in zip("kif", fixed.astuple(), strict=True))


def _span(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}..{high}"


def diff(a: Graph, b: Graph) -> list[Row]:
    """What differs between two graphs; empty when their digests are equal.

    Returns:
        Rows with ``kind`` (``graph``, ``input``, ``output``, ``node``, ``constant``), ``name``, ``what`` (in words), ``a`` and ``b``
        (text, or None where the thing is absent).
    """
    if a.digest() == b.digest():
        return []
    rows: list[Row] = []

    def differs(kind: str, name: str, what: str, left: Any, right: Any) -> None:
        rows.append({"kind": kind, "name": name, "what": what, "a": _text(left), "b": _text(right)})

    if a.name != b.name:
        differs("graph", a.name, "name", a.name, b.name)
    for name, port, other in _pairs({p.name: p for p in a.inputs}, {p.name: p for p in b.inputs}):
        if port is None or other is None:
            differs("input", name, "only in one", port and summary(port.format), other and summary(other.format))
            continue
        _compare_formats("input", name, port.format, other.format, differs)
        for what in ("rounding", "overflow"):
            if getattr(port, what) != getattr(other, what):
                differs("input", name, what, getattr(port, what), getattr(other, what))
    for name, node, other in _pairs({n.name: n for n in a.nodes}, {n.name: n for n in b.nodes}):
        if node is None or other is None:
            differs("node", name, "only in one", node and _call(node), other and _call(other))
        else:
            _compare_nodes(node, other, differs)
    for name, const, other in _pairs(a.consts, b.consts):
        if const is None or other is None:
            differs("constant", name, "only in one", const and _size(const), other and _size(other))
        elif const.mantissa.shape != other.mantissa.shape:
            differs("constant", name, "shape", const.mantissa.shape, other.mantissa.shape)
        else:
            changed = const.value != other.value
            if changed.any():
                largest = float(np.abs(const.value - other.value).max())
                differs(
                    "constant", name, f"{int(changed.sum())} of {changed.size} values, at most by {largest:g}", _size(const), _size(other)
                )
            elif not const.format.equals(other.format):
                _compare_formats("constant", name, const.format, other.format, differs)
    if a.outputs != b.outputs:
        differs("output", a.name, "names", ", ".join(a.outputs), ", ".join(b.outputs))
    if not rows:  # the same things in another order
        differs("graph", a.name, "order of definition", ", ".join(n.name for n in a.nodes), ", ".join(n.name for n in b.nodes))
    return rows


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


def _compare_nodes(node: Node, other: Node, differs: Any) -> None:
    for what in ("op", "inputs", "source"):
        left, right = getattr(node, what), getattr(other, what)
        if left != right:
            differs("node", node.name, what, left, right)
    for key in dict.fromkeys([*node.attrs, *other.attrs]):
        left, right = node.attrs.get(key), other.attrs.get(key)
        if isinstance(left, Fixed) and isinstance(right, Fixed):
            _compare_formats("node", node.name, left, right, differs)
        elif left != right:
            differs("node", node.name, key, left, right)


def _compare_formats(kind: str, name: str, a: Fixed, b: Fixed, differs: Any) -> None:
    if a.shape != b.shape:
        differs(kind, name, "shape", a.shape, b.shape)
    elif not a.equals(b):
        changed = np.logical_or.reduce([x != y for x, y in zip(a.astuple(), b.astuple(), strict=True)])
        what = f"format of {int(changed.sum())} of {changed.size} elements, {int(a.width.sum())} -> {int(b.width.sum())} bits"
        differs(kind, name, what, summary(a), summary(b))


def _call(node: Node) -> str:
    return f"{node.op}({', '.join(node.inputs)})"


def _size(const: Const) -> str:
    return f"{np.count_nonzero(const.mantissa)} of {const.mantissa.size} non-zero, {int(const.format.width.sum())} bits"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)

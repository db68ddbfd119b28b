"""The invariants of a graph. Checked after freezing, after loading and after every pass."""

from __future__ import annotations

import re

import numpy as np

from hgq.errors import GraphError, HGQError
from hgq.ir import tables
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.ops import OPS
from hgq.numerics import OVERFLOWS, ROUNDINGS, Fixed

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./\-]{0,199}")
CONST_WIDTH = 53
FORMATTED = ("quantize", "lookup")
"""Ops with formats of their operand's elements."""


def check(graph: Graph) -> Graph:
    """Return the graph if it keeps every invariant.

    Raises:
        GraphError: naming the node and the rule it breaks.
    """
    if not graph.inputs or not graph.outputs:
        raise GraphError("A graph needs an input and an output.", where=graph.name)
    _check_names(graph)
    for port in graph.inputs:
        _check_format(port.format, port.shape, f"input {port.name}")
        _check_modes(port.rounding, port.overflow, f"input {port.name}")
        if port.rounding == "S_RND":
            raise GraphError("A port cannot round stochastically.", where=f"input {port.name}", fix="Use RND.")
    for const in graph.consts.values():
        _check_const(const)
    defined = {port.name for port in graph.inputs}
    for node in graph.nodes:
        _check_node(node, graph, defined)
        defined.add(node.name)
    for name in graph.outputs:
        if name not in defined:
            raise GraphError("An output is never defined.", where=f"graph {graph.name}", expected="a port or a node", received=name)
    _check_shapes(graph)
    return graph


def _check_names(graph: Graph) -> None:
    names = [port.name for port in graph.inputs] + list(graph.consts) + [node.name for node in graph.nodes]
    seen: set[str] = set()
    for name in names:
        if not NAME.fullmatch(name):
            raise GraphError("A value's name has characters it must not have.", expected=NAME.pattern, received=repr(name))
        if name in seen:
            raise GraphError("Two values share a name.", where=f"graph {graph.name}", received=name)
        seen.add(name)
    for key, const in graph.consts.items():
        if key != const.name:
            raise GraphError("A constant is filed under another name.", expected=const.name, received=key)


def _check_format(fixed: Fixed, shape: tuple[int, ...], where: str) -> None:
    if fixed.shape != tuple(shape):
        raise GraphError(
            "A format does not have the shape of its value.", where=where, expected=str(tuple(shape)), received=str(fixed.shape)
        )


def _check_modes(rounding: str, overflow: str, where: str) -> None:
    for what, name, known in (("rounding", rounding, ROUNDINGS), ("overflow", overflow, OVERFLOWS)):
        if name not in known:
            raise GraphError(f"Unknown {what} mode.", where=where, expected=", ".join(known), received=repr(name))


def _check_const(const: Const) -> None:
    where = f"constant {const.name}"
    if const.mantissa.dtype != np.int64:
        raise GraphError("A constant must be int64.", where=where, received=str(const.mantissa.dtype))
    _check_format(const.format, const.mantissa.shape, where)
    if const.format.width.max(initial=0) > CONST_WIDTH:
        raise GraphError("A constant is too wide.", where=where, expected=f"at most {CONST_WIDTH} bits")
    if ((const.mantissa < const.format.low) | (const.mantissa > const.format.high)).any():
        raise GraphError("A constant does not fit its format.", where=where)


def _check_node(node: Node, graph: Graph, defined: set[str]) -> None:
    where = f"node {node.name} ({node.op}), layer {node.source or '?'}"
    spec = OPS.get(node.op)
    if spec is None:
        raise GraphError("Unknown op.", where=where, expected=", ".join(OPS), received=node.op)
    if len(node.inputs) != spec.arity:
        raise GraphError("Wrong number of operands.", where=where, expected=str(spec.arity), received=str(len(node.inputs)))
    if not set(spec.attrs) <= set(node.attrs) <= {*spec.attrs, *spec.optional}:
        raise GraphError("Wrong attributes.", where=where, expected=", ".join(spec.attrs), received=", ".join(node.attrs))
    for position, name in enumerate(node.inputs):
        if name not in defined and name not in graph.consts:
            raise GraphError("A value is used before it is defined.", where=where, received=name)
        if position in spec.constant and name not in graph.consts:
            raise GraphError("An operand must be a constant.", where=where, received=name)
    if all(name in graph.consts for name in node.inputs):
        raise GraphError("A node reads constants only.", where=where, fix="Fold it into one constant.")
    if node.op not in FORMATTED:
        return
    if not isinstance(node.attrs["format"], Fixed):
        raise GraphError("A format must be a Fixed.", where=where, received=repr(node.attrs["format"]))
    if node.op == "lookup":
        _check_table(graph.consts[node.inputs[1]].mantissa.shape, node.attrs["format"], where)
        return
    _check_modes(node.attrs["rounding"], node.attrs["overflow"], where)
    if node.attrs["rounding"] == "S_RND":
        raise GraphError("A frozen graph cannot round stochastically.", where=where, fix="Use RND: its expectation is the same grid.")


def _check_table(shape: tuple[int, ...], fixed: Fixed, where: str) -> None:
    """A table has as many entries as the widest element can ask for, and its other axes broadcast to the elements."""
    if not shape or shape[-1] != tables.entries(fixed):
        expected = f"{tables.entries(fixed)} entries on the last axis: 2**bits of the widest element"
        raise GraphError("A table does not fit its index.", where=where, expected=expected, received=f"shape {shape}")
    pairs = zip(shape[-2::-1], fixed.shape[::-1], strict=False)
    if len(shape) - 1 > len(fixed.shape) or any(own not in (1, size) for own, size in pairs):
        expected = f"(…, {shape[-1]}), broadcast to elements of shape {fixed.shape}"
        raise GraphError("A table does not broadcast to its elements.", where=where, expected=expected, received=str(shape))


def _check_shapes(graph: Graph) -> None:
    """Shapes and formats follow from the graph; deriving them finds whatever does not fit together."""
    try:
        formats = graph.formats()
    except HGQError:
        raise
    except (ValueError, TypeError, IndexError) as error:
        raise GraphError("Shapes do not fit together.", where=f"graph {graph.name}", received=str(error)) from error
    for node in graph.nodes:
        if node.op in FORMATTED:
            _check_format(node.attrs["format"], formats[node.inputs[0]].shape, f"node {node.name}")

"""Run a graph: over integers it is the golden model, over ranges a proof, over alkaid's symbols the RTL lowering."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgq.errors import DataError, GraphError, Int64Overflow
from hgq.ir import contraction
from hgq.ir.graph import Graph, Input
from hgq.ir.integers import IntArray
from hgq.ir.ops import OPS

CHUNK = 4096
"""Most samples at a time, so that memory does not grow with the data."""

ELEMENTS = 1 << 24
"""Most elements of all values together at a time; fewer samples where a graph is large."""


def evaluate(graph: Graph, ports: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of a graph, given its ports as arrays of any type that follows the NumPy protocol.

    Args:
        graph: The graph.
        ports: Arrays by input name, each with a leading batch axis, already in the ports' formats.

    Returns:
        Ports and node results by name.

    Raises:
        Int64Overflow: naming the node, when a golden value would not fit.
        GraphError: naming the node, when a table is read outside its format.
    """
    values: dict[str, Any] = dict(ports)
    for node in graph.nodes:
        operands = [values[name] if name in values else graph.consts[name].value for name in node.inputs]
        try:
            values[node.name] = OPS[node.op].function(*operands, **node.attrs)
        except (Int64Overflow, GraphError) as error:
            where = f"node {node.name} ({node.op}), layer {node.source or '?'}"
            raise type(error)(error.what, where=where, expected=error.expected, received=error.received, fix=error.fix) from None
    return values


def run(graph: Graph, x: ArrayLike | Mapping[str, ArrayLike], *, trace: bool = False) -> dict[str, NDArray[np.float64]]:
    """The golden model: what the hardware computes, bit for bit.

    Args:
        graph: The graph.
        x: Real numbers by input name, shape (n, *shape); a bare array when there is one input.
        trace: Return every port and node, not only the outputs.

    Returns:
        Exact real numbers as float64 by name, shape (n, *shape).

    Raises:
        DataError: missing inputs, wrong shapes, NaN or infinity.
        Int64Overflow: a value would not fit 62 bits.
    """
    data = check_samples(graph, x)
    samples = len(next(iter(data.values())))
    parts: dict[str, list[NDArray[np.float64]]] = {}
    chunk = _chunk(graph)
    for start in range(0, max(samples, 1), chunk):
        ports = quantize_inputs(graph, {name: value[start : start + chunk] for name, value in data.items()})
        values = evaluate(graph, ports)
        for name in values if trace else graph.outputs:
            parts.setdefault(name, []).append(values[name].reals())
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}


def _chunk(graph: Graph) -> int:
    shapes = graph.shapes()
    elements = sum(prod(shape) for name, shape in shapes.items() if name not in graph.consts)
    # Convolutions and sums of windows spread their operand into one row for each window.
    rows = [prod(shapes[n.name][:-1]) * prod(shapes[n.inputs[1]][:-1]) * n.attrs["groups"] for n in graph.nodes if n.op == "conv"]
    for node in graph.nodes:  # an Einstein sum of two data computes all products before it adds
        if node.op == "einsum" and node.inputs[1] not in graph.consts:
            parts = contraction.read(node.attrs["equation"])
            rows.append(prod(parts.sizes(*(shapes[name] for name in node.inputs)).values()))
    rows += [prod(shapes[n.name]) * prod(n.attrs["pool"]) for n in graph.nodes if n.op == "sum_pool"]
    return min(CHUNK, max(ELEMENTS // (elements + 2 * max(rows, default=0)), 1))


def quantize_inputs(graph: Graph, data: Mapping[str, NDArray[np.float64]]) -> dict[str, IntArray]:
    """What the host does: real numbers into the ports' formats."""
    return {port.name: quantize_input(port, data[port.name]) for port in graph.inputs}


def quantize_input(port: Input, x: NDArray[np.float64]) -> IntArray:
    """Real numbers, shape (n, *port.shape), into one port's format."""
    return IntArray.of_formats(port.format.quantize(x, port.rounding, port.overflow), np.broadcast_to(port.format.f, x.shape))


def check_samples(graph: Graph, x: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """Samples by input name as float64 of the right shapes.

    Raises:
        DataError: missing or unknown inputs, wrong shapes, differing numbers of samples, NaN or infinity.
    """
    if not isinstance(x, Mapping):
        if len(graph.inputs) != 1:
            names = ", ".join(port.name for port in graph.inputs)
            raise DataError("A bare array cannot feed several inputs.", expected=f"a mapping with {names}", received=type(x).__name__)
        x = {graph.inputs[0].name: x}
    data: dict[str, NDArray[np.float64]] = {}
    for port in graph.inputs:
        where = f"input {port.name!r} of {graph.name}"
        if port.name not in x:
            raise DataError("An input has no data.", where=where, expected=f"key {port.name!r}", received=", ".join(map(str, x)))
        value = np.asarray(x[port.name])
        if value.dtype.kind not in "fiub":
            raise DataError("Samples must be numbers.", where=where, expected="floats or integers", received=f"dtype {value.dtype}")
        value = value.astype(np.float64)
        if value.shape[1:] != port.shape:
            expected = f"(n, {', '.join(map(str, port.shape))})"
            fix = "Give one row a sample, in the shape and with the scaling that the model was trained on."
            raise DataError("Samples have the wrong shape.", where=where, expected=expected, received=str(value.shape), fix=fix)
        if not np.isfinite(value).all():
            first = tuple(int(index) for index in np.argwhere(~np.isfinite(value))[0])
            raise DataError(
                "Samples contain NaN or infinity.",
                where=f"{where}, first at index {first}",
                expected="finite numbers",
                received=f"{np.count_nonzero(~np.isfinite(value))} of {value.size} are not",
                fix="Drop or impute these samples before quantizing; fixed-point hardware has no NaN.",
            )
        data[port.name] = value
    if len({len(value) for value in data.values()}) != 1:
        sizes = ", ".join(f"{name}: {len(value)}" for name, value in data.items())
        raise DataError("Inputs differ in their number of samples.", where=graph.name, expected="equal numbers", received=sizes)
    return data

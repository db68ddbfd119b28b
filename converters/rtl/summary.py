"""What the pipeline will cost, in all and for each node, before any device is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from hgq.ir.graph import Node

from .depth import carry_depth
from .logic import logic_of
from .pipeline import Pipeline
from .stages import bits_of
from .trace import Traced

NOTHING: Mapping[str, Any] = MappingProxyType(
    {
        "lut_cost": 0.0,
        "reg_bits": 0,
        "latency_cycles": 0,
        "ii": 1,
        "stages": 0,
        "max_delay": 0.0,
        "stage_delay": 0.0,
        "carry_depth": 0,
        "logic": {},
        "per_node": [],
    }
)
"""Summary of a model whose outputs are constants."""


def summary(pipeline: Pipeline) -> dict[str, Any]:
    """Counts for `hgq.estimate.structure.Structure.of`.

    Returns:
        ``lut_cost`` (adder-graph cost: about one LUT for each bit of each addition), ``reg_bits`` (of all pipeline registers),
        ``latency_cycles`` (clock edges from input to output, 0 if combinational), ``ii`` (cycles between two samples: 1), ``stages``,
        ``max_delay`` (from input to output, in additions), ``stage_delay`` (of the longest stage), ``carry_depth`` (most carry cells on
        a path between two registers), ``logic`` (see `logic.FEATURES`), and ``per_node``: rows with ``node``, ``op``, ``source`` (Keras
        layer path), ``lut_cost`` (they add up to the whole; logic that layers share belongs to the first) and ``delay``.
    """
    comb, bits = pipeline.comb, bits_of(pipeline)
    return {
        "lut_cost": comb.cost,
        "reg_bits": pipeline.register_bits,
        "latency_cycles": pipeline.latency_cycles,
        "ii": 1,
        "stages": pipeline.stages,
        "max_delay": float(comb.latency[1]),
        "stage_delay": max(pipeline.stage_delays, default=0.0),
        "carry_depth": carry_depth(bits),
        "logic": logic_of(bits),
        "per_node": per_node(pipeline.traced, comb.cost),
    }


def per_node(traced: Traced, total: float) -> list[dict[str, Any]]:
    """Cost and delay of each node of the optimised graph.

    alkaid optimises across nodes and forgets where an operation came from. So the cost is counted on the program before that, where each
    operation belongs to the first node whose value needs it, and scaled to the `total` after it.
    """
    program, rows = program_of(traced), []
    delay = {
        name: max((program.ops[index].latency for index in indices if index in program.live), default=0.0)
        for name, indices in program.elements.items()
    }
    for node, new in program.by_node():
        before = max((delay[name] for name in node.inputs if name in delay), default=0.0)
        cost = sum(program.ops[index].cost for index in new)
        rows.append(
            {
                "node": node.name,
                "op": node.op,
                "source": node.source,
                "lut_cost": float(cost),
                "delay": float(max(delay[node.name] - before, 0.0)),
            }
        )
    counted = sum(row["lut_cost"] for row in rows)
    for row in rows:
        row["lut_cost"] *= total / counted if counted else 0.0
    return rows


@dataclass(frozen=True, eq=False)
class Program:
    """The adder graph before alkaid optimises across nodes.

    Args:
        nodes: Of the optimised graph.
        ops: alkaid's operations, operands before users.
        elements: For each port and node, the operation of each element of its value.
        live: Operations that an output of the model needs.
    """

    nodes: tuple[Node, ...]
    ops: list[Any]
    elements: Mapping[str, Any]
    live: set[int]

    def by_node(self) -> Iterator[tuple[Node, set[int]]]:
        """Each node with its own operations: those that no node before it needs."""
        seen: set[int] = set()
        for node in self.nodes:
            yield node, _cone(self.ops, self.elements[node.name], seen) & self.live


def program_of(traced: Traced) -> Program:
    """All values of the graph as outputs of one program."""
    from alkaid.trace import trace
    from alkaid.trace.passes import add_surrogate

    graph = traced.lowered
    names = [*(port.name for port in graph.inputs), *(node.name for node in graph.nodes)]
    values = [np.asarray(traced.values[name]).ravel() for name in names]
    comb = add_surrogate(trace(traced.inputs, [variable for value in values for variable in value], optimize=False))
    ends = np.cumsum([len(value) for value in values])
    elements = {name: comb.out_idxs[end - len(value) : end] for name, value, end in zip(names, values, ends, strict=True)}
    live = _cone(comb.ops, [index for name in graph.outputs for index in elements[name]], set())
    return Program(graph.nodes, list(comb.ops), elements, live)


def _cone(ops: list[Any], ends: list[int], seen: set[int]) -> set[int]:
    """Operations that `ends` depend on and that are not in `seen` yet; adds them there."""
    new: set[int] = set()
    stack = [index for index in ends if index >= 0]
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        new.add(index)
        stack.extend(ops[index].addr)
    return new

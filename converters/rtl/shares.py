"""Who needs which addition: the cost of each element of each node's result.

Outputs of a product share additions. An addition that n elements of one result need is charged to each of them by 1/n: the Shapley value
of splitting the bill, which is the only fair rule by which every addition is paid for once and equal needs pay equally.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .summary import Program, program_of
from .trace import Traced


@dataclass(frozen=True, eq=False)
class Shares:
    """One node's part of the adder graph; arrays of the shape of its result.

    Args:
        cost: Adder-graph cost, each operation split equally among the elements that need it.
        adders: Additions and subtractions that the element needs, shared ones included.
        shared: Those that other elements of the result need too.
        widest: Bits of the widest of them.
    """

    cost: NDArray[np.float64]
    adders: NDArray[np.int64]
    shared: NDArray[np.int64]
    widest: NDArray[np.int64]


def shares(traced: Traced, total: float) -> dict[str, Shares]:
    """For each node of the optimised graph; an operation belongs to the first node whose value needs it, as in `summary.per_node`.

    Args:
        traced: An adder graph.
        total: What all costs add up to.
    """
    program, found = program_of(traced), {}
    for node, new in program.by_node():
        found[node.name] = _split(program, new, program.elements[node.name], np.shape(traced.values[node.name])[1:])
    counted = sum(float(part.cost.sum()) for part in found.values())
    scale = total / counted if counted else 0.0
    return {name: Shares(part.cost * scale, part.adders, part.shared, part.widest) for name, part in found.items()}


def _split(program: Program, new: set[int], elements: Any, shape: tuple[int, ...]) -> Shares:
    """Walk back from the elements: an operation is needed by all that need one of its users."""
    needed: defaultdict[int, int] = defaultdict(int)  # a set of elements as the bits of a number
    for number, index in enumerate(elements):
        if index in new:
            needed[index] |= 1 << number
    cost, counts = np.zeros(len(elements)), np.zeros((3, len(elements)), np.int64)
    for index in sorted(new, reverse=True):  # users come after what they use
        op, needs = program.ops[index], needed.pop(index, 0)
        for operand in op.addr:
            if operand in new:
                needed[operand] |= needs
        who = _bits(needs)
        cost[who] += op.cost / max(len(who), 1)
        if op.opcode in (0, 1):
            counts[0, who] += 1
            counts[1, who] += len(who) > 1
            counts[2, who] = np.maximum(counts[2, who], int(sum(op.qint.kif)))
    return Shares(cost.reshape(shape), *(part.reshape(shape) for part in counts))


def _bits(number: int) -> NDArray[np.int64]:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "little")
    return np.nonzero(np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little"))[0]


def as_mapping(found: Mapping[str, Shares]) -> dict[str, dict[str, NDArray[Any]]]:
    """What `Backend.shares` returns."""
    return {name: {"cost": part.cost, "adders": part.adders, "shared": part.shared, "widest": part.widest} for name, part in found.items()}

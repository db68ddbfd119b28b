"""How many carry cells a signal passes between two registers: what decides the period, besides the wires."""

from __future__ import annotations

from .bits import Bits, Chain

POSITIONS = 2
"""Of a carry cell of ECP5."""


def carry_depth(bits: Bits) -> int:
    """The most carry cells of `POSITIONS` positions on a path between two registers, or ports.

    A carry goes up its chain cell by cell, and a cell waits for the bits that it adds. Every bit has a larger number than those that it is
    made of, so one pass in their order is enough.
    """
    passed = [0] * len(bits.kind)
    cells: dict[int, list[int]] = {}
    deepest = 0
    for bit, (kind, made_of) in enumerate(zip(bits.kind, bits.made_of, strict=True)):
        match kind:
            case "register":
                deepest = max(deepest, passed[made_of[0]])
            case "not":
                passed[bit] = passed[made_of[0]]
            case "gate":
                passed[bit] = max((passed[source] for source in bits.gate_inputs(bit)), default=0)
            case "chain":
                number, position = made_of
                if number not in cells:
                    cells[number] = _cells(bits.chains[number], passed)
                passed[bit] = cells[number][position // POSITIONS]
            case "product":
                passed[bit] = max((passed[source] for factor in bits.products[made_of[0]] for source in factor), default=0)
            case "table":
                passed[bit] = max((passed[source] for source in bits.tables[made_of[0]].index), default=0)
    return max([deepest, *(passed[bit] for bit in bits.outputs)])


def _cells(chain: Chain, passed: list[int]) -> list[int]:
    """Cells passed behind each cell of a chain."""
    out: list[int] = []
    for begin in range(0, len(chain.a), POSITIONS):
        operands = (*chain.a[begin : begin + POSITIONS], *chain.b[begin : begin + POSITIONS])
        out.append(max([*(passed[bit] for bit in operands), *out[-1:]]) + 1)
    return out

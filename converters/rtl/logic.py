"""What the Verilog of a pipeline asks a synthesiser for, in counts that decide how many LUTs come of it.

alkaid's cost counts the bits of each addition. A synthesiser also sees which of those bits have one operand only, what a ReLU or a
multiplexer in front of an addition lets it merge, what is really in a table, and which values only wait for a few cycles. These counts say
so; `hgq.estimate.fit` finds what each is worth on a family of devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np

FEATURES: Mapping[str, str] = {
    "add_pairs": "distinct pairs of bits that are added",
    "add_bits": "bits of carry chains of additions",
    "adds": "additions",
    "subtract_pairs": "distinct pairs of bits that are subtracted",
    "subtract_bits": "bits of carry chains of subtractions",
    "subtracts": "subtractions",
    "negate": "bits of negations",
    "constant": "bits of additions of constants",
    "relu": "bits that a sign blanks",
    "mux": "bits chosen between two values",
    "product": "products of bits in multiplications of two values",
    "product_rows": "rows of those",
    "table_leaf": "distinct functions of six bits in tables",
    "table_tree": "multiplexers above them that need a LUT",
    "bitwise": "bits of logic between values",
    "carry4": "groups of four bits in carry chains",
    "carry8": "groups of eight bits in carry chains",
    "ternary": "bits of additions of three operands",
    "registers": "bits of registers",
    "wait_3": "register bits in chains that only wait, of three cycles or more",
    "waits": "such chains, by bits",
}
"""Name -> meaning."""


def logic(pipeline: Any) -> dict[str, float]:
    """Counts of a `hgq.converters.rtl.pipeline.Pipeline`, by the names in `FEATURES`."""
    found: Counter[str] = Counter()
    for comb in pipeline.fsm.logic.values():
        uses = comb.ref_count
        for index, op in enumerate(comb.ops):
            if uses[index] and _width(op):
                found.update(_of(comb, op))
    found["registers"] = pipeline.register_bits
    found.update(_waits(pipeline))
    return {name: float(found[name]) for name in FEATURES}


def _width(op: Any) -> int:
    return int(sum(op.qint.kif))


def _of(comb: Any, op: Any) -> Mapping[str, float]:
    operands = [comb.ops[index] for index in op.addr]
    match op.opcode:
        case 0 | 1:
            return _addition(operands[0], operands[1], op, op.data[0], subtract=op.opcode == 1)
        case -2:
            return _chain("negate", _width(op))
        case 4:
            return _chain("constant", _width(op))
        case 2:
            return {"relu": _width(op)} if operands[0].qint.min < 0 else {}
        case 6:
            return {"mux": _width(op)}
        case 7:
            a, b = sorted(_width(operand) for operand in operands)
            return {"product": a * b, "product_rows": a}
        case 8:
            values = comb.lookup_tables[op.data[0]].padded_table(operands[0].qint)
            numbers = np.where(np.isnan(values), 0, values).astype(np.int64)
            return _table(numbers.tobytes(), _width(operands[0]), _width(op))
        case 9 | 10:
            return {"bitwise": max(_width(operand) for operand in operands)}
        case 11:
            return _chain("ternary", _width(op))
    return {}


def _chain(name: str, bits: int) -> dict[str, float]:
    return {name: bits, "carry4": ceil(bits / 4), "carry8": ceil(bits / 8)}


def _addition(a: Any, b: Any, out: Any, data_shift: int, subtract: bool) -> dict[str, float]:
    """Bits of ``a ± (b << shift)`` as ``shift_adder`` computes them: a LUT for each pair of bits, wires where there is only one.

    Sign bits repeat, and a pair that repeats is one LUT. A synthesised adder alone has just these LUTs.
    """
    (signed_a, _, fa), (signed_b, _, fb) = a.qint.kif, b.qint.kif
    shift = data_shift + fa - fb
    low_a, low_b = max(-shift, 0), max(shift, 0)  # where each begins, above the lower one
    end_a, end_b = low_a + _width(a), low_b + _width(b)
    top = _width(out) + max(fa, fb - data_shift) - out.qint.kif[2]
    begin, live = max(low_a, low_b), top
    if not signed_a:
        live = min(live, end_a)
    if not signed_b:
        live = min(live, end_b)
    both = max(min(live, max(end_a, end_b)) - begin, 0)
    if not both and not subtract:
        return {}  # the operands do not overlap: wires
    chain = max(top - (min(low_a, low_b) if subtract and shift < 0 else begin), 0)
    name = "subtract" if subtract else "add"
    return {f"{name}_pairs": both, f"{name}_bits": chain, f"{name}s": 1, "carry4": ceil(chain / 4), "carry8": ceil(chain / 8)}


@lru_cache(maxsize=4096)
def _table(numbers: bytes, bits_in: int, bits_out: int) -> Mapping[str, float]:
    """Distinct, non-trivial functions of the lowest six index bits, over all output bits, and the tree that chooses among them.

    Two levels of the tree are multiplexers that come with the LUTs; above, a LUT chooses among four. A model has few tables, at many places
    and in many epochs of a training to a budget: each is counted once.

    Args:
        numbers: What the table holds, int64.
        bits_in: Of the index.
        bits_out: Of an entry.
    """
    entries = np.frombuffer(numbers, np.int64)
    leaves: set[bytes] = set()
    tree = 0
    block = min(64, 1 << bits_in)
    for bit in range(bits_out):
        functions = (entries >> bit & 1).astype(np.uint8).reshape(-1, block)
        level = [row.tobytes() for row in functions]
        leaves.update(_canonical(row) for row in level if not _trivial(row))
        depth = 0
        while len(level) > 1:
            pairs = {(low, high) for low, high in zip(level[::2], level[1::2], strict=True) if low != high}
            depth += 1
            if depth > 2 and depth % 2:
                tree += len(pairs)
            level = [low + high for low, high in zip(level[::2], level[1::2], strict=True)]
    return {"table_leaf": len(leaves), "table_tree": tree}


def _canonical(row: bytes) -> bytes:
    """A function and its complement are one LUT."""
    return row if row[0] == 0 else bytes(1 - value for value in row)


def _trivial(row: bytes) -> bool:
    """Constant, or one of the index bits."""
    values = np.frombuffer(row, np.uint8)
    if values.min() == values.max():
        return True
    index = np.arange(len(values))
    return any(np.array_equal(values, index >> bit & 1) for bit in range(len(values).bit_length() - 1))


def _waits(pipeline: Any) -> Mapping[str, int]:
    """Register bits of values that pass three or more stages unchanged: synthesis makes shift registers of LUTs out of those."""
    if not pipeline.clocked:
        return {}
    waited: dict[int, int] = {}
    chains: Counter[str] = Counter()

    def end(cycles: Iterable[tuple[int, int]]) -> None:
        for length, width in cycles:
            if length >= 3:
                chains["wait_3"] += length * width
                chains["waits"] += width

    for comb in pipeline.fsm.logic.values():
        following: dict[int, int] = {}
        passed: set[int] = set()
        for position, index in enumerate(comb.out_idxs):
            op = comb.ops[index] if index >= 0 else None
            source = op.data[0] if op is not None and op.opcode == -1 else None
            following[position] = waited.get(source, 1) + 1 if source is not None else 1
            if source is not None:
                passed.add(source)
        inputs = {op.data[0]: _width(op) for op in comb.ops if op.opcode == -1}
        end((length, inputs.get(source, 0)) for source, length in waited.items() if source not in passed)
        waited = following
    return chains

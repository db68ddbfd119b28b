"""What the Verilog of a pipeline asks a synthesiser for, in counts that decide how many LUTs come of it.

alkaid's cost counts the bits of each addition. A synthesiser also sees which of those have one operand only or occur twice, what a ReLU in
front of an addition lets it merge, what is really in a table, what only waits for a few cycles and what nobody reads. These counts follow
every bit (`bits`); a LUT is counted where the mapping must have one. `hgq.estimate.fit` finds what each is worth on a family of devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from heapq import heappop, heappush
from math import ceil
from typing import Any

import numpy as np

from .bits import LUT_INPUTS, ONE, Bits, Chain, bits_of

FEATURES: Mapping[str, str] = {
    "pairs": "distinct pairs of bits that are added or subtracted",
    "chain_bits": "positions of carry chains",
    "chains": "carry chains",
    "carry4": "groups of four positions in carry chains",
    "carry8": "groups of eight positions in carry chains",
    "joined": "positions of sums of which another sum is an operand, where three bits vary",
    "joined_constant": "those where two of them vary",
    "gates": "bits of functions of up to six bits that cannot be part of what reads them",
    "wide": "further LUTs for functions of more bits",
    "merged": "bits of functions that are part of an addition",
    "inverters": "bits that are inverted alone",
    "dsp": "products for multiplier blocks: 9 bits or more",
    "small_products": "products of fewer bits",
    "small_area": "products of bits in those",
    "dsp_pairs": "pairs of bits of the additions that a multiplier block can do",
    "table_leaf": "distinct functions of six bits in larger tables",
    "table_tree": "multiplexers above them that need a LUT",
    "registers": "distinct bits of registers, shift registers aside",
    "dsp_registers": "bits of registers at the ends of multiplier blocks",
    "shift_registers": "chains of three or more registers that only wait",
    "waiting": "registers in those",
}
"""Name -> meaning."""

DSP_WIDTH = 9
"""Yosys' `synth_xilinx` gives products of so many bits to a DSP48."""
DSP_OPERANDS = (25, 18)
"""Bits of the operands of one."""
SHIFT_REGISTER = (3, 16)
"""Registers in a row that Yosys puts into a LUT: at least, and at most in one."""


def logic(pipeline: Any) -> dict[str, float]:
    """Counts of a `hgq.converters.rtl.pipeline.Pipeline`, by the names in `FEATURES`."""
    found = needed(bits_of(pipeline))
    return {name: float(found[name]) for name in FEATURES}


def needed(bits: Bits) -> Counter[str]:
    """Counts of what the output port of `bits` needs."""
    return _Needed(bits).count()


class _Needed:
    """What the output port needs, from behind: every bit is met after all that read it, since it has a smaller number."""

    def __init__(self, bits: Bits) -> None:
        self.bits = bits
        self.found: Counter[str] = Counter()
        self.needed: set[int] = set()
        self.waiting: list[int] = []
        self.pairs: set[tuple[int, int, bool]] = set()
        self.merged: set[int] = set()
        self.top_of: dict[tuple[str, int], int] = {}
        self.registers: list[int] = []
        self.readers: Counter[int] = Counter()
        """How often a bit is read by anything but a register."""
        self.delays: Counter[int] = Counter()
        """How often it is read by a register."""
        self.block_readers: Counter[int] = Counter()
        """How often it is read by a product."""

    def count(self) -> Counter[str]:
        for bit in self.bits.outputs:
            self._want(bit)
        while self.waiting:
            bit = -heappop(self.waiting)
            getattr(self, f"_{self.bits.kind[bit]}")(bit, *self.bits.made_of[bit])
        self.found["merged"] = len(self.merged - self.needed)
        for (kind, number), top in self.top_of.items():
            if kind == "chain":
                self._whole_chain(self.bits.chains[number], top + 1)
            elif kind == "product":
                self._whole_product(*self.bits.products[number], top + 1)
        self._whole_registers()
        return self.found

    def _want(self, bit: int) -> None:
        """As a signal of its own."""
        if bit > ONE and bit not in self.needed:
            self.needed.add(bit)
            heappush(self.waiting, -bit)

    def _read(self, bit: int) -> None:
        if bit > ONE:
            self.readers[bit] += 1
            self._want(bit)

    def _sources(self, bit: int) -> set[int]:
        """Signals that a bit depends on, through gates."""
        match self.bits.kind[bit]:
            case "constant":
                return set()
            case "not":
                return self._sources(self.bits.made_of[bit][0])
            case "gate":
                return set().union(*map(self._sources, self.bits.gate_inputs(bit)))
        return {bit}

    # ---- by kind of bit -----------------------------------------------------------------------------------------------------------------

    def _port(self, bit: int, *_: Any) -> None:
        pass

    def _register(self, bit: int, source: int) -> None:
        self.registers.append(bit)
        self.delays[source] += 1
        self._want(source)

    def _not(self, bit: int, source: int) -> None:
        self.found["inverters"] += 1
        self._read(source)

    def _gate(self, bit: int, function: Any, *_: int) -> None:
        inputs = set(self.bits.gate_inputs(bit))
        sources = set().union(*map(self._sources, inputs))
        self.found["gates"] += 1
        if len(sources) > LUT_INPUTS:
            self.found["wide"] += max(ceil((len(inputs) - 1) / (LUT_INPUTS - 1)) - 1, 0)
            sources = inputs
        for source in sources:
            self._read(source)

    def _chain(self, bit: int, number: int, position: int) -> None:
        chain = self.bits.chains[number]
        for below in range(self._new(bit, "chain", number, position), position + 1):
            self._position(chain, chain.a[below], chain.b[below])

    def _new(self, bit: int, kind: str, number: int, position: int) -> int:
        """First position of a block that nothing has needed yet; the highest that is needed comes first."""
        before = self.top_of.get((kind, number), -1)
        self.top_of[kind, number] = max(before, position)
        return before + 1

    def _position(self, chain: Chain, x: int, y: int) -> None:
        """One position: a LUT for both operands, whose carry cell also reads the first of them."""
        if x <= ONE or y <= ONE:
            self.found["inverters"] += int(chain.subtract and y > ONE)
            self._read(x)
            self._read(y)
            return
        pair = (min(x, y), max(x, y), chain.subtract)
        if pair not in self.pairs and x != y:
            self.pairs.add(pair)
            self.found["dsp_pairs" if chain.in_dsp else "pairs"] += 1
            sources = self._sources(x) | self._sources(y)
            if len(sources) <= LUT_INPUTS:
                if self.bits.kind[y] == "gate":
                    self.merged.add(y)
            else:
                sources = {x, y}
            for source in sources:
                self._read(source)
        self._read(x)

    def _product(self, bit: int, number: int, position: int) -> None:
        if self._new(bit, "product", number, position) == 0:
            for word in self.bits.products[number]:
                for source in word:
                    if source > ONE:
                        self.block_readers[source] += 1
                    self._want(source)

    def _table(self, bit: int, number: int, position: int) -> None:
        if self._new(bit, "table", number, position) == 0:
            table = self.bits.tables[number]
            self.found.update(table_logic(table.entries, len(table.index), table.width))
            for source in table.index:
                self._read(source)

    # ---- whole blocks -------------------------------------------------------------------------------------------------------------------

    def _whole_chain(self, chain: Chain, width: int) -> None:
        if chain.in_dsp:
            return
        self.found.update(chains=1, chain_bits=width, carry4=ceil(width / 4), carry8=ceil(width / 8))
        live = chain.joined[:width]
        self.found.update(joined=sum(count >= 3 for count in live), joined_constant=live.count(2))

    def _whole_product(self, a: tuple[int, ...], b: tuple[int, ...], width: int) -> None:
        short, long = sorted((len(a), len(b)))
        if short >= 2 and width >= DSP_WIDTH:
            self.found["dsp"] += ceil(long / DSP_OPERANDS[0]) * ceil(short / DSP_OPERANDS[1])
        else:
            self.found.update(small_products=1, small_area=short * long)

    def _whole_registers(self) -> None:
        """Those that only wait are shift registers; those around products are in their blocks."""
        following: dict[int, int] = {}
        alone: list[int] = []
        for bit in self.registers:
            source = self.bits.made_of[bit][0]
            if self._only_multiplied(bit) or self._only_from_product(source):
                self.found["dsp_registers"] += 1
            else:
                alone.append(bit)
                if self.bits.kind[source] == "register" and not self.readers[source] and self.delays[source] == 1:
                    following[source] = bit
        starts = set(alone) - set(following.values())
        for bit in starts:
            length, last = 1, bit
            while last in following:
                length, last = length + 1, following[last]
            if length < SHIFT_REGISTER[0]:
                self.found["registers"] += length
            else:
                self.found.update(shift_registers=ceil(length / SHIFT_REGISTER[1]), waiting=length)

    def _only_multiplied(self, bit: int) -> bool:
        return bool(self.block_readers[bit]) and not self.readers[bit] and not self.delays[bit]

    def _only_from_product(self, source: int) -> bool:
        """Whether a product, or a sum in its block, goes nowhere but to this register."""
        kind = self.bits.kind[source]
        in_block = kind == "product" or (kind == "chain" and self.bits.chains[self.bits.made_of[source][0]].in_dsp)
        return in_block and not self.readers[source] and self.delays[source] == 1


@lru_cache(maxsize=4096)
def table_logic(entries: bytes, bits_in: int, bits_out: int) -> Mapping[str, int]:
    """Distinct, non-trivial functions of the lowest six index bits, over all output bits, and the tree that chooses among them.

    Two levels of the tree are multiplexers that come with the LUTs; above, a LUT chooses among four. A model has few tables, at many places
    and in many epochs of a training to a budget: each is counted once.

    Args:
        entries: What the table holds, int64.
        bits_in: Of the index.
        bits_out: Of an entry.
    """
    numbers = np.frombuffer(entries, np.int64)
    leaves: set[bytes] = set()
    tree = 0
    block = min(64, 1 << bits_in)
    for bit in range(bits_out):
        functions = (numbers >> bit & 1).astype(np.uint8).reshape(-1, block)
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

"""What the Verilog of a pipeline asks a synthesiser for, in counts that decide how many LUTs come of it.

alkaid's cost counts the bits of each addition. A synthesiser also sees which of those have one operand only or occur twice, what a ReLU in
front of an addition lets it merge, what is really in a table, what only waits for a few cycles and what nobody reads. These counts follow
every bit (`bits`); a LUT is counted where the mapping must have one. `hgq.estimate.fit` finds what each is worth on a family of devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from heapq import heappop, heappush
from math import ceil
from typing import Any

from .bits import ONE, Bits, Chain, in_multiplier
from .stages import bits_of
from .tables import IN_SMALL_BLOCKS, LUT_INPUTS, blocks, table_logic

FEATURES: Mapping[str, str] = {
    "pairs": "distinct pairs of bits that are added or subtracted",
    "chain_bits": "positions of carry chains",
    "chains": "carry chains",
    "carry2": "twice the groups of two positions in carry chains",
    "dsp_carry2": "those of additions that a multiplier block can do",
    "carry4": "groups of four positions in carry chains",
    "carry8": "groups of eight positions in carry chains",
    "joined": "positions of sums of which another sum is an operand, where three bits vary",
    "joined_constant": "those where two of them vary",
    "gates": "bits of functions of up to six bits that cannot be part of what reads them",
    "wide": "further LUTs for functions of more bits",
    "further": "LUTs of four inputs that functions of five and six bits take beyond the first",
    "merged": "bits of functions that are part of an addition",
    "inverters": "bits that are inverted alone",
    "dsp": "products for multiplier blocks: 9 bits or more",
    "squares": "those of a value with itself",
    "small_products": "products of fewer bits that are no function of six",
    "small_area": "products of two bits in those",
    "dsp_pairs": "pairs of bits of the additions that a multiplier block can do, before or after its product",
    "table_leaf": "distinct functions of six bits, in tables of which bits depend on seven or eight",
    "table_small_node": "gates of two inputs in diagrams of those",
    "table_node": "gates of two inputs in diagrams of tables of which bits depend on more",
    "middle_leaf": "the first, of tables next to registers that are block RAM where blocks are taken early",
    "middle_small_node": "the second, of the same tables",
    "middle_node": "the third",
    "middle_blocks": "block RAMs of these tables",
    "blocks": "block RAMs of larger tables next to registers",
    "block_registers": "registers behind those",
    "registers": "distinct bits of registers, shift registers aside",
    "middle_registers": "those behind tables that are block RAM where blocks are taken early",
    "dsp_registers": "bits of registers at the ends of multiplier blocks",
    "shift_registers": "chains of three or more registers that only wait",
    "waiting": "registers in those",
}
"""Name -> meaning."""

DSP_OPERANDS = (25, 18)
"""Bits of the operands of one."""
SHIFT_REGISTER = (3, 16)
"""Registers in a row that Yosys puts into a LUT: at least, and at most in one."""


def logic(pipeline: Any) -> dict[str, float]:
    """Counts of a `hgq.converters.rtl.pipeline.Pipeline`, by the names in `FEATURES`."""
    return logic_of(bits_of(pipeline))


def logic_of(bits: Bits) -> dict[str, float]:
    """The same of its bits."""
    found = needed(bits)
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
        self.kept_by: dict[int, int] = {}
        """The register that reads it last."""
        self.factors: dict[int, tuple[int, ...]] = {}
        """First bit of a longer factor -> the factor: a multiplier block can do the addition that it comes from."""
        self.before_products: set[int] = set()
        """Chains that are such additions."""

    def count(self) -> Counter[str]:
        for bit in self.bits.outputs:
            self._read(bit)
        while self.waiting:
            bit = -heappop(self.waiting)
            getattr(self, f"_{self.bits.kind[bit]}")(bit, *self.bits.made_of[bit])
        self.found["merged"] = len(self.merged - self.needed)
        for (kind, number), top in self.top_of.items():
            if kind == "chain":
                self._whole_chain(self.bits.chains[number], top + 1, number in self.before_products)
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
        self.kept_by[source] = bit
        self._want(source)

    def _not(self, bit: int, source: int) -> None:
        self.found["inverters"] += 1
        self._read(source)

    def _gate(self, bit: int, function: Any, *_: int) -> None:
        inputs = set(self.bits.gate_inputs(bit))
        sources = set().union(*map(self._sources, inputs))
        self.found["gates"] += 1
        self.found["further"] += _further(function, len(inputs), len(sources))
        if len(sources) > LUT_INPUTS:
            self.found["wide"] += max(ceil((len(inputs) - 1) / (LUT_INPUTS - 1)) - 1, 0)
            sources = inputs
        for source in sources:
            self._read(source)

    def _chain(self, bit: int, number: int, position: int) -> None:
        chain, new = self.bits.chains[number], self._new(bit, "chain", number, position)
        if new == 0 and self._is_before_product(bit - position, position + 1):
            self.before_products.add(number)
        for below in range(new, position + 1):
            if number in self.before_products:
                self._in_front(chain.a[below], chain.b[below])
            else:
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

    def _is_before_product(self, first: int, width: int) -> bool:
        """Whether the bits from this on are a factor that nothing else reads, perhaps by way of a register."""
        factor = self.factors.get(self.kept_by.get(first, first), ())
        if len(factor) != width:
            return False
        for bit, read in zip(range(first, first + width), factor, strict=True):
            kept = self.kept_by.get(bit)
            if read != (kept or bit) or self.readers[bit] or self.block_readers[read] != 1:
                return False
            if kept and (self.delays[bit] != 1 or self.block_readers[bit] or self.readers[kept] or self.delays[kept]):
                return False
        return True

    def _in_front(self, x: int, y: int) -> None:
        """A position of an addition in front of a product."""
        self.found["dsp_pairs"] += int(x > ONE and y > ONE)
        for source in (x, y):
            if source > ONE:
                self.block_readers[source] += 1
                self._want(source)

    def _product(self, bit: int, number: int, position: int) -> None:
        if self._new(bit, "product", number, position) == 0:
            a, b = self.bits.products[number]
            in_block = in_multiplier(a, b, position + 1)
            readers = self.block_readers if in_block else self.readers
            if in_block and a != b:
                factor = a if len(a) >= len(b) else b
                self.factors[factor[0]] = factor
            self.found["squares"] += int(in_block and a == b)
            for source in (*a, *b):
                if source > ONE:
                    readers[source] += 1
                self._want(source)

    def _table(self, bit: int, number: int, position: int) -> None:
        if self._new(bit, "table", number, position) == 0:
            table = self.bits.tables[number]
            bits_in = len(table.index)
            size = "middle" if table.clocked << bits_in > IN_SMALL_BLOCKS else "table"
            if table.in_block:
                self.found["blocks"] += blocks(bits_in, table.clocked)
            else:
                self.found.update({f"{size}_{name}": count for name, count in table_logic(table.entries, bits_in, table.wide).items()})
                self.found["middle_blocks"] += blocks(bits_in, table.clocked) if size == "middle" else 0
            for source in table.index:
                self._read(source)

    # ---- whole blocks -------------------------------------------------------------------------------------------------------------------

    def _whole_chain(self, chain: Chain, width: int, before_product: bool) -> None:
        if chain.in_dsp or before_product:
            self.found["dsp_carry2"] += 2 * ceil(width / 2)
            return
        self.found.update(chains=1, chain_bits=width, carry2=2 * ceil(width / 2), carry4=ceil(width / 4), carry8=ceil(width / 8))
        live = chain.joined[:width]
        self.found.update(joined=sum(count >= 3 for count in live), joined_constant=live.count(2))

    def _whole_product(self, a: tuple[int, ...], b: tuple[int, ...], width: int) -> None:
        short, long = sorted((len(a), len(b)))
        if in_multiplier(a, b, width):
            self.found["dsp"] += ceil(long / DSP_OPERANDS[0]) * ceil(short / DSP_OPERANDS[1])
        elif short == 1 or len({bit for bit in (*a, *b) if bit > ONE}) <= LUT_INPUTS:
            self.found["gates"] += width
        else:
            area = sum(min(long, max(width - row, 0)) for row in range(short))
            self.found.update(small_products=1, small_area=area)

    def _whole_registers(self) -> None:
        """Those that only wait are shift registers; those around products are in their blocks."""
        following: dict[int, int] = {}
        alone: list[int] = []
        for bit in self.registers:
            source = self.bits.made_of[bit][0]
            if kind := self._in_block(bit, source):
                self.found[f"{kind}_registers"] += 1
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

    def _in_block(self, bit: int, source: int) -> str:
        """The kind of block that a register is part of: in front of a product, or all that reads what comes out of one or of a table."""
        if self.block_readers[bit] and not self.readers[bit] and not self.delays[bit]:
            return "dsp"
        if self.readers[source] or self.delays[source] != 1:
            return ""
        kind, made_of = self.bits.kind[source], self.bits.made_of[source]
        if kind == "chain":
            return "dsp" if self.bits.chains[made_of[0]].in_dsp else ""
        if kind == "product":
            a, b = self.bits.products[made_of[0]]
            return "dsp" if in_multiplier(a, b, self.top_of["product", made_of[0]] + 1) else ""
        if kind == "table":
            table = self.bits.tables[made_of[0]]
            return "block" if table.in_block else "middle" if table.clocked << len(table.index) > IN_SMALL_BLOCKS else ""
        return ""


def _further(function: Any, inputs: int, sources: int) -> int:
    """LUTs of four inputs beyond one: any function of n bits takes 2 ** (n - 4), gates in a row one for each three more."""
    if isinstance(function, bytes) and inputs > 4:
        return (1 << inputs - 4) - 1
    return max(ceil((sources - 1) / 3) - 1, 0)

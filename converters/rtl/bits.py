"""Every bit of a pipeline as a synthesiser sees it: wires, registers, gates, positions of carry chains, bits of products and tables.

The operations of alkaid's program are words; `stages` follows them bit by bit through shifts, quantizers and registers, so that what a
bit really is, and what it shares with another, is known before anything is synthesised. `logic` counts what is needed of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hgq.numerics import Ints

from .tables import IN_BLOCKS, LUT_INPUTS, Function, functions

ZERO, ONE = 0, 1
"""The two constant bits; every other number names a bit that varies, and is larger than those it is made of."""
Word = list[int]
"""Bits of a value, the least significant first."""


MULTIPLIER_WIDTH = 9
"""Yosys' `synth_xilinx` gives products of so many bits to a DSP48."""


@dataclass(frozen=True)
class Chain:
    """An addition, from the lowest position where both operands have a bit.

    Args:
        a: Bits of the first operand.
        b: Bits of the second, as many.
        subtract: Whether `b` is subtracted.
        joined: Where an operand is all of another sum that nobody else reads, so that Yosys adds all three at once: how many of the bits
            at each position vary. Else empty.
        in_dsp: Whether a multiplier block can do this addition after its product.
        carry: What is carried into the lowest position: 1 for a subtraction, 0 for an addition, save behind positions of constants.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    subtract: bool
    joined: tuple[int, ...]
    in_dsp: bool
    carry: int


@dataclass(frozen=True)
class Table:
    """A look-up table.

    Args:
        entries: What it holds, int64.
        index: Index bits.
        wide: Positions of bits of an entry that depend on more than `LUT_INPUTS` index bits: the others are gates.
        clocked: Bits of an entry that vary, if the table is next to a register, so that it may be block RAM; else 0.
    """

    entries: bytes
    index: tuple[int, ...]
    wide: tuple[int, ...]
    clocked: int

    @property
    def in_block(self) -> bool:
        """Whether it is block RAM wherever there is any."""
        return self.clocked << len(self.index) > IN_BLOCKS


@dataclass
class Bits:
    """All bits of a pipeline, by number.

    Args:
        kind: What a bit is: ``port``, ``register``, ``not``, ``gate``, ``chain``, ``product`` or ``table``.
        made_of: Of a register or ``not`` its bit, of a gate its function and bits, else the number of the chain, product or table and the
            position in it.
        outputs: Bits of the output port.
    """

    kind: list[str] = field(default_factory=lambda: ["constant", "constant"])
    made_of: list[tuple[Any, ...]] = field(default_factory=lambda: [(), ()])
    chains: list[Chain] = field(default_factory=list)
    products: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    outputs: Word = field(default_factory=list)
    _known: dict[Hashable, int] = field(default_factory=dict)

    def bit(self, kind: str, *made_of: Any) -> int:
        """The bit that is made so: the same number for the same thing."""
        key = (kind, *made_of)
        if key not in self._known:
            self._known[key] = len(self.kind)
            self.kind.append(kind)
            self.made_of.append(made_of)
        return self._known[key]

    def gate_inputs(self, bit: int) -> Iterator[int]:
        """Bits that a gate reads."""
        return (part for part in self.made_of[bit][1:] if part > ONE)

    # ---- gates --------------------------------------------------------------------------------------------------------------------------

    def invert(self, x: int) -> int:
        """``~x``."""
        if x <= ONE:
            return ONE - x
        return self.made_of[x][0] if self.kind[x] == "not" else self.bit("not", x)

    def blank(self, x: int, sign: int) -> int:
        """``x & ~sign``, as a ReLU does."""
        if ZERO in (x, self.invert(sign)) or x == sign:
            return ZERO
        if x == ONE:
            return self.invert(sign)
        return x if sign == ZERO else self.bit("gate", "blank", x, sign)

    def choose(self, key: int, x: int, y: int) -> int:
        """``key ? x : y``."""
        if x == y or key <= ONE:
            return x if key == ONE or x == y else y
        if x <= ONE and y <= ONE:
            return key if x == ONE else self.invert(key)
        return self.bit("gate", "choose", key, x, y)

    def both(self, name: int, x: int, y: int) -> int:
        """``x & y``, ``x | y`` or ``x ^ y``, for `name` 0, 1 and 2."""
        x, y = sorted((x, y))
        if x == y:
            return ZERO if name == 2 else x
        if x == ZERO:
            return ZERO if name == 0 else y
        if x == ONE:
            return (y, ONE, self.invert(y))[name]
        return self.bit("gate", ("and", "or", "xor")[name], x, y)

    def block(self, kind: str, number: int, width: int) -> Word:
        """Output bits of a product, chain or table."""
        return [self.bit(kind, number, position) for position in range(width)]

    def registered(self, word: Word) -> Word:
        """A word a cycle later."""
        return [bit if bit <= ONE else self.bit("register", bit) for bit in word]

    # ---- words --------------------------------------------------------------------------------------------------------------------------

    def add(self, a: Word, b: Word, shape: AdderShape, in_dsp: bool = False, joined: bool = False) -> Word:
        """``a ± (b << shift)``, as ``shift_adder`` writes it."""
        low_a, low_b = max(-shape.shift, 0), max(shape.shift, 0)
        width = shape.width + shape.drop
        a, b = extended(a, shape.signed_a, width, low_a), extended(b, shape.signed_b, width, low_b)
        begin = 0 if shape.subtract and shape.shift < 0 else min(low_a + low_b, width)
        out = list((a if shape.shift > 0 else b)[:begin])
        while begin < width and (b[begin] == ZERO or (a[begin] == ZERO and not shape.subtract)):
            out.append(a[begin] if b[begin] == ZERO else b[begin])
            begin += 1
        a, b = a[begin:], b[begin:]
        carry = int(shape.subtract)
        while a and max(a[0], b[0]) <= ONE:  # constants at the low end come to constants, and to what they carry
            low = a[0] + (b[0] ^ shape.subtract) + carry
            carry = low >> 1
            out.append(low & 1)
            a, b = a[1:], b[1:]
        if 0 < len(a) <= 2:  # Yosys makes gates of those
            first = self.both(2, a[0], b[0])
            out.append(first if carry == shape.subtract else self.invert(first))
            inputs = sorted({bit for bit in (*a, *b) if bit > ONE})
            out += [self.bit("gate", ("second", shape.subtract), *inputs) if inputs else ZERO] * (len(a) - 1)
        elif a:
            number = self._chain(Chain(tuple(a), tuple(b), shape.subtract, self._joined(a, b) if joined else (), in_dsp, carry))
            out += self.block("chain", number, len(a))
        return out[shape.drop :]

    def _chain(self, chain: Chain) -> int:
        key = ("chain", chain)
        if key not in self._known:
            self._known[key] = len(self.chains)
            self.chains.append(chain)
        return self._known[key]

    def _joined(self, a: Word, b: Word) -> tuple[int, ...]:
        """At each position of a sum, how many bits vary: of its operands, and in place of one that is a whole sum, of that one's."""
        counts, joined = [0] * len(a), False
        for word in (a, b):
            number = self._whole_chain(word)
            joined |= number is not None
            for position, bit in enumerate(word):
                parts = [bit]
                if number is not None and bit > ONE:
                    inner, at = self.chains[number], self.made_of[bit][1]
                    parts = [inner.a[at], inner.b[at]]
                counts[position] += sum(part > ONE for part in parts)
        return tuple(counts) if joined else ()

    def _whole_chain(self, word: Word) -> int | None:
        """The chain whose positions are all of a word, less the zeros above it."""
        first = word[0]
        if self.kind[first] != "chain" or self.made_of[first][1] != 0:
            return None
        number, live = self.made_of[first][0], len(word) - word[::-1].count(ZERO)
        same = live == len(self.chains[number].a) and all(self.made_of[bit] == (number, k) for k, bit in enumerate(word[:live]))
        return number if same else None

    def multiply(self, a: Word, b: Word, width: int) -> Word:
        """``a * b``."""
        self.products.append((tuple(a), tuple(b)))
        return self.block("product", len(self.products) - 1, width)

    def look_up(self, entries: Ints, index: Word, width: int, clocked: bool = False) -> Word:
        """Entry number `index`; `clocked` if a register is next to the table."""
        found = functions(entries.tobytes(), len(index), width)
        live = sum(bool(inputs) for _, inputs in found)
        wide = tuple(position for position, (_, inputs) in enumerate(found) if len(inputs) > LUT_INPUTS)
        table = Table(entries.tobytes(), tuple(index), wide, live if clocked else 0)
        number = self._table(table) if wide or table.in_block else -1
        out = []
        for position, function in enumerate(found):
            apart = function[1] and (position in wide or table.in_block)
            out.append(self.bit("table", number, position) if apart else self._function(function, index))
        return out

    def _table(self, table: Table) -> int:
        key = ("table", table)
        if key not in self._known:
            self._known[key] = len(self.tables)
            self.tables.append(table)
        return self._known[key]

    def _function(self, function: Function, index: Word) -> int:
        """A constant, an index bit or a gate."""
        values, inputs = function
        if not inputs:
            return values[0]
        if values[0]:
            return self.invert(self._function((bytes(1 - value for value in values), inputs), index))
        bits = [index[position] for position in inputs]
        return bits[0] if len(bits) == 1 else self.bit("gate", values, *bits)


@dataclass(frozen=True)
class AdderShape:
    """Parameters of an addition: signs, output width, lowest bits dropped, shift of the second operand, whether it is subtracted."""

    signed_a: bool
    signed_b: bool
    width: int
    drop: int
    shift: int
    subtract: bool


def extended(word: Sequence[int], signed: bool, width: int, low: int) -> Word:
    """At least `width` bits, zeros below."""
    fill = word[-1] if signed and word else ZERO
    return ([ZERO] * low + [*word] + [fill] * (width - low - len(word)))[:width]


def in_multiplier(a: Sequence[int], b: Sequence[int], width: int) -> bool:
    """Whether a product of `width` bits is for a multiplier block."""
    return min(len(a), len(b)) >= 2 and width >= MULTIPLIER_WIDTH

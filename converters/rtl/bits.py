"""Every bit of a pipeline as a synthesiser sees it: wires, registers, gates, positions of carry chains, bits of products and tables.

The operations of alkaid's program are words; `bits_of` follows them bit by bit through shifts, quantizers and registers, so that what a
bit really is, and what it shares with another, is known before anything is synthesised. `logic` counts what is needed of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, log2
from typing import Any

import numpy as np

from hgq.numerics import Ints

ZERO, ONE = 0, 1
"""The two constant bits; every other number names a bit that varies, and is larger than those it is made of."""
Word = list[int]
"""Bits of a value, the least significant first."""
LUT_INPUTS = 6
"""Tables of at most so many index bits are gates: their outputs may share LUTs with what follows."""


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
    """A look-up table of more than `LUT_INPUTS` index bits: entries as int64 bytes, index bits, bits of an entry."""

    entries: bytes
    index: tuple[int, ...]
    width: int


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

    # ---- words --------------------------------------------------------------------------------------------------------------------------

    def add(self, a: Word, b: Word, shape: AdderShape, in_dsp: bool = False, joined: bool = False) -> Word:
        """``a ± (b << shift)``, as ``shift_adder`` writes it."""
        low_a, low_b = max(-shape.shift, 0), max(shape.shift, 0)
        width = shape.width + shape.drop
        a, b = _extended(a, shape.signed_a, width, low_a), _extended(b, shape.signed_b, width, low_b)
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

    def look_up(self, entries: Ints, index: Word, width: int) -> Word:
        """Entry number `index`."""
        if len(index) <= LUT_INPUTS:
            return [self._small_table(entries >> bit & 1, index) for bit in range(width)]
        table = Table(entries.tobytes(), tuple(index), width)
        key = ("table", table)
        if key not in self._known:
            self._known[key] = len(self.tables)
            self.tables.append(table)
        return self.block("table", self._known[key], width)

    def _small_table(self, truth: Ints, index: Word) -> int:
        """One output bit; a function of the index bits that matter."""
        cube = truth.reshape((2,) * len(index))  # axis 0 is the most significant index bit
        bits = list(index[::-1])
        for axis in reversed(range(len(bits))):
            low, high = cube.take(0, axis), cube.take(1, axis)
            if np.array_equal(low, high):
                cube = low
                del bits[axis]
        values = cube.reshape(-1)
        if not bits:
            return int(values[0])
        if values[0]:
            return self.invert(self._function(1 - values, bits))
        return self._function(values, bits)

    def _function(self, values: Ints, bits: Word) -> int:
        return bits[0] if len(bits) == 1 else self.bit("gate", values.astype(np.uint8).tobytes(), *bits)


@dataclass(frozen=True)
class AdderShape:
    """Parameters of an addition: signs, output width, lowest bits dropped, shift of the second operand, whether it is subtracted."""

    signed_a: bool
    signed_b: bool
    width: int
    drop: int
    shift: int
    subtract: bool


def _extended(word: Sequence[int], signed: bool, width: int, low: int) -> Word:
    """At least `width` bits, zeros below."""
    fill = word[-1] if signed and word else ZERO
    return ([ZERO] * low + [*word] + [fill] * (width - low - len(word)))[:width]


def width_of(op: Any) -> int:
    """Bits of an operation's value."""
    return int(sum(op.qint.kif))


def bits_of(pipeline: Any) -> Bits:
    """All bits of a `hgq.converters.rtl.pipeline.Pipeline`."""
    bits = Bits()
    combs = list(pipeline.fsm.logic.values())
    words = [bits.block("port", position, int(width)) for position, width in enumerate(combs[0].inp_kifs.sum(axis=0))]
    if pipeline.clocked:
        words = [[bits.bit("register", bit) for bit in word] for word in words]
    shared: set[int] = set()  # positions of words that more than one operation reads
    for comb in combs:
        stage = _Stage(bits, comb, words, shared)
        words = [stage.values[index] if index >= 0 else [] for index in comb.out_idxs]
        if pipeline.clocked:
            words = [[bit if bit <= ONE else bits.bit("register", bit) for bit in word] for word in words]
        shared = {position for position, index in enumerate(comb.out_idxs) if index >= 0 and stage.uses[index] > 1}
    bits.outputs = [bit for word in words for bit in word]
    return bits


class _Stage:
    """The logic between two registers."""

    def __init__(self, bits: Bits, comb: Any, words: list[Word], shared: set[int]) -> None:
        self.bits, self.comb, self.words, self.shared = bits, comb, words, shared
        self.values: list[Word] = []
        self.uses = comb.ref_count  # alkaid counts them anew each time that it is asked
        for index, op in enumerate(comb.ops):
            self.values.append(self._word(op) if self.uses[index] and width_of(op) else [])

    def _word(self, op: Any) -> Word:
        bits, width = self.bits, width_of(op)
        operands = [self.values[index] for index in op.addr]
        match op.opcode:
            case -1:
                return self.words[op.data[0]][:width]
            case 0 | 1:
                return self._addition(op, *operands)
            case 4:
                return self._constant(op, operands[0])
            case -2:
                return bits.add([ZERO], operands[0], AdderShape(False, self._negative(op.addr[0]), width, 0, 0, True))
            case 2:
                return self._relu(op, operands[0])
            case 3:
                low = self._fraction(op.addr[0]) - op.data[0] - op.qint.kif[2]
                return [_at(operands[0], position) for position in range(low, low + width)]
            case 5:
                return [int(op.data[0]) >> position & 1 for position in range(width)]
            case 6:
                return self._choice(op, *operands)
            case 7:
                return bits.multiply(operands[0], operands[1], width)
            case 8:
                values = self.comb.lookup_tables[op.data[0]].padded_table(self.comb.ops[op.addr[0]].qint)
                return bits.look_up(np.where(np.isnan(values), 0, values).astype(np.int64), operands[0], width)
            case 9 if op.data[0] == 0:
                return [bits.invert(bit) for bit in operands[0]]
            case 9:
                return [bits.bit("gate", ("reduce", op.data[0]), *operands[0])]
            case 10:
                shift = op.data[0] + self._fraction(op.addr[0]) - self._fraction(op.addr[1])
                signs = [self._negative(index) for index in op.addr]
                pairs = self._aligned(operands[0], operands[1], signs[0], signs[1], shift, width)
                return [bits.both(op.data[1], x, y) for x, y in pairs]
        return self._three(op, operands)

    def _kif(self, index: int) -> tuple[bool, int]:
        signed, _, fraction = self.comb.ops[index].qint.kif
        return bool(signed), int(fraction)

    def _fraction(self, index: int) -> int:
        return self._kif(index)[1]

    def _negative(self, index: int) -> bool:
        return bool(self.comb.ops[index].qint.min < 0)

    def _addition(self, op: Any, a: Word, b: Word) -> Word:
        (signed_a, fa), (signed_b, fb) = map(self._kif, op.addr)
        drop = max(fa, fb - op.data[0]) - op.qint.kif[2]
        shape = AdderShape(signed_a, signed_b, width_of(op), drop, op.data[0] + fa - fb, op.opcode == 1)
        alone = any(self.uses[index] == 1 for index in op.addr)
        # A multiplier block adds something to all bits of its product: the operand that does not begin below the other.
        whole = [index for index, shift in zip(op.addr, (-shape.shift, shape.shift), strict=True) if shift >= 0]
        return self.bits.add(a, b, shape, in_dsp=not shape.subtract and any(map(self._is_product, whole)), joined=alone)

    def _is_product(self, index: int) -> bool:
        """Whether a value is a product, or one that a register has kept, that nobody else reads."""
        op = self.comb.ops[index]
        if self.uses[index] != 1:
            return False
        if op.opcode != -1:
            return op.opcode == 7
        word = self.words[op.data[0]]
        return op.data[0] not in self.shared and bool(word) and self._behind_register(word[0]) == "product"

    def _behind_register(self, bit: int) -> str:
        return self.bits.kind[self.bits.made_of[bit][0]] if self.bits.kind[bit] == "register" else ""

    def _constant(self, op: Any, a: Word) -> Word:
        value, fb = op.data
        signed_a, fa = self._kif(op.addr[0])
        word = [abs(int(value)) >> position & 1 for position in range(ceil(log2(abs(value) + 1)))]
        shape = AdderShape(signed_a, False, width_of(op), max(fa, fb) - op.qint.kif[2], fa - fb, value < 0)
        return self.bits.add(a, word, shape, joined=self.uses[op.addr[0]] == 1)

    def _relu(self, op: Any, x: Word) -> Word:
        low = self._fraction(op.addr[0]) - op.qint.kif[2]
        kept = x[low : low + width_of(op)]
        return [self.bits.blank(bit, x[-1]) for bit in kept] if self._negative(op.addr[0]) else kept

    def _choice(self, op: Any, x: Word, y: Word, key: Word) -> Word:
        (signed_x, fx), (signed_y, fy), out = self._kif(op.addr[0]), self._kif(op.addr[1]), op.qint.kif[2]
        shift = max(out - fy + op.data[0], 0) - max(out - fx, 0)
        pairs = self._aligned(x, y, signed_x, signed_y, shift, width_of(op))
        return [self.bits.choose(key[-1], *pair) for pair in pairs]

    def _aligned(self, x: Word, y: Word, signed_x: bool, signed_y: bool, shift: int, width: int) -> Iterator[tuple[int, int]]:
        return zip(_extended(x, signed_x, width, max(-shift, 0)), _extended(y, signed_y, width, max(shift, 0)), strict=True)

    def _three(self, op: Any, operands: list[Word]) -> Word:
        """An addition of three, as two: what it takes beyond them is a matter of the synthesiser."""
        bits, width = self.bits, width_of(op)
        partial = bits.add(operands[0], operands[1], AdderShape(True, True, width, 0, 0, False))
        return bits.add(partial, operands[2], AdderShape(True, True, width, 0, 0, False), joined=True)


def _at(word: Word, position: int) -> int:
    """A bit of a sign-extended word; zeros below."""
    return ZERO if position < 0 or not word else word[min(position, len(word) - 1)]

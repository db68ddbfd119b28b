"""A pipeline, bit by bit: what each operation of alkaid's program does to the bits of its operands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import ceil, log2
from typing import Any

import numpy as np

from .bits import ONE, ZERO, AdderShape, Bits, Word, extended, in_multiplier


def width_of(op: Any) -> int:
    """Bits of an operation's value."""
    return int(sum(op.qint.kif))


def bits_of(pipeline: Any) -> Bits:
    """All bits of a `hgq.converters.rtl.pipeline.Pipeline`."""
    bits = Bits()
    combs = list(pipeline.fsm.logic.values())
    words = [bits.block("port", position, int(width)) for position, width in enumerate(combs[0].inp_kifs.sum(axis=0))]
    if pipeline.clocked:
        words = [bits.registered(word) for word in words]
    shared: set[int] = set()  # positions of words that more than one operation reads
    for comb in combs:
        stage = _Stage(bits, comb, words, shared, bool(pipeline.clocked))
        words = [stage.values[index] if index >= 0 else [] for index in comb.out_idxs]
        if pipeline.clocked:
            words = [bits.registered(word) for word in words]
        shared = {position for position, index in enumerate(comb.out_idxs) if index >= 0 and stage.uses[index] > 1}
    bits.outputs = [bit for word in words for bit in word]
    return bits


class _Stage:
    """The logic between two registers."""

    def __init__(self, bits: Bits, comb: Any, words: list[Word], shared: set[int], clocked: bool) -> None:
        self.bits, self.comb, self.words, self.shared = bits, comb, words, shared
        self.kept = Counter(comb.out_idxs) if clocked else Counter()
        """How often a register keeps an operation's value."""
        self.values: list[Word] = []
        self.uses = comb.ref_count  # alkaid counts them anew each time that it is asked
        for index, op in enumerate(comb.ops):
            self.values.append(self._word(index, op) if self.uses[index] and width_of(op) else [])

    def _word(self, number: int, op: Any) -> Word:
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
                return self._look_up(op, operands[0], only_kept=self.uses[number] == self.kept[number])
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

    def _look_up(self, op: Any, index: Word, only_kept: bool) -> Word:
        """Yosys moves registers of an index behind the table, unless what comes of it goes to registers only."""
        bits, width = self.bits, width_of(op)
        values = self.comb.lookup_tables[op.data[0]].padded_table(self.comb.ops[op.addr[0]].qint)
        entries = np.where(np.isnan(values), 0, values).astype(np.int64)
        kinds = {bits.kind[bit] for bit in index if bit > ONE}
        if only_kept or kinds != {"register"}:
            return bits.look_up(entries, index, width, clocked=only_kept)
        before = [bits.made_of[bit][0] if bit > ONE else bit for bit in index]
        return bits.registered(bits.look_up(entries, before, width, clocked=True))

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
            return op.opcode == 7 and in_multiplier(self.values[op.addr[0]], self.values[op.addr[1]], width_of(op))
        word = self.words[op.data[0]]
        return op.data[0] not in self.shared and bool(word) and self._behind_register(word)

    def _behind_register(self, word: Word) -> bool:
        """Whether the register of a word keeps a product of a multiplier block."""
        bits = self.bits
        if bits.kind[word[0]] != "register" or bits.kind[source := bits.made_of[word[0]][0]] != "product":
            return False
        a, b = bits.products[bits.made_of[source][0]]
        return in_multiplier(a, b, len(word))

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
        return zip(extended(x, signed_x, width, max(-shift, 0)), extended(y, signed_y, width, max(shift, 0)), strict=True)

    def _three(self, op: Any, operands: list[Word]) -> Word:
        """An addition of three, as two: what it takes beyond them is a matter of the synthesiser."""
        bits, width = self.bits, width_of(op)
        partial = bits.add(operands[0], operands[1], AdderShape(True, True, width, 0, 0, False))
        return bits.add(partial, operands[2], AdderShape(True, True, width, 0, 0, False), joined=True)


def _at(word: Word, position: int) -> int:
    """A bit of a sign-extended word; zeros below."""
    return ZERO if position < 0 or not word else word[min(position, len(word) - 1)]

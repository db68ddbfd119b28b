"""What a look-up table is to a synthesiser: each output bit a function of the index bits that matter to it, and what these functions take.

A function of up to six bits is a gate like any other (`bits`). Up to eight, the multiplexers behind LUTs choose among functions of six
bits. Beyond, the synthesiser starts from multiplexers over the index, the lowest bit chosen last, and finds what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

LUT_INPUTS = 6
FREE_MULTIPLEXERS = 2
"""Levels of multiplexers that come with LUTs."""
BLOCK_BITS = 18 * 1024
IN_BLOCKS, IN_SMALL_BLOCKS = 8192, 2048
"""Tables of more bits, next to a register, are block RAM: by Yosys for Xilinx, and for ECP5."""

Truth = NDArray[np.uint8]
Function = tuple[bytes, tuple[int, ...]]
"""Values, the most significant input first, and the positions of the inputs in the index, in that order."""


@lru_cache(maxsize=4096)
def functions(entries: bytes, bits_in: int, width: int) -> tuple[Function, ...]:
    """Each bit of an entry, the least significant first, as a function of the index bits that it depends on.

    Args:
        entries: What the table holds, int64.
        bits_in: Of the index.
        width: Bits of an entry.
    """
    numbers = np.frombuffer(entries, np.int64)
    return tuple(_reduced((numbers >> bit & 1).astype(np.uint8), bits_in) for bit in range(width))


def _reduced(truth: Truth, bits_in: int) -> Function:
    cube, positions = truth.reshape((2,) * bits_in), list(range(bits_in))[::-1]
    for axis in reversed(range(bits_in)):
        low, high = cube.take(0, axis), cube.take(1, axis)
        if np.array_equal(low, high):
            cube = low
            del positions[axis]
    return cube.tobytes(), tuple(positions)


@lru_cache(maxsize=4096)
def table_logic(entries: bytes, bits_in: int, wide: tuple[int, ...]) -> Mapping[str, int]:
    """What bits of an entry take that depend on more than six index bits.

    A model has few tables, at many places and in many epochs of a training to a budget: each is counted once.

    Args:
        entries: What the table holds, int64.
        bits_in: Of the index.
        wide: Positions of these bits in an entry.

    Returns:
        ``leaf``: distinct functions of six bits, of the output bits that depend on at most eight. ``node``: gates of two inputs in a
        decision diagram of the others, the lowest index bit at its root, where equal functions, and those that are each other's inverse,
        are one. ``small_node``: the same of the former.
    """
    all_functions = functions(entries, bits_in, max(wide, default=-1) + 1)
    leaves: set[Function] = set()
    bits: dict[str, list[int]] = {"node": [], "small_node": []}
    for bit in wide:
        values, positions = all_functions[bit]
        small = len(positions) <= LUT_INPUTS + FREE_MULTIPLEXERS
        bits["small_node" if small else "node"].append(bit)
        leaves |= _leaves(np.frombuffer(values, np.uint8), positions) if small else set()
    numbers = np.frombuffer(entries, np.int64).reshape((2,) * bits_in).transpose().reshape(-1)
    rows = {name: (numbers >> np.array(of, np.int64)[:, None] & 1).astype(np.uint8) for name, of in bits.items()}
    return {"leaf": len(leaves)} | {name: _gates(of) for name, of in rows.items()}


def blocks(bits_in: int, width: int) -> int:
    """Block RAMs of 18 Kb."""
    return ceil((width << bits_in) / BLOCK_BITS)


def _leaves(values: Truth, positions: tuple[int, ...]) -> set[Function]:
    """Functions of the highest six bits among which the others choose; constants and index bits take no LUT."""
    columns = values.reshape(1 << LUT_INPUTS, -1).T
    found = {_reduced(column ^ column[0], LUT_INPUTS) for column in columns}
    inputs = positions[:LUT_INPUTS][::-1]
    return {(table, tuple(inputs[number] for number in numbers)) for table, numbers in found if len(numbers) > 1}


def _gates(rows: Truth) -> int:
    """Of a diagram of these functions: three for a multiplexer, one where a branch is constant, none where both are."""
    gates = 0
    while rows.size and rows.shape[1] > 1:
        rows = np.unique(rows ^ rows[:, :1], axis=0)
        low, high = np.split(rows, 2, axis=1)
        differ = np.any(low != high, axis=1)
        constants = np.sum([(half == half[:, :1]).all(axis=1) for half in (low, high)], axis=0)
        gates += int(np.array([3, 1, 0])[constants[differ]].sum())
        rows = np.concatenate([low, high[differ]])
        rows = rows[(rows != rows[:, :1]).any(axis=1)]
    return gates

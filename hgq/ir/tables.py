"""Index arithmetic of lookup tables, on plain integers. What an index means is said at `hgq.ir.ops.lookup`."""

from __future__ import annotations

import math

import numpy as np

from hgq.numerics import Fixed, Ints, trailing_zeros

BLOCK = 1 << 22
"""Entries looked at together."""


def entries(fixed: Fixed) -> int:
    """Entries of a table that elements of these formats index."""
    return 1 << int(fixed.width.max(initial=0))


def index(mantissa: Ints, fixed: Fixed) -> Ints:
    """The entry of each mantissa; leading axes of `mantissa` are samples."""
    return mantissa & ((np.int64(1) << fixed.width) - 1)


def mantissas(fixed: Fixed) -> Ints:
    r"""The mantissa that each index stands for, shape (\\*fixed.shape, entries); 0 behind the entries that an element knows."""
    return _mantissas(fixed.k, fixed.width, entries(fixed))


def _mantissas(k: Ints, width: Ints, count: int) -> Ints:
    number, size = np.arange(count), np.int64(1) << width[..., None]
    negative = (k[..., None] == 1) & (number >= size >> 1) & (width[..., None] > 0)
    return np.where(number < size, np.where(negative, number - size, number), 0)


def rows(shape: tuple[int, ...], sample: tuple[int, ...]) -> Ints:
    """Which table, counted in C order, each element of a sample reads; `shape` is that of all tables, entries included."""
    return np.broadcast_to(np.arange(math.prod(shape[:-1])).reshape(shape[:-1]), sample)


def reached(table: Ints, fixed: Fixed, low: Ints, high: Ints, step: Ints) -> tuple[Ints, Ints, Ints]:
    """Least and greatest entry, and fewest trailing zeros of any but 0, that each element can read.

    Args:
        table: Mantissas of the entries, of one exponent.
        fixed: Formats of the elements.
        low: Least mantissa of each element.
        high: Greatest.
        step: Each mantissa is known to be a multiple of ``2**step``.
    """
    count, flat = table.shape[-1], table.reshape(-1, table.shape[-1])
    wanted = np.stack([part.ravel() for part in (low, high, step, fixed.k, fixed.width, rows(table.shape, fixed.shape))])
    distinct, which = np.unique(wanted, axis=1, return_inverse=True)  # most elements of a tensor ask the same
    zeros = np.where(flat == 0, 64, trailing_zeros(flat))
    highest, lowest = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    results = np.empty((3, distinct.shape[1]), np.int64)
    block = max(BLOCK // count, 1)
    for start in range(0, distinct.shape[1], block):
        part = distinct[:, start : start + block]
        least, greatest, grid, _, width, row = (column[:, None] for column in part)
        mantissa = _mantissas(part[3], part[4], count)
        known = np.arange(count) < np.int64(1) << width
        live = known & (mantissa >= least) & (mantissa <= greatest) & (mantissa & ((np.int64(1) << grid) - 1) == 0)
        read = flat[row[:, 0]]
        results[0, start : start + block] = np.where(live, read, highest).min(axis=1)
        results[1, start : start + block] = np.where(live, read, lowest).max(axis=1)
        results[2, start : start + block] = np.where(live, zeros[row[:, 0]], 64).min(axis=1)
    least, greatest, zeros = (part[which.reshape(-1)].reshape(fixed.shape) for part in results)
    return least, greatest, zeros

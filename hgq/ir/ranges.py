"""`RangeArray`: what values can occur. Running a graph over these proves the format of every value.

An element is an interval ``[low, high]`` and the exponent of its least significant bit, both exact. As with `IntArray`, arrays follow the
NumPy protocol, so ranges are proven by the very functions that define the ops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike

from hgq.errors import GraphError
from hgq.ir import tables
from hgq.ir.integers import IntArray
from hgq.numerics import MAX_WIDTH, Fixed, Ints, Overflow, Rounding, rescale, trailing_zeros

if TYPE_CHECKING:
    from hgq.ir.graph import Graph

NO_BITS = -4096
"""`lsb` of an element that is always 0: coarser than anything, so that it never decides a sum's."""

# NumPy's type stubs know nothing of arrays that follow its protocol.
_minimum: Callable[[Any, Any], Any] = np.minimum
_maximum: Callable[[Any, Any], Any] = np.maximum


class RangeArray(NDArrayOperatorsMixin):
    """Intervals of real numbers on a grid.

    Args:
        low: Least values.
        high: Greatest values, same shape.
        lsb: Fractional bits of the coarsest grid known to hold each element.
    """

    def __init__(self, low: IntArray, high: IntArray, lsb: Ints) -> None:
        f = max(low.f, high.f)
        self.low, self.high = low, high = IntArray(low.at(f), f), IntArray(high.at(f), f)
        exact = np.where(low.mantissa == 0, NO_BITS, f - trailing_zeros(low.mantissa))
        self.lsb = np.where(low.mantissa == high.mantissa, exact, np.broadcast_to(lsb, low.shape))

    @staticmethod
    def of_format(fixed: Fixed) -> RangeArray:
        """Everything that a format can hold, with a batch axis of one sample."""
        low, high = (IntArray.of_formats(m[None], fixed.f) for m in (fixed.low, fixed.high))
        return RangeArray(low, high, fixed.f[None])

    @staticmethod
    def of_reals(values: ArrayLike) -> RangeArray:
        """Constants."""
        exact = IntArray.of_reals(values)
        return RangeArray(exact, exact, np.zeros(exact.shape, np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, batch included."""
        return self.low.shape

    @property
    def ndim(self) -> int:
        """Number of axes, batch included."""
        return self.low.ndim

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: Any) -> RangeArray:
        return RangeArray(self.low[index], self.high[index], self.lsb[index])

    def format(self) -> Fixed:
        """The narrowest format of each element, without the batch axis."""
        low, high, lsb = (part[0] for part in (self.low.mantissa, self.high.mantissa, self.lsb))
        zero = (low == 0) & (high == 0)
        cut = np.where(zero, 0, self.low.f - lsb)  # both ends lie on the grid: nothing is lost
        return Fixed.spanning(low >> cut, high >> cut, np.where(zero, 0, lsb))

    def quantize(self, k: ArrayLike, i: ArrayLike, f: ArrayLike, overflow_mode: Overflow, round_mode: Rounding) -> RangeArray:
        """What rounding and overflow make of these intervals."""
        fixed = Fixed(k, i, f)
        rounded = [rescale(end.mantissa, end.f, fixed.f, round_mode) for end in (self.low, self.high)]
        ends = [fixed.overflowed(end, overflow_mode) for end in rounded]
        leaves = (ends[0] != rounded[0]) | (ends[1] != rounded[1])
        if overflow_mode == "WRAP":  # monotone only while nothing wraps
            ends = [np.where(leaves, fixed.low, ends[0]), np.where(leaves, fixed.high, ends[1])]
        low, high = (IntArray.of_formats(end, np.broadcast_to(fixed.f, end.shape)) for end in ends)
        # The ends of a range need not lie on the grid of what is clipped to it; a wrap, by a multiple of that grid or to 0, stays on it.
        lsb = np.where(leaves & (overflow_mode != "WRAP"), fixed.f, np.minimum(self.lsb, fixed.f))
        return RangeArray(low, high, lsb)

    def lookup(self, table: ArrayLike, fixed: Fixed) -> RangeArray:
        """Hull and grid of the entries that these intervals can reach.

        Raises:
            GraphError: an element may lie outside its format.
        """
        low, high = (rescale(end.mantissa[0], end.f, fixed.f, "TRN") for end in (self.low, self.high))
        zero = (self.low.mantissa[0] == 0) & (self.high.mantissa[0] == 0)
        outside = (low < fixed.low) | (high > fixed.high) | ((self.lsb[0] > fixed.f) & ~zero)
        if outside.any():
            raise GraphError(
                "A table is read with values that may not lie in its format.",
                expected="values proven to lie in the format of the node",
                received=f"{int(outside.sum())} of {outside.size} elements that may not",
                fix="Quantize to this format right before the lookup.",
            )
        entries = IntArray.of_reals(table)
        step = np.clip(fixed.f - self.lsb[0], 0, MAX_WIDTH)
        least, greatest, zeros = tables.reached(entries.mantissa, fixed, low, high, step)
        lsb = np.where((least == 0) & (greatest == 0), NO_BITS, entries.f - zeros)
        return RangeArray(IntArray(least[None], entries.f), IntArray(greatest[None], entries.f), lsb[None])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **kwargs: Any) -> Any:
        rule = _UFUNCS.get(ufunc)
        if rule is None or method != "__call__" or kwargs:
            return NotImplemented
        return rule(*(x if isinstance(x, RangeArray) else RangeArray.of_reals(x) for x in operands))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is np.concatenate:
            ends = ([getattr(part, name) for part in args[0]] for name in ("low", "high", "lsb"))
            return RangeArray(*(function(parts, *args[1:], **kwargs) for parts in ends))
        if function not in (np.reshape, np.transpose, np.take):
            return NotImplemented
        moved = (function(part, *args[1:], **kwargs) for part in (args[0].low, args[0].high, args[0].lsb))
        return RangeArray(*moved)


def _hull(corners: Iterable[IntArray]) -> tuple[IntArray, IntArray]:
    first, *rest = corners
    low = high = first
    for corner in rest:
        low, high = _minimum(low, corner), _maximum(high, corner)
    return low, high


def _multiply(x: RangeArray, y: RangeArray) -> RangeArray:
    if x is y:  # a square is never negative
        ends, zero = (x.low * x.low, x.high * x.high), np.sign(x.low.mantissa) * np.sign(x.high.mantissa) < 0
        low = _minimum(*ends)
        return RangeArray(IntArray(np.where(zero, 0, low.mantissa), low.f), _maximum(*ends), np.maximum(2 * x.lsb, NO_BITS))
    low, high = _hull(a * b for a in (x.low, x.high) for b in (y.low, y.high))
    return RangeArray(low, high, np.maximum(x.lsb + y.lsb, NO_BITS))


def _matmul(x: RangeArray, w: RangeArray) -> RangeArray:
    """`w` is constant (the spec says so), hence its sign tells which end of `x` counts."""
    up, down = _maximum(w.low, 0.0), _minimum(w.low, 0.0)
    low, high = x.low @ up + x.high @ down, x.high @ up + x.low @ down
    grid = np.where(w.low.mantissa == 0, NO_BITS, w.lsb)
    lsb = np.stack([(x.lsb + grid[:, j]).max(axis=-1, initial=NO_BITS) for j in range(grid.shape[-1])], axis=-1)
    return RangeArray(low, high, np.maximum(lsb, NO_BITS))


_UFUNCS: dict[np.ufunc, Callable[..., RangeArray]] = {
    np.add: lambda x, y: RangeArray(x.low + y.low, x.high + y.high, np.maximum(x.lsb, y.lsb)),
    np.subtract: lambda x, y: RangeArray(x.low - y.high, x.high - y.low, np.maximum(x.lsb, y.lsb)),
    np.maximum: lambda x, y: RangeArray(np.maximum(x.low, y.low), np.maximum(x.high, y.high), np.maximum(x.lsb, y.lsb)),
    np.minimum: lambda x, y: RangeArray(np.minimum(x.low, y.low), np.minimum(x.high, y.high), np.maximum(x.lsb, y.lsb)),
    np.negative: lambda x: RangeArray(-x.high, -x.low, x.lsb),
    np.multiply: _multiply,
    np.matmul: _matmul,
}


def prove_ranges(graph: Graph) -> dict[str, RangeArray]:
    """What each port and node of a graph can reach, by name. `Graph.ranges` keeps it."""
    from hgq.ir.interpret import evaluate

    return evaluate(graph, {port.name: RangeArray.of_format(port.format) for port in graph.inputs})

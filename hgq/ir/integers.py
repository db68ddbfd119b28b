"""`IntArray`: the arrays of the golden model. Integers only, exact or refused.

All elements of one array share the exponent: value = ``mantissa * 2**-f``. Arrays follow the NumPy protocol, so the functions of
`hgq.ir.ops` run on them unchanged. Before each operation its result is bounded from the actual data; what could leave 62 bits raises
`Int64Overflow` instead of wrapping silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray

from hgq.errors import Int64Overflow
from hgq.ir import tables
from hgq.numerics import MAX_WIDTH, Fixed, Ints, Overflow, Rounding, rescale, shift_left, trailing_zeros

FLOAT64_EXACT = 1 << 53
"""Integers up to here are exact in float64, whose matrix product is far faster than NumPy's integer one."""


class IntArray(NDArrayOperatorsMixin):
    """Integers that stand for ``mantissa * 2**-f``, one `f` for the whole array."""

    def __init__(self, mantissa: Ints, f: int) -> None:
        self.mantissa = mantissa
        self.f = f

    @staticmethod
    def of_formats(mantissa: Ints, f: ArrayLike) -> IntArray:
        """From mantissas with per-element `f`: aligned to the finest."""
        f = np.asarray(f, np.int64)
        finest = int(f.max(initial=0))
        return IntArray(shift_left(mantissa, finest - f, "alignment of formats"), finest)

    @staticmethod
    def of_reals(values: ArrayLike) -> IntArray:
        """From float64 numbers, exactly."""
        values = np.asarray(values, np.float64)
        fraction, exponent = np.frexp(values)
        mantissa = np.ldexp(fraction, 53).astype(np.int64)
        zeros = trailing_zeros(mantissa)
        f = np.where(mantissa == 0, -60, 53 - exponent.astype(np.int64) - zeros)
        finest = int(f.max(initial=0))
        with np.errstate(over="ignore"):
            scaled = np.ldexp(values, finest)
        if np.abs(scaled).max(initial=0) < float(1 << MAX_WIDTH):  # nearly always: whole numbers, which an int64 holds
            return IntArray(scaled.astype(np.int64), finest)
        return IntArray.of_formats(mantissa >> zeros, f)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, batch included."""
        return self.mantissa.shape

    @property
    def ndim(self) -> int:
        """Number of axes, batch included."""
        return self.mantissa.ndim

    def __len__(self) -> int:
        return len(self.mantissa)

    def __getitem__(self, index: Any) -> IntArray:
        return IntArray(self.mantissa[index], self.f)

    def at(self, f: int) -> Ints:
        """Mantissas with a finer common exponent."""
        return shift_left(self.mantissa, f - self.f, "alignment of two operands")

    def reals(self) -> NDArray[np.float64]:
        """The real numbers.

        Raises:
            Int64Overflow: some need more than float64's 53 bits.
        """
        if magnitude(self.mantissa >> trailing_zeros(self.mantissa)) > FLOAT64_EXACT:
            raise Int64Overflow("A value has too many bits to be shown as a float64.", expected="at most 53 significant bits")
        return np.ldexp(self.mantissa.astype(np.float64), -self.f)

    def quantize(self, k: ArrayLike, i: ArrayLike, f: ArrayLike, overflow_mode: Overflow, round_mode: Rounding) -> IntArray:
        """Round and overflow into formats of the shape of one sample (`Fixed.requantize`)."""
        fixed = Fixed(k, i, f)
        return IntArray.of_formats(fixed.requantize(self.mantissa, self.f, round_mode, overflow_mode), fixed.f)

    def lookup(self, table: ArrayLike, fixed: Fixed) -> IntArray:
        """Entries of a table; see `hgq.ir.ops.lookup`."""
        entries = IntArray.of_reals(table)
        index = tables.index(rescale(self.mantissa, self.f, fixed.f, "TRN"), fixed)  # an exact shift: the data lie in the format
        rows = tables.rows(entries.shape, self.shape[1:])
        return IntArray(entries.mantissa.reshape(-1)[rows * entries.shape[-1] + index], entries.f)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **kwargs: Any) -> Any:
        rule = _UFUNCS.get(ufunc)
        if rule is None or method != "__call__" or kwargs:
            return NotImplemented
        return rule(*(x if isinstance(x, IntArray) else IntArray.of_reals(x) for x in operands))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is np.concatenate:
            f = max(part.f for part in args[0])
            return IntArray(function([part.at(f) for part in args[0]], *args[1:], **kwargs), f)
        if function not in (np.reshape, np.transpose, np.take):  # movements of elements, which leave the exponent alone
            return NotImplemented
        return IntArray(function(args[0].mantissa, *args[1:], **kwargs), self.f)


def magnitude(mantissa: Ints) -> int:
    """Largest absolute value, as a Python integer."""
    if mantissa.size == 0:
        return 0
    return max(int(mantissa.max()), -int(mantissa.min()))


def _bounded(bound: int, op: str) -> None:
    if bound >= 1 << MAX_WIDTH:
        raise Int64Overflow(
            "A value does not fit the golden model's 64-bit integers.",
            where=op,
            expected=f"at most {MAX_WIDTH} bits",
            received=f"{bound.bit_length()} bits",
            fix="Bound the bitwidths of this layer or of the one before, or add a quantizer between them.",
        )


def _aligned(rule: Callable[[Ints, Ints], Ints], op: str, grows: bool) -> Callable[[IntArray, IntArray], IntArray]:
    def apply(x: IntArray, y: IntArray) -> IntArray:
        f = max(x.f, y.f)
        a, b = x.at(f), y.at(f)
        if grows:
            _bounded(magnitude(a) + magnitude(b), op)
        return IntArray(rule(a, b), f)

    return apply


def _multiply(x: IntArray, y: IntArray) -> IntArray:
    _bounded(magnitude(x.mantissa) * magnitude(y.mantissa), "multiply")
    return IntArray(x.mantissa * y.mantissa, x.f + y.f)


def _largest_column(w: Ints) -> int:
    """Largest sum of magnitudes over the rows of a matrix."""
    if not w.size:
        return 0
    magnitudes = np.abs(w)
    sums = magnitudes.sum(axis=-2, dtype=np.float64).max()
    if sums < FLOAT64_EXACT:  # nearly always: exact
        return int(sums)
    return int(magnitudes.astype(object).sum(axis=-2).max())  # Python integers cannot overflow


def _matmul(x: IntArray, w: IntArray) -> IntArray:
    column = _largest_column(w.mantissa)
    bound = magnitude(x.mantissa) * column
    _bounded(bound, "matmul")
    if bound < FLOAT64_EXACT:
        product = np.matmul(x.mantissa.astype(np.float64), w.mantissa.astype(np.float64)).astype(np.int64)
    else:
        product = np.matmul(x.mantissa, w.mantissa)
    return IntArray(product, x.f + w.f)


_UFUNCS: dict[np.ufunc, Callable[..., IntArray]] = {
    np.add: _aligned(np.add, "add", grows=True),
    np.subtract: _aligned(np.subtract, "subtract", grows=True),
    np.maximum: _aligned(np.maximum, "maximum", grows=False),
    np.minimum: _aligned(np.minimum, "minimum", grows=False),
    np.multiply: _multiply,
    np.matmul: _matmul,
    np.negative: lambda x: IntArray(-x.mantissa, x.f),
}

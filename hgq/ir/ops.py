"""What each op means: one function, written once against the NumPy protocol.

Run on `IntArray` such a function is the golden model, on `RangeArray` it proves formats, on alkaid's ``FVArray`` it is the RTL lowering.
Every array carries a leading batch axis; constants have none. To add an op, write its function here under ``@op``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from hgq.ir import contraction, windows
from hgq.ir.trees import tree, tree_along
from hgq.numerics import Fixed, Overflow, Rounding


@dataclass(frozen=True)
class Op:
    """One row of the op table.

    Args:
        name: The name nodes use.
        function: Its meaning.
        arity: How many values it reads.
        attrs: Names of its static arguments, all required.
        constant: Positions of the operands that must be constants.
        optional: Names of static arguments that may be left out.
    """

    name: str
    function: Callable[..., Any]
    arity: int
    attrs: tuple[str, ...]
    constant: tuple[int, ...]
    optional: tuple[str, ...] = ()


OPS: dict[str, Op] = {}


def op(
    arity: int, attrs: tuple[str, ...] = (), constant: tuple[int, ...] = (), optional: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the op table under its own name."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        OPS[function.__name__] = Op(function.__name__, function, arity, attrs, constant, optional)
        return function

    return register


@op(1, attrs=("format", "rounding", "overflow"))
def quantize(x: Any, *, format: Fixed, rounding: Rounding, overflow: Overflow) -> Any:
    """Round and overflow into a format: the only op that loses information. Definition: `Fixed.requantize`."""
    k, i, f = format.astuple()
    if overflow != "WRAP_SM":
        return x.quantize(k, i, f, overflow_mode=overflow, round_mode=rounding)
    # Sign-magnitude wrap is a wrap to one more bit, reflected at both ends; the last step states the format, it changes no value.
    y = x.quantize(k, i + 1, f, overflow_mode="WRAP", round_mode=rounding)
    y = np.minimum(y, (2 * format.value(format.high) + np.exp2(-f)) - y)
    y = np.maximum(y, np.where(k == 1, 2 * format.value(format.low) - np.exp2(-f), 0.0) - np.where(k == 1, 1.0, 0.0) * y)
    return y.quantize(k, i, f, overflow_mode="WRAP", round_mode="TRN")


@op(2, attrs=("format",), constant=(1,))
def lookup(x: Any, table: Any, *, format: Fixed) -> Any:
    r"""What a table holds for each element; exact. It says what the result is, hence loses whatever the table does not keep.

    An element's index is the bits of its mantissa in `format`, read as an unsigned number (two's complement): 0, 1, 2 … for the values
    0, 1, 2 … steps, and from half the table on the negative ones, if the element is signed. An element of w bits knows 2**w entries, the
    first ones; what stands behind them is never read. An element of no bits reads entry 0.

    Args:
        x: Data, which must be proven to lie in `format`.
        table: Real numbers, shape (\*element shape, entries): the part before the entries broadcasts to the shape of one sample, so that
            (entries,) is one table for all, (channels, entries) one for each channel, and so on. There are 2**w entries, w the bits of the
            widest element.
        format: The formats of the elements, of the shape of one sample.
    """
    return x.lookup(table, format)


PARALLEL = "parallel"
"""Optional attribute of the ops with a kernel: how many positions (rows, windows) are computed at the same time, each with a copy of the
hardware; position n uses copy ``n % parallel``. It changes no value. Left out: all of them, and none waits for another."""


def check_parallel(positions: int, parallel: int | None) -> None:
    """Raise `ValueError` unless the positions fall into turns of `parallel`."""
    if parallel is not None and (parallel < 1 or positions % parallel):
        raise ValueError(f"{positions} positions cannot be computed {parallel} at a time")


@op(2, constant=(1,), optional=(PARALLEL,))
def matmul(x: Any, w: Any, *, parallel: int | None = None) -> Any:
    """Sum over the last axis of `x` and the first of the constant `w` (n, m); exact. For `parallel` see `PARALLEL`."""
    check_parallel(prod(x.shape[1:-1]), parallel)
    return x @ w


@op(2, attrs=("equation",), optional=(PARALLEL,))
def einsum(x: Any, y: Any, *, equation: str, parallel: int | None = None) -> Any:
    """Einstein sum of data `x` with a constant or with data `y`; exact. `hgq.ir.contraction` says which equations there are.

    Args:
        x: Data.
        y: A constant, or data.
        equation: Such as ``"ab,bc->ac"``: one letter for each axis, the batch not counted.
        parallel: See `PARALLEL`; a position is one choice of the axes that `x` alone has.
    """
    parts = contraction.read(equation)
    check_parallel(prod(size for letter, size in zip(parts.x, x.shape[1:], strict=False) if letter in parts.free_x), parallel)
    return contraction.contract(x, y, equation, lambda rows, kernel: rows @ kernel, contraction.sum_of_products)


@op(2)
def add(x: Any, y: Any) -> Any:
    """Sum, with NumPy's broadcasting; exact."""
    return x + y


@op(2)
def subtract(x: Any, y: Any) -> Any:
    """Difference ``x - y``, with NumPy's broadcasting; exact."""
    return x - y


@op(2)
def maximum(x: Any, y: Any) -> Any:
    """The larger of two, element by element, with NumPy's broadcasting; exact."""
    return np.maximum(x, y)


@op(2)
def minimum(x: Any, y: Any) -> Any:
    """The smaller of two, element by element, with NumPy's broadcasting; exact."""
    return np.minimum(x, y)


@op(2)
def product(x: Any, y: Any) -> Any:
    """Product of two values, with NumPy's broadcasting; exact. With a constant it is `multiply`."""
    return x * y


@op(2, constant=(1,))
def multiply(x: Any, c: Any) -> Any:
    """Product with a constant, with NumPy's broadcasting; exact."""
    return x * c


@op(1)
def relu(x: Any) -> Any:
    """max(x, 0); exact."""
    return np.maximum(x, 0.0)


@op(1, attrs=("low", "high"))
def clip(x: Any, *, low: float, high: float) -> Any:
    """min(max(x, low), high) with real numbers, ``low <= high``; exact."""
    return np.minimum(np.maximum(x, low), high)


@op(1, attrs=("slope",))
def leaky_relu(x: Any, *, slope: float) -> Any:
    """max(x, slope * x) with a real number from 0 to 1; exact."""
    return np.maximum(x, x * slope)


@op(1, attrs=("slope",))
def hard_sigmoid(x: Any, *, slope: float) -> Any:
    """min(max(slope * x + 1/2, 0), 1) with a positive real number; exact."""
    return np.minimum(np.maximum(x * slope + 0.5, 0.0), 1.0)


@op(1, attrs=("shape",))
def reshape(x: Any, *, shape: tuple[int, ...]) -> Any:
    """The same elements in another shape, in C order; `shape` is without batch."""
    return np.reshape(x, (len(x), *shape))


@op(2, attrs=("axis",))
def concatenate(x: Any, y: Any, *, axis: int) -> Any:
    """The elements of `x`, then those of `y`, along an axis; `axis` counts from 0, without batch."""
    return np.concatenate([x, y], axis=axis + 1)


@op(1, attrs=("axes",))
def transpose(x: Any, *, axes: tuple[int, ...]) -> Any:
    """Axis j of the result is axis ``axes[j]`` of `x`; both count from 0, without batch."""
    return np.transpose(x, (0, *(axis + 1 for axis in axes)))


@op(1, attrs=("axis", "indices"))
def take(x: Any, *, axis: int, indices: tuple[int, ...]) -> Any:
    """Elements `indices` of an axis, in that order, as often as they are named; `axis` counts from 0, without batch."""
    return np.take(x, np.asarray(indices, np.int64), axis=axis + 1)


@op(1, attrs=("widths",))
def pad(x: Any, *, widths: tuple[tuple[int, int], ...]) -> Any:
    """Zeros before and after: one pair ``(before, after)`` for each axis, without batch."""
    for axis, sides in enumerate(widths, 1):
        before, after = (np.take(x, np.zeros(side, np.int64), axis=axis) * 0.0 for side in sides)
        x = np.concatenate([before, x, after], axis=axis)
    return x


MOVES = ("reshape", "concatenate", "transpose", "take", "pad")
"""Ops that compute nothing: each element of the result is one of an operand, or 0."""


@op(2, attrs=("strides", "dilation", "padding", "groups"), constant=(1,), optional=(PARALLEL,))
def conv(
    x: Any,
    w: Any,
    *,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: windows.Padding,
    groups: int,
    parallel: int | None = None,
) -> Any:
    r"""Convolution, channels last, over any number of axes; exact.

    With the group ``g = m // (w.shape[-1] // groups)`` of output `m`, and `x` taken as 0 outside, for every window `o`::

        y[o, m] = sum over t and c of x[o * strides + t * dilation - low, g * w.shape[-2] + c] * w[t, c, m]

    Args:
        x: Data (batch, \*sizes, channels).
        w: Kernel (\*taps, channels // groups, outputs).
        strides: Per axis.
        dilation: Per axis.
        padding: ``(low, high)`` per axis: zeros before and after.
        groups: Into how many independent parts the channels fall.
        parallel: See `PARALLEL`; a position is a window, in C order.
    """
    y = convolve(x, w, lambda rows, kernel: rows @ kernel, strides=strides, dilation=dilation, padding=padding, groups=groups)
    check_parallel(prod(y.shape[1:-1]), parallel)
    return y


def convolve(
    x: Any,
    w: Any,
    product: Callable[[Any, Any], Any],
    *,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: windows.Padding,
    groups: int,
) -> Any:
    """`conv` by a given matrix product of one row a window, (rows, taps * channels // groups), with a kernel of plain numbers."""
    w = np.asarray(w)
    *taps, channels, outputs = w.shape
    if x.shape[-1] != channels * groups or outputs % groups or x.ndim != w.ndim:
        raise ValueError(f"a kernel of shape {w.shape} in {groups} groups does not fit data of shape {x.shape[1:]}")
    sizes = windows.output_sizes(x.shape[1:-1], taps, strides, dilation, padding)
    x = pad(x, widths=(*padding, (0, 0))) if any(map(any, padding)) else x
    views = windows.views(x, taps, strides, dilation)
    flat, parts = np.reshape(w, (-1, outputs)), []
    for read, written in windows.group_slices(groups, channels, outputs):
        own = [view[..., read] for view in views] if groups > 1 else views
        parts.append(product(np.reshape(np.concatenate(own, axis=-1), (-1, len(views) * channels)), flat[:, written]))
    y = np.concatenate(parts, axis=-1) if groups > 1 else parts[0]
    return np.reshape(y, (len(x), *sizes, outputs))


@op(1, attrs=("pool", "strides", "padding"))
def max_pool(x: Any, *, pool: tuple[int, ...], strides: tuple[int, ...], padding: windows.Padding) -> Any:
    """Greatest element of each window of each channel, padding left out; exact.

    Args:
        x: Data (batch, sizes…, channels).
        pool: Elements of a window along each axis.
        strides: Per axis.
        padding: ``(low, high)`` per axis, each smaller than the window.
    """
    if any(end >= size for size, ends in zip(pool, padding, strict=True) for end in ends):
        raise ValueError(f"a window of {pool} could see padding only: {padding}")
    for axis, ((low, high), size) in enumerate(zip(padding, x.shape[1:-1], strict=True), start=1):
        if low or high:  # a window that sees padding sees the border too: repeating that changes no maximum
            x = np.take(x, np.clip(np.arange(-low, size + high), 0, size - 1), axis=axis)
    return tree(np.maximum, windows.views(x, pool, strides, (1,) * len(pool)))


Product = Callable[[Any, Any], Any]
"""A matrix product of data with constants."""


@op(1, attrs=("pool", "strides", "padding"))
def sum_pool(
    x: Any, *, pool: tuple[int, ...], strides: tuple[int, ...], padding: windows.Padding, product: Product = operator.matmul
) -> Any:
    """Sum of the elements of each window of each channel; exact.

    Args:
        x: Data (batch, sizes…, channels).
        pool: Elements of a window along each axis.
        strides: Per axis.
        padding: Zeros before and after, per axis.
        product: Computes the sums, as products with ones.
    """
    x = pad(x, widths=(*padding, (0, 0))) if any(map(any, padding)) else x
    views = windows.views(x, pool, strides, (1,) * len(pool))
    rows = np.concatenate([np.reshape(view, (*view.shape, 1)) for view in views], axis=-1)
    return np.reshape(product(rows, np.ones((len(views), 1))), views[0].shape)


@op(1, attrs=("axes",))
def reduce_sum(x: Any, *, axes: tuple[int, ...], product: Product = operator.matmul) -> Any:
    """Sum over some axes, of which one element each remains; exact. `axes` count from 0, without batch."""
    rows = _along_last(x, axes)
    return _reduced(product(rows, np.ones((rows.shape[-1], 1))), x, axes)


@op(1, attrs=("axes",))
def reduce_max(x: Any, *, axes: tuple[int, ...]) -> Any:
    """Greatest element along some axes, of which one element each remains; exact. `axes` count from 0, without batch."""
    return _reduced(tree_along(np.maximum, _along_last(x, axes)), x, axes)


@op(1, attrs=("axes",))
def reduce_min(x: Any, *, axes: tuple[int, ...]) -> Any:
    """Least element along some axes, of which one element each remains; exact. `axes` count from 0, without batch."""
    return _reduced(tree_along(np.minimum, _along_last(x, axes)), x, axes)


def _along_last(x: Any, axes: tuple[int, ...]) -> Any:
    """(batch, what stays…, all that is reduced)."""
    reduced = [axis + 1 for axis in axes]
    kept = [axis for axis in range(1, x.ndim) if axis not in reduced]
    if len({*reduced, *kept}) != len(reduced) + len(kept) or len(kept) + len(reduced) != x.ndim - 1 or not axes:
        raise ValueError(f"axes {axes} are not different axes of data of shape {x.shape[1:]}")
    sizes = (len(x), *(x.shape[axis] for axis in kept), math.prod(x.shape[axis] for axis in reduced))
    return np.reshape(np.transpose(x, (0, *kept, *reduced)), sizes)


def _reduced(result: Any, x: Any, axes: tuple[int, ...]) -> Any:
    return np.reshape(result, (len(x), *(1 if axis in axes else size for axis, size in enumerate(x.shape[1:]))))

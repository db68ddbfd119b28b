"""Effective bit operations (EBOPs): the one set of formulas (HGQ, arXiv:2405.00645).

The bits are those of each element, signs included: of data as declared, of constants as they are (`hgq.numerics.Fixed.minimal`). A
multiplication of a by b bits costs a*b, the addition of a constant its bits, that of two values the bits of the wider one. Everything is
counted once per copy. In a fully parallel design every position (row, window) has a copy of its own; with a parallelisation factor,
positions take turns in fewer copies (`copies`), each as wide as the widest of its operands.

`total` sums all elements of an array: `numpy.sum` for arrays, `tensorflow.reduce_sum` for tensors.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hgq.ir import windows
from hgq.ir.contraction import read
from hgq.ir.trees import tree, tree_along

Array = Any


class Arrays(NamedTuple):
    """What formulas need of an array library beyond operators.

    Args:
        total: Sums all elements.
        widest: Maximum along ``axis``.
        take: Elements by number along ``axis``.
        reshape: As everywhere.
        contract: Einstein sum of one or two operands.
    """

    total: Callable[..., Any]
    widest: Callable[..., Any]
    take: Callable[..., Any]
    reshape: Callable[..., Any]
    contract: Callable[..., Any]


NUMPY = Arrays(np.sum, np.max, np.take, np.reshape, np.einsum)


def copies(bits: Array, parallel: int | None, arrays: Arrays = NUMPY) -> Array:
    """Bits of rows (…, channels) that take turns: (parallel, channels), the widest of rows j, j + parallel, …; None leaves them alone."""
    if parallel is None:
        return bits
    return arrays.widest(arrays.reshape(bits, (-1, parallel, bits.shape[-1])), axis=0)


def dense(
    bits_x: Array,
    bits_kernel: Array,
    bits_bias: Array | None = None,
    total: Callable[[Array], Any] = np.sum,
    product: Callable[[Array, Array], Array] = operator.matmul,
) -> Any:
    """EBOPs of ``x @ kernel + bias``: the sum of ``bx[i] * bw[i, j]`` over i, j and all positions, plus the bias bits at each position.

    Args:
        bits_x: Bits of the input, shape (…, inputs); the leading axes are positions that share the kernel.
        bits_kernel: Bits of the kernel, shape (inputs, units).
        bits_bias: Bits of the bias, shape (units,), or None.
        total: Sums all elements.
        product: ``x @ kernel``.
    """
    products = total(product(bits_x[..., None, :], bits_kernel))
    if bits_bias is None:
        return products
    return products + math.prod(bits_x.shape[:-1]) * total(bits_bias)


def scale_offset(bits_x: Array, bits_scale: Array | None, bits_offset: Array | None = None, total: Callable[[Array], Any] = np.sum) -> Any:
    """EBOPs of ``x * scale + offset``, element by element; scale and offset, of shape (channels,), are shared by all positions.

    Args:
        bits_x: Bits of the input, shape (…, channels).
        bits_scale: Bits of the scale, or None where there is none.
        bits_offset: Bits of the offset, or None.
        total: Sums all elements.
    """
    products = total(bits_x * bits_scale) if bits_scale is not None else total(bits_x) * 0
    if bits_offset is None:
        return products
    return products + math.prod(bits_x.shape[:-1]) * total(bits_offset)


def merged(bits: Sequence[Array], total: Callable[[Array], Any] = np.sum) -> tuple[Any, Array]:
    """EBOPs of adding, subtracting or comparing values element by element, and the bits of the result.

    Two values of a and b bits cost ``max(a, b)`` (arXiv:2405.00645, eq. 11): one full adder, hence about one LUT, a bit. A maximum is the
    same: the comparison and the selection take half a LUT a bit each. More values are combined as in `tree`, a partial result counting
    ``max(a, b)`` bits: like the paper, without the carries.

    Args:
        bits: Bits of each value; shapes broadcast.
        total: Sums all elements.
    """

    def pair(a: Array, b: Array) -> tuple[Any, Array]:
        wider = _larger(a, b)
        return total(wider), wider

    return _charged(pair, bits)


def product(bits: Sequence[Array], total: Callable[[Array], Any] = np.sum) -> tuple[Any, Array]:
    """EBOPs of multiplying values element by element, and the bits of the result.

    Two values of a and b bits cost ``a * b``; their product has a + b bits, or none if either has none.

    Args:
        bits: Bits of each value; shapes broadcast.
        total: Sums all elements.
    """

    def pair(a: Array, b: Array) -> tuple[Any, Array]:
        products = a * b
        alive = products / _larger(products, products * 0 + 0.5)  # 1, or 0 where the product is 0, with no gradient
        return total(products), (a + b) * alive

    return _charged(pair, bits)


TABLE_SLOPES = (0.0, 0.25, 0.125, 0.0625, 0.0625, 0.5, 1.0, 2.0, 4.5, 8.5, 17.0, 34.0, 68.0, 136.0, 272.0, 544.0, 1088.0)
"""LUT6 that one more input bit adds to one output bit of a table: the slope of `table_luts` from 0, 1, 2 … bits on."""


def table_luts(bits_x: Array) -> Array:
    """LUT6 for one output bit of a lookup table without structure, by the bits of its index; 1 EBOP is about 1 LUT.

    ==========  =  =  ===  ====  =====  ===  =  =  =  ===  ==  ==  =====================
    index bits  0  1   2     3      4    5   6  7  8   9   10  11  from 10 on
    LUT6        0  0  1/4  3/8   7/16   1/2  1  2  4  8.5  17  34  17 * 2**(bits - 10)
    ==========  =  =  ===  ====  =====  ===  =  =  =  ===  ==  ==  =====================

    One LUT6 holds any function of 6 bits; the multiplexers F7 and F8 join 2 and 4 of them for free; beyond, a LUT6 joins four such groups.
    Used as two LUT5, it holds two output bits of the same five index bits; of few bits, some functions are constants, wires or inverters
    (of one bit, all). In between it is linear. alkaid, which knows no dual outputs, counts 1, 2, 4, 8, 16 for random tables of 6 to
    10 bits, and 1, 1.75, 3.1, 6.1, 12.1 for tanh of -4 to 4 in 8 bits: smooth functions take less, which `hgq estimate` counts.

    Args:
        bits_x: Bits of the index, sign included, up to 17.
    """
    total = bits_x * 0.0
    for knot, slope in enumerate(TABLE_SLOPES):
        if slope:
            above = (bits_x - knot + abs(bits_x - knot)) / 2  # what lies above the knot, up to 1
            total = total + slope * (above + 1 - abs(above - 1)) / 2
    return total


def table(bits_x: Array, bits_y: Array, total: Callable[[Array], Any] = np.sum) -> Any:
    """EBOPs of one lookup table for each element: `table_luts` for each bit of its result.

    Args:
        bits_x: Bits of the index of each element, sign included.
        bits_y: Bits of the result of each element, as declared.
        total: Sums all elements.
    """
    return total(table_luts(bits_x) * bits_y)


def _charged(pair: Callable[[Array, Array], tuple[Any, Array]], bits: Sequence[Array]) -> tuple[Any, Array]:
    costs = []

    def combine(a: Array, b: Array) -> Array:
        cost, result = pair(a, b)
        costs.append(cost)
        return result

    result = tree(combine, bits)
    return sum(costs), result


def _larger(a: Array, b: Array) -> Array:
    """The maximum, in operators that arrays and tensors share."""
    return (a + b + abs(a - b)) / 2


def conv(
    bits_x: Array,
    bits_kernel: Array,
    bits_bias: Array | None = None,
    arrays: Arrays = NUMPY,
    *,
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: windows.Padding,
    groups: int = 1,
    parallel: int | None = None,
) -> Any:
    """EBOPs of `hgq.ir.ops.conv` plus a bias: ``bx * bw`` of every product of every copy, and the bias bits of each.

    Padding costs nothing: a product with a known 0 is no hardware.

    Args:
        bits_x: Bits of the input, shape (*sizes, channels).
        bits_kernel: Bits of the kernel, shape (*taps, channels // groups, outputs).
        bits_bias: Bits of the bias, shape (outputs,), or None.
        arrays: The array library.
        strides: Per axis.
        dilation: Per axis.
        padding: ``(low, high)`` per axis.
        groups: Of channels.
        parallel: Windows computed at the same time; None for all.
    """
    geometry = {"strides": strides, "dilation": dilation, "padding": padding}
    if parallel is None:
        products = _all_windows(bits_x, bits_kernel, arrays, groups, **geometry)
    else:
        products = arrays.total(bits_x) * 0
        for own_x, own_kernel in tap_products(bits_x, bits_kernel, groups=groups, parallel=parallel, arrays=arrays, **geometry):
            products = products + dense(own_x, own_kernel, total=arrays.total)
    if bits_bias is None:
        return products
    count = parallel or math.prod(windows.output_sizes(bits_x.shape[:-1], bits_kernel.shape[:-2], **geometry))
    return products + count * arrays.total(bits_bias)


def _all_windows(bits_x: Array, bits_kernel: Array, arrays: Arrays, groups: int, **geometry: Any) -> Any:
    """The sum of ``bx * bw`` over all windows, taps and groups: what a tap reads in all windows is summed first, an axis at a time.

    A dozen operations, where one product for each tap is hundreds of them in the graph of a training step.
    """
    *sizes, channels = bits_x.shape
    *taps, own, outputs = bits_kernel.shape
    kind = np.dtype(getattr(bits_x.dtype, "as_numpy_dtype", bits_x.dtype))
    seen = bits_x
    for size, seeing in zip(sizes, windows.readers(sizes, taps, **geometry), strict=True):  # the first axis goes, the taps come last
        seen = arrays.contract("ps,pr->rs", seeing.astype(kind), arrays.reshape(seen, (size, -1)))
    seen = arrays.reshape(seen, (groups, channels // groups, math.prod(taps)))
    kernel = arrays.contract("tcgo->gct", arrays.reshape(bits_kernel, (math.prod(taps), own, groups, outputs // groups)))
    return arrays.total(seen * kernel)


def tap_products(
    bits_x: Array,
    bits_kernel: Array,
    *,
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: windows.Padding,
    groups: int,
    parallel: int | None = None,
    arrays: Arrays = NUMPY,
) -> Iterator[tuple[Array, Array]]:
    """A convolution as dense products, one for each tap and group: what is read, (*windows, channels), and the kernel there.

    With `parallel`, (parallel, channels): the widest that any window of a copy reads at this tap.
    """
    *taps, channels, outputs = bits_kernel.shape
    parts = windows.group_slices(groups, channels, outputs)
    geometry = (bits_x.shape[:-1], taps, strides, dilation, padding)
    if parallel is None:
        views = ((tap, bits_x[cut]) for tap, cut in windows.inside(*geometry))
    else:
        flat = arrays.reshape(bits_x, (-1, bits_x.shape[-1]))
        views = (
            (tap, copies(arrays.take(flat, number, axis=0) * seen[:, None].astype(np.float32), parallel, arrays))
            for tap, number, seen in windows.reads(*geometry)
        )
    for tap, view in views:
        for own, written in parts:
            yield view[..., own], bits_kernel[(*tap, slice(None), written)]


def einsum(
    bits_x: Array, bits_y: Array, bits_bias: Array | None = None, arrays: Arrays = NUMPY, *, equation: str, parallel: int | None = None
) -> Any:
    """EBOPs of `hgq.ir.ops.einsum` plus a bias: ``bx * by`` of every product of every copy, and the bias bits of each.

    Args:
        bits_x: Bits of the first operand, without batch.
        bits_y: Bits of the second, constant or data.
        bits_bias: Bits of the bias, of a shape that broadcasts to the result's, or None.
        arrays: The array library.
        equation: Without batch.
        parallel: Positions of the first operand computed at the same time; None for all.
    """
    parts = read(equation)
    sizes = parts.sizes(bits_x.shape, bits_y.shape)
    own = contraction_copies(bits_x, parts.x, (parts.kept, parts.free_x, parts.contracted), sizes, parallel, arrays)
    kernel = contraction_copies(bits_y, parts.y, (parts.kept, parts.free_y, parts.contracted), sizes, None, arrays)
    products = arrays.total(arrays.contract("ipc,igc->ipg", own, kernel))
    if bits_bias is None:
        return products
    bias = bits_bias + np.zeros(parts.shape(sizes), np.float32)
    groups = (parts.kept, parts.free_x, parts.free_y)
    return products + arrays.total(contraction_copies(bias, parts.out, groups, sizes, parallel, arrays))


def contraction_copies(
    bits: Array, letters: str, groups: Sequence[str], sizes: Mapping[str, int], parallel: int | None, arrays: Arrays = NUMPY
) -> Array:
    """Bits with axes `letters` in three groups of axes, each made one; the second, the positions, take turns as in `copies`."""
    ordered = arrays.contract(f"{letters}->{''.join(groups)}", bits)
    kept, positions, rest = (math.prod(sizes[letter] for letter in group) for group in groups)
    if parallel is None:
        return arrays.reshape(ordered, (kept, positions, rest))
    return arrays.widest(arrays.reshape(ordered, (kept, positions // parallel, parallel, rest)), axis=1)


def pooled(
    bits_x: Array,
    pool: Sequence[int],
    strides: Sequence[int],
    padding: windows.Padding,
    total: Callable[[Array], Any] = np.sum,
    xp: Any = np,
) -> tuple[Any, Array]:
    """EBOPs of the sum or the maximum of each window of each channel, and the bits of the result: `merged`, tap by tap.

    Padding costs nothing: it takes no part.

    Args:
        bits_x: Bits of the input, shape (*sizes, channels).
        pool: Elements of a window along each axis.
        strides: Per axis.
        padding: ``(low, high)`` per axis.
        total: Sums all elements.
        xp: The arrays' namespace, `numpy` or `tensorflow`.
    """
    widths = (*padding, (0, 0))
    there = np.pad(np.ones((*bits_x.shape[:-1], 1), np.float32), widths)
    views = [xp.pad(bits_x, widths)[None], there[None]]
    bits, masks = (windows.views(x, pool, strides, (1,) * len(pool)) for x in views)
    costs = []

    def combine(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        wider = _larger(a[0], b[0])
        both = a[1] * b[1]
        costs.append(total(wider * both) if (both == 0).any() else total(wider))
        return wider, np.maximum(a[1], b[1])

    result, _ = tree(combine, list(zip(bits, masks, strict=True)))
    return sum(costs, total(result) * 0), result[0]


def reduced(bits_x: Array, axes: Sequence[int], total: Callable[[Array], Any] = np.sum, xp: Any = np) -> tuple[Any, Array]:
    """EBOPs of the sum or the extremum over some axes, and the bits of the result, those axes with one element each: `merged`.

    Args:
        bits_x: Bits of the input.
        axes: What is reduced, counted from 0.
        total: Sums all elements.
        xp: The arrays' namespace, `numpy` or `tensorflow`.
    """
    rest = [axis for axis in range(len(bits_x.shape)) if axis not in axes]
    costs = []

    def combine(a: Array, b: Array) -> Array:
        wider = _larger(a, b)
        costs.append(total(wider))
        return wider

    shape = [*(bits_x.shape[axis] for axis in rest), math.prod(bits_x.shape[axis] for axis in axes)]
    result = tree_along(combine, xp.reshape(xp.transpose(bits_x, [*rest, *axes]), shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(bits_x.shape)]
    return sum(costs, total(result) * 0), xp.reshape(result, kept)

"""Sliding windows over the axes between batch and channels: the geometry that convolution, pooling and their costs share.

Shapes are channels last, ``(batch, *sizes, channels)``. Window `o` of an axis reads at tap `t` its element
``o * stride + t * dilation - low``; `low` and `high` are the elements that padding adds at either end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

Padding = tuple[tuple[int, int], ...]


def padding_of(mode: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Padding:
    """The elements that ``"valid"``, ``"same"`` or ``"causal"`` add at the two ends of each axis, as in Keras."""
    pairs = []
    for size, taps, stride, step in zip(sizes, kernel, strides, dilation, strict=True):
        span = (taps - 1) * step
        if mode == "causal":
            pairs.append((span, 0))
        elif mode == "same":
            missing = max((-(-size // stride) - 1) * stride + span + 1 - size, 0)
            pairs.append((missing // 2, missing - missing // 2))
        else:
            pairs.append((0, 0))
    return tuple(pairs)


def output_sizes(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], padding: Padding
) -> tuple[int, ...]:
    """Windows along each axis.

    Raises:
        ValueError: a window is larger than its padded axis.
    """
    spans = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    padded = [size + low + high for size, (low, high) in zip(sizes, padding, strict=True)]
    if any(span > size for span, size in zip(spans, padded, strict=True)):
        raise ValueError(f"windows of {tuple(spans)} elements do not fit into {tuple(padded)}")
    return tuple((size - span) // stride + 1 for size, span, stride in zip(padded, spans, strides, strict=True))


def views(x: Any, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> list[Any]:
    """For each tap of the kernel in C order, what all windows of the padded `x` read at it: arrays (batch, *windows, channels)."""
    sizes = output_sizes(x.shape[1:-1], kernel, strides, dilation, ((0, 0),) * len(kernel))
    found = []
    for tap in product(*map(range, kernel)):
        starts = (t * step for t, step in zip(tap, dilation, strict=True))
        found.append(x[(slice(None), *(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, sizes, strides, strict=True)))])
    return found


def inside(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], padding: Padding
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each tap, the elements of the unpadded array that windows read at it; taps that only see padding are left out."""
    windows = output_sizes(sizes, kernel, strides, dilation, padding)
    for tap in product(*map(range, kernel)):
        cut = []
        for t, n, size, stride, step, (low, _) in zip(tap, windows, sizes, strides, dilation, padding, strict=True):
            start = t * step - low
            first = max(-(start // stride), 0)  # the first window whose element is not padding
            last = min((size - 1 - start) // stride, n - 1)
            cut.append(slice(start + first * stride, start + last * stride + 1, stride) if first <= last else slice(0, 0))
        if all(part.stop > part.start for part in cut):
            yield tap, tuple(cut)


def readers(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], padding: Padding
) -> list[np.ndarray]:
    """For each axis, how many of its windows read an element at a tap: 0 or 1, shape (elements, taps). Along several axes they multiply."""
    counts = output_sizes(sizes, kernel, strides, dilation, padding)
    found = []
    for n, taps, size, stride, step, (low, _) in zip(counts, kernel, sizes, strides, dilation, padding, strict=True):
        at = np.arange(n)[:, None] * stride + np.arange(taps) * step - low
        found.append((at == np.arange(size)[:, None, None]).sum(axis=1))
    return found


def reads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], padding: Padding
) -> Iterator[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
    """For each tap, what every window reads there: its element's number in C order, and whether there is one (else it is padding)."""
    counts = output_sizes(sizes, kernel, strides, dilation, padding)
    for tap in product(*map(range, kernel)):
        number, seen = np.zeros(counts, np.int64), np.ones(counts, bool)
        for axis, (t, n, size, stride, step, (low, _)) in enumerate(zip(tap, counts, sizes, strides, dilation, padding, strict=True)):
            at = (np.arange(n) * stride + t * step - low).reshape([-1 if own == axis else 1 for own in range(len(counts))])
            number, seen = number * size + np.clip(at, 0, size - 1), seen & (at >= 0) & (at < size)
        if seen.any():
            yield tap, number.reshape(-1), seen.reshape(-1)


def group_slices(groups: int, channels: int, outputs: int) -> list[tuple[slice, slice]]:
    """For each group its `channels` of the input, and its share of all `outputs`."""
    share = outputs // groups
    return [(slice(g * channels, (g + 1) * channels), slice(g * share, (g + 1) * share)) for g in range(groups)]

"""Trees of two-operand operations: the shape that layers, costs and hardware give to a sum or a maximum of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def tree(combine: Callable[[Any, Any], Any], values: Sequence[Any]) -> Any:
    """Combine values two by two, neighbours first."""
    values = list(values)
    while len(values) > 1:
        pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]


def tree_along(combine: Callable[[Any, Any], Any], x: Any) -> Any:
    """`tree` of the elements of the last axis, which keeps one; each round in one step.

    Args:
        combine: Of two arrays of one shape, element by element.
        x: Any array that can be sliced, with at least one element along the last axis.
    """
    last = None  # the odd one out: it stands behind all others
    while (size := x.shape[-1]) > 1 or last is not None:
        if size == 1 and last is not None:
            return combine(x, last)
        pairs = combine(x[..., 0 : size - 1 : 2], x[..., 1:size:2])
        if size % 2:
            odd = x[..., size - 1 :]
            last = odd if last is None else combine(odd, last)
        x = pairs
    return x

"""Einstein sums of two operands: how an equation is read, and how it is done with matrix products or with products and additions.

An equation such as ``"ab,bc->ac"`` names the axes of two operands and of the result, the batch not counted, each axis by one letter. A
letter falls into one of four kinds: it is *kept* (in both operands and the result: one small product for each), *contracted* (in both
operands only: summed over), or *free* in one of them. Letters that are in one operand only and not in the result, and letters twice in one
operand, have no place in hardware products and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from operator import add, mul
from string import ascii_letters
from typing import Any

import numpy as np

from hgq.ir.trees import tree_along


@dataclass(frozen=True)
class Contraction:
    """An equation, read.

    Args:
        x: Letters of the first operand; so `y`, and `out` of the result.
        kept: Letters of both operands and the result, in the order of the result.
        contracted: Letters that are summed over.
        free_x: Letters of the first operand and the result; so `free_y`.
    """

    x: str
    y: str
    out: str
    kept: str
    contracted: str
    free_x: str
    free_y: str

    def sizes(self, x: Sequence[int], y: Sequence[int]) -> dict[str, int]:
        """Size of each letter, from the operands' shapes without batch.

        Raises:
            ValueError: the shapes do not fit the equation or each other.
        """
        if len(x) != len(self.x) or len(y) != len(self.y):
            raise ValueError(f"operands of shapes {tuple(x)} and {tuple(y)} do not fit {self.equation}")
        sizes: dict[str, int] = dict(zip(self.x, x, strict=True))
        for letter, size in zip(self.y, y, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"axis {letter} of {self.equation} has {sizes[letter]} and {size} elements")
        return sizes

    @property
    def equation(self) -> str:
        """The text that this is."""
        return f"{self.x},{self.y}->{self.out}"

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the result, without batch."""
        return tuple(sizes[letter] for letter in self.out)


def read(equation: str) -> Contraction:
    """Take an equation without spaces and ellipsis apart.

    Raises:
        ValueError: it is none, or one of those refused.
    """
    operands, arrow, out = equation.partition("->")
    x, comma, y = operands.partition(",")
    if not arrow or not comma or set(x + y + out) - set(ascii_letters):
        raise ValueError(f"{equation!r} is no equation of two operands, such as 'ab,bc->ac'")
    if any(len(set(part)) < len(part) for part in (x, y, out)):
        raise ValueError(f"{equation!r} names an axis twice in one place")
    if set(out) - set(x + y):
        raise ValueError(f"the result of {equation!r} has an axis that no operand has")
    if lonely := sorted((set(x) ^ set(y)) - set(out)):
        raise ValueError(f"{equation!r} sums over {', '.join(lonely)} of one operand alone")
    both = set(x) & set(y)
    return Contraction(
        x,
        y,
        out,
        kept="".join(c for c in out if c in both),
        contracted="".join(c for c in x if c in both and c not in out),
        free_x="".join(c for c in x if c not in both),
        free_y="".join(c for c in y if c not in both),
    )


def spelled_out(equation: str, rank_x: int, rank_y: int) -> str:
    """The equation with an ellipsis replaced by letters of its own, and without spaces; ranks as the equation counts them.

    Raises:
        ValueError: the ranks do not fit.
    """
    text = "".join(equation.split())
    operands, arrow, out = text.partition("->")
    x, comma, y = operands.partition(",")
    if not arrow or not comma:
        raise ValueError(f"{equation!r} is no equation of two operands, such as 'ab,bc->ac'")
    extra = {rank - len(part.replace("...", "")) for part, rank in ((x, rank_x), (y, rank_y)) if "..." in part}
    if len(extra) > 1 or min(extra, default=0) < 0:
        raise ValueError(f"operands of {rank_x} and {rank_y} axes do not fit {equation!r}")
    if "..." in out and not extra:
        raise ValueError(f"the result of {equation!r} has an ellipsis, but no operand has")
    unused = [c for c in ascii_letters if c not in text]
    letters = "".join(unused[: min(extra, default=0)])
    x, y, out = (part.replace("...", letters) for part in (x, y, out))
    if len(x) != rank_x or len(y) != rank_y:
        raise ValueError(f"operands of {rank_x} and {rank_y} axes do not fit {equation!r}")
    return f"{x},{y}->{out}"


def contract(x: Any, y: Any, equation: str, matmul: Callable[[Any, Any], Any], dot: Callable[[Any, Any], Any]) -> Any:
    """`hgq.ir.ops.einsum` by given products.

    Args:
        x: Data, batch first.
        y: Data, batch first, or plain numbers without a batch.
        equation: Without batch.
        matmul: Of data (batch, rows, n) with plain numbers (n, columns).
        dot: Of data (batch, rows, n) with data (batch, columns, n): (batch, rows, columns).
    """
    parts = read(equation)
    constant = y.ndim == len(parts.y)
    sizes = parts.sizes(x.shape[1:], y.shape if constant else y.shape[1:])
    if constant:
        y = np.reshape(y, (1, *y.shape))
    left = _grouped(x, parts.x, (parts.kept, parts.free_x, parts.contracted), sizes)
    right = _grouped(y, parts.y, (parts.kept, parts.free_y, parts.contracted), sizes)
    done = []
    for index in range(left.shape[1]):
        done.append(matmul(left[:, index], np.transpose(right[0, index])) if constant else dot(left[:, index], right[:, index]))
    order = parts.kept + parts.free_x + parts.free_y
    result = np.reshape(np.concatenate(done, axis=1) if len(done) > 1 else done[0], (len(x), *(sizes[c] for c in order)))
    return np.transpose(result, (0, *(order.index(c) + 1 for c in parts.out)))


def sum_of_products(left: Any, right: Any, times: Callable[[Any, Any], Any] = mul, plus: Callable[[Any, Any], Any] = add) -> Any:
    """(batch, rows, n) with (batch, columns, n) to (batch, rows, columns), the additions in a balanced tree."""
    (batch, rows, n), columns = left.shape, right.shape[1]
    terms = times(np.reshape(left, (batch, rows, 1, n)), np.reshape(right, (batch, 1, columns, n)))
    return np.reshape(tree_along(plus, terms), (batch, rows, columns))


def _grouped(array: Any, letters: str, groups: tuple[str, ...], sizes: Mapping[str, int]) -> Any:
    """The axes in the order of the groups, each group as one axis behind the batch."""
    axes = (letters.index(c) + 1 for group in groups for c in group)
    return np.reshape(np.transpose(array, (0, *axes)), (len(array), *(prod(sizes[c] for c in group) for group in groups)))

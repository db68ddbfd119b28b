"""Division by numbers of elements: times 1/n, exact or quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from hgq.ir.windows import Padding, output_sizes
from hgq.numerics import Fixed
from hgq.quantizers import Quantizer

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

DEFAULT = "weight(overflow=WRAP)"
"""What quantizes 1/n unless told otherwise: 8 significant bits, hence a relative error of up to 0.2 %."""


class Share:
    """1/n for some numbers n. Powers of two are exact; the others a quantizer quantizes, each distinct one with a bitwidth of its own.

    Args:
        counts: The numbers n, positive integers of any shape.
        quantizer: For those that are no powers of two; it is built, if there are any. None if there are none.

    Raises:
        ValueError: there are some, and no quantizer.
    """

    def __init__(self, counts: ArrayLike, quantizer: Quantizer | None = None) -> None:
        counts = np.asarray(counts, np.int64)
        powers = (counts & (counts - 1)) == 0
        self._exact, self._rest = np.unique(counts[powers]), np.unique(counts[~powers])
        order = [*self._exact, *self._rest]
        self._index = np.array([order.index(n) for n in counts.ravel()], np.int64).reshape(counts.shape)
        self._reciprocals = (1.0 / self._rest).astype(np.float32)
        if not self.exact:
            if quantizer is None:
                raise ValueError(f"1/{self._rest[0]} is no fixed-point number")
            quantizer.build(self._reciprocals.shape)
            self._quantizer = quantizer

    @property
    def exact(self) -> bool:
        """Whether nothing is quantized."""
        return len(self._rest) == 0

    def value(self, training=None):
        """The numbers that data are multiplied with, float32, of the shape of `counts`."""
        exact = (1.0 / self._exact).astype(np.float32)
        if self.exact:
            return tf.constant(exact[self._index])
        return tf.gather(tf.concat([exact, self._quantizer(self._reciprocals, training=training)], 0), self._index)

    def bits(self):
        """Bits of each of these numbers; one for a power of two."""
        ones = np.ones(len(self._exact), np.float32)
        if self.exact:
            return tf.constant(ones[self._index])
        return tf.gather(tf.concat([ones, self._quantizer.effective_bits(self._reciprocals)], 0), self._index)

    def to_ir(self, b: GraphBuilder, x: Ref) -> Ref:
        """`x` times these numbers as a node."""
        shifts = np.array([int(n).bit_length() - 1 for n in self._exact], np.int64)
        mantissa, parts = np.ones(len(shifts), np.int64), (0 * shifts, 1 - shifts, shifts)
        if not self.exact:
            rest, fixed = self._quantizer.quantized_constant(self._reciprocals)
            mantissa = np.concatenate([mantissa, rest])
            parts = tuple(np.concatenate(pair) for pair in zip(parts, fixed.astuple(), strict=True))
        fixed = Fixed(*(part[self._index] for part in parts))
        return b.op("multiply", x, b.constant(mantissa[self._index], fixed, name="share"), name="mean")


def window_counts(sizes: tuple[int, ...], pool: tuple[int, ...], strides: tuple[int, ...], padding: Padding) -> np.ndarray:
    """How many elements of an unpadded axis each window holds: shape (1,) if all hold as many, else (*windows, 1)."""
    counts = np.ones(1, np.int64)
    for size, taps, stride, (low, _), windows in zip(
        sizes, pool, strides, padding, output_sizes(sizes, pool, strides, (1,) * len(pool), padding), strict=True
    ):
        starts = np.arange(windows) * stride - low
        counts = np.multiply.outer(counts, np.minimum(starts + taps, size) - np.maximum(starts, 0))
    counts = counts[0][..., None]
    return counts.reshape(-1)[:1] if (counts == counts.flat[0]).all() else counts


def scaled(b: GraphBuilder, x: Ref, exponent: int) -> Ref:
    """``x * 2**exponent`` as a node; exact."""
    return b.op("multiply", x, b.constant(np.ones(1, np.int64), Fixed(0, 1 + exponent, -exponent), name="share"))

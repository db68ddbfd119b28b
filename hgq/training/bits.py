"""`BitHistogram`: how many weights and activations have how many bits, layer by layer, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from hgq.training.journal import Journal

COLUMNS = ("epoch", "layer", "quantizer", "bits", "count")


def histogram(model: keras.Model) -> list[tuple[str, str, int, int]]:
    """Rows ``(layer, quantizer, bits, count)``: the bits, sign included, of every element that a quantizer gives a width of its own.

    Of data these are the declared bits, of constants the effective bits of their present values.
    """
    rows = []
    for layer, name, widths in _widths(model):
        bits, counts = np.unique(widths, return_counts=True)
        rows += [(layer, name, int(b), int(n)) for b, n in zip(bits, counts, strict=True)]
    return rows


def _widths(model: keras.Model) -> Iterator[tuple[str, str, np.ndarray]]:
    from hgq.layers import qlayers
    from hgq.numerics import Fixed
    from hgq.quantizers import Quantizer

    for layer in qlayers(model):
        constants = layer.quantized_constants() if layer.built else {}
        for name, quantizer in vars(layer).items():
            if not isinstance(quantizer, Quantizer) or not quantizer.built:
                continue
            if not quantizer.constant:
                yield layer.name, name, quantizer.format().width
            elif constants.get(name) is not None:
                mantissa, fixed = quantizer.quantized_constant(np.asarray(constants[name]))
                yield layer.name, name, Fixed.minimal(mantissa, fixed.f).width


class BitHistogram(Journal):
    """Writes `histogram` to a CSV file with the columns epoch, layer, quantizer, bits, count.

    Args:
        path: The file.
        every: Epochs between two rows of it; the last epoch is always there.
    """

    columns = COLUMNS

    def __init__(self, path: str | Path, every: int = 10) -> None:
        super().__init__(path, every)

    def measured(self):
        return histogram(self.model)

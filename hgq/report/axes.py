"""Scales, ticks and number formats of the charts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps numbers to pixels.

    Args:
        low: Number at the first pixel.
        high: Number at the last.
        first: First pixel.
        last: Last pixel; smaller than `first` on an axis that points up.
        log: Logarithmic.
    """

    low: float
    high: float
    first: float
    last: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a number."""
        low, high, x = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.first + (x - low) / (high - low) * (self.last - self.first)

    def holds(self, value: float) -> bool:
        """Whether a number lies on the axis."""
        return math.isfinite(value) and self.low <= value <= self.high

    def ticks(self, most: int = 7) -> list[float]:
        """Round numbers on the axis."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def scale_for(values: Iterable[float], first: float, last: float, *, log: bool = False, pad: float = 0.06) -> Scale:
    """A scale that shows all `values` with a margin; a logarithmic one needs positive numbers."""
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    low, high = (min(kept), max(kept)) if kept else (1.0, 10.0)
    if log:
        a, b = math.log10(low), math.log10(high)
        margin = max((b - a) * pad, 0.04)
        return Scale(10 ** (a - margin), 10 ** (b + margin), first, last, True)
    flat = high - low <= 1e-9 * max(abs(low), abs(high), 1e-3)
    margin = (abs(high) * 0.05 if abs(high) > 1e-9 else 0.5) if flat else (high - low) * pad
    return Scale(low - margin, high + margin, first, last)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = (float(f"{n * step:.12g}") for n in range(first, math.floor(high / step + 1e-9) + 1))
    return [tick for tick in ticks if low <= tick <= high]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**p for p in powers for d in digits if low <= d * 10.0**p <= high]
        if len(ticks) <= most:
            break
    every = -(-len(ticks) // most) if ticks else 1
    return ticks[::every] if len(ticks) > 1 else _linear_ticks(low, high, most)


def number(value: float) -> str:
    """A number for a label: thousands separated, at most four significant digits."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000 or (float(value).is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}·10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return f"{value:.4g}"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

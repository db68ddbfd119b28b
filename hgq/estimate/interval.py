"""A number with what is known about its error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate and the range it is expected in.

    Args:
        low: Least plausible value.
        value: The best single guess.
        high: Greatest plausible value.

    An exact number has all three equal. The range is the spread seen in the calibration that ``based_on`` names, not a proven bound.
    """

    low: float
    value: float
    high: float

    @staticmethod
    def exact(value: float) -> Interval:
        """A number without error."""
        return Interval(value, value, value)

    @property
    def is_exact(self) -> bool:
        """Whether there is no range."""
        return self.low == self.high

    def __add__(self, other: Interval) -> Interval:
        """Sum of two estimates whose errors go together, as those of one estimator do."""
        return Interval(self.low + other.low, self.value + other.value, self.high + other.high)

    def __mul__(self, other: Interval | float) -> Interval:
        other = other if isinstance(other, Interval) else Interval.exact(other)
        return Interval(self.low * other.low, self.value * other.value, self.high * other.high)

    def rounded(self) -> Interval:
        """To whole numbers, outwards."""
        return Interval(int(self.low), round(self.value), -int(-self.high // 1))

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return {"low": self.low, "value": self.value, "high": self.high}


def total(parts: Iterable[Interval]) -> Interval:
    """Sum; exactly 0 for none."""
    result = Interval.exact(0)
    for part in parts:
        result = result + part
    return result

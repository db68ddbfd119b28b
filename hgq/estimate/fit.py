"""Fit what each count of the RTL is worth in LUTs, flip-flops and carry cells on a family of devices, to real synthesis.

A figure is a sum of counts (`hgq.converters.rtl.logic.FEATURES`) times non-negative coefficients that make the mean of the *relative*
errors, not of their squares, smallest: small designs weigh as much as large ones, and one that is synthesised strangely pulls little.
How sure it is, is measured on families of designs that the fit did not see, apart for designs with and without counts that are `ROUGH`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import DataError
from hgq.estimate.interval import Interval

ROUGH = ("table_leaf", "table_tree", "small_area", "dsp", "wide")
"""Counts of what a synthesiser finds its own way for: larger tables, products of two values, functions of many bits."""
SMALLEST = 20.0
"""Designs with fewer of what is counted say nothing about a relative error."""
COVERAGE = 0.90
"""Share of unseen designs whose count lies within the range."""


@dataclass(frozen=True)
class Fit:
    """Coefficients of one resource.

    Args:
        coefficients: By name of the count.
        spread: Factors around the guess: where `COVERAGE` of unseen designs lie.
        rough_spread: The same for designs with something of `ROUGH`.
        basis: What it was fitted to and how well, for people.
    """

    coefficients: Mapping[str, float]
    spread: Interval
    rough_spread: Interval
    basis: str = ""

    def predict(self, counts: Mapping[str, float]) -> float:
        """The guess."""
        return _predicted(self.coefficients, counts)

    def interval(self, counts: Mapping[str, float]) -> Interval:
        """The guess and its range."""
        return (self.rough_spread if is_rough(counts) else self.spread) * self.predict(counts)


def is_rough(counts: Mapping[str, float]) -> bool:
    """Whether a design has anything of `ROUGH`."""
    return any(counts.get(name, 0) > 0 for name in ROUGH)


@dataclass(frozen=True)
class Unseen:
    """Errors of designs of families that were left out of the fit, one family at a time.

    Args:
        ratios: Measured over predicted, by (family, seed).
        rough: Which of them are `is_rough`.
        among: All designs of the fit, if `ratios` are only some of them: a range then holds what either of them asks for.
    """

    ratios: Mapping[tuple[str, int], float]
    rough: frozenset[tuple[str, int]]
    among: Mapping[tuple[str, int], float] | None = None

    def error(self, share: float) -> float:
        """This quantile of the relative error ``|predicted / measured - 1|``."""
        return float(np.quantile([abs(1 / ratio - 1) for ratio in self.ratios.values()], share))

    def of(self, families: Iterable[str]) -> Unseen:
        """The same for some families only."""
        wanted = set(families)
        return Unseen({key: ratio for key, ratio in self.ratios.items() if key[0] in wanted}, self.rough, self.among)

    def seeds_below(self, limit: int) -> Unseen:
        """The same for designs of these seeds only; ranges hold what they or all designs ask for."""
        return Unseen({key: ratio for key, ratio in self.ratios.items() if key[1] < limit}, self.rough, self.among or self.ratios)

    def spread(self, rough: bool, without: str = "") -> Interval:
        """Where `COVERAGE` of designs of this kind lie, those of family `without` left out."""
        found = [self._spread(designs, rough, without) for designs in (self.ratios, self.among) if designs is not None]
        return Interval(min(one.low for one in found), 1.0, max(one.high for one in found))

    def _spread(self, designs: Mapping[tuple[str, int], float], rough: bool, without: str) -> Interval:
        alike = [ratio for key, ratio in designs.items() if (key in self.rough) == rough and key[0] != without]
        return spread_of(alike) if alike else self._spread(designs, not rough, without)

    def coverage(self, families: Iterable[str] | None = None) -> float:
        """Share of designs, of these families or all, that lie in the range which the other families give."""
        wanted = set(families) if families is not None else {family for family, _ in self.ratios}
        inside = []
        for key, ratio in self.ratios.items():
            if key[0] in wanted:
                spread = self.spread(key in self.rough, without=key[0])
                inside.append(spread.low <= ratio <= spread.high)
        return float(np.mean(inside))


def fit(rows: Sequence[Mapping[str, Any]], resource: str, features: Sequence[str], smallest: float = SMALLEST) -> tuple[Fit, Unseen]:
    """Fit one resource.

    Args:
        rows: Designs: ``family``, ``seed``, ``logic`` (counts) and the resource measured.
        resource: Key of what was measured, such as ``lut``.
        features: Names of the counts that may explain it.
        smallest: Designs with less of the resource are left out.

    Returns:
        The fit to all rows, and how well families are predicted that it does not see.

    Raises:
        DataError: fewer than three families.
    """
    used = [row for row in rows if row.get(resource, 0) >= smallest]
    families = sorted({row["family"] for row in used})
    if len(families) < 3:
        raise DataError("Too few designs to fit.", expected="three families or more", received=f"{len(used)} designs of {families}")
    ratios: dict[tuple[str, int], float] = {}
    for family in families:
        coefficients = _solve([row for row in used if row["family"] != family], resource, features)
        for row in used:
            if row["family"] == family:
                ratios[family, row["seed"]] = row[resource] / max(_predicted(coefficients, row["logic"]), 1.0)
    unseen = Unseen(ratios, frozenset((row["family"], row["seed"]) for row in used if is_rough(row["logic"])))
    return Fit(_solve(used, resource, features), unseen.spread(False), unseen.spread(True)), unseen


def spread_of(ratios: Sequence[float]) -> Interval:
    """Factors between which `COVERAGE` of the ratios lie, equal shares beyond either end; they always hold 1.

    The ends are those order statistics that hold a further ratio of the same kind with this probability (conformal prediction: Vovk,
    Gammerman and Shafer 2005), so a small sample gives a wider range.
    """
    ordered = np.sort(ratios)
    tail = (1 - COVERAGE) / 2
    position = tail * (len(ordered) + 1) - 1
    low = ordered[max(int(np.floor(position)), 0)]
    high = ordered[min(int(np.ceil(len(ordered) - 1 - position)), len(ordered) - 1)]
    return Interval(round(min(low, 1.0), 4), 1.0, round(max(high, 1.0), 4))


def _predicted(coefficients: Mapping[str, float], counts: Mapping[str, float]) -> float:
    return float(sum(value * counts.get(name, 0.0) for name, value in coefficients.items()))


def _solve(rows: Sequence[Mapping[str, Any]], resource: str, features: Sequence[str]) -> dict[str, float]:
    """Least absolute relative errors, as a linear programme: each error lies between -e and e, and the sum of all e is smallest."""
    from scipy.optimize import linprog

    counts: NDArray[np.float64] = np.array([[row["logic"].get(name, 0.0) for name in features] for row in rows])
    relative = counts / np.array([float(row[resource]) for row in rows])[:, None]
    one, error = np.ones(len(rows)), np.eye(len(rows))
    limits = np.block([[relative, -error], [-relative, -error]])
    result = linprog(np.r_[np.zeros(len(features)), one], A_ub=limits, b_ub=np.r_[one, -one], bounds=(0, None), method="highs")
    return {name: round(float(value), 5) for name, value in zip(features, result.x, strict=False) if value > 1e-9}

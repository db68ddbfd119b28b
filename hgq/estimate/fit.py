"""Fit what each count of the RTL is worth in LUTs, flip-flops and carry cells on a family of devices, to real synthesis.

A figure is a sum of counts (`hgq.converters.rtl.logic.FEATURES`) times non-negative coefficients, by least squares of the *relative*
error, so that small designs weigh as much as large ones. How sure it is, is measured on families of designs that the fit did not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import DataError
from hgq.estimate.interval import Interval

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
        basis: What it was fitted to and how well, for people.
    """

    coefficients: Mapping[str, float]
    spread: Interval
    basis: str = ""

    def predict(self, counts: Mapping[str, float]) -> float:
        """The guess."""
        return float(sum(value * counts.get(name, 0.0) for name, value in self.coefficients.items()))

    def interval(self, counts: Mapping[str, float]) -> Interval:
        """The guess and its range."""
        return self.spread * self.predict(counts)


@dataclass(frozen=True)
class Unseen:
    """Errors of designs of families that were left out of the fit, one family at a time.

    Args:
        ratios: Measured over predicted, by (family, seed).
    """

    ratios: Mapping[tuple[str, int], float]

    def error(self, share: float) -> float:
        """This quantile of the relative error ``|predicted / measured - 1|``."""
        return float(np.quantile([abs(1 / ratio - 1) for ratio in self.ratios.values()], share))

    def of(self, families: Iterable[str]) -> Unseen:
        """The same for some families only."""
        wanted = set(families)
        return Unseen({key: ratio for key, ratio in self.ratios.items() if key[0] in wanted})


def fit(rows: Sequence[Mapping[str, Any]], resource: str, features: Sequence[str]) -> tuple[Fit, Unseen]:
    """Fit one resource.

    Args:
        rows: Designs: ``family``, ``seed``, ``logic`` (counts) and the resource measured.
        resource: Key of what was measured, such as ``lut``.
        features: Names of the counts that may explain it.

    Returns:
        The fit to all rows, and how well families are predicted that it does not see.

    Raises:
        DataError: fewer than three families.
    """
    used = [row for row in rows if row.get(resource, 0) >= SMALLEST]
    families = sorted({row["family"] for row in used})
    if len(families) < 3:
        raise DataError("Too few designs to fit.", expected="three families or more", received=f"{len(used)} designs of {families}")
    ratios: dict[tuple[str, int], float] = {}
    for family in families:
        coefficients = _solve([row for row in used if row["family"] != family], resource, features)
        for row in used:
            if row["family"] == family:
                predicted = Fit(coefficients, Interval.exact(1)).predict(row["logic"])
                ratios[family, row["seed"]] = row[resource] / max(predicted, 1.0)
    return Fit(_solve(used, resource, features), spread_of(list(ratios.values()))), Unseen(ratios)


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


def _solve(rows: Sequence[Mapping[str, Any]], resource: str, features: Sequence[str]) -> dict[str, float]:
    from scipy.optimize import nnls

    counts: NDArray[np.float64] = np.array([[row["logic"].get(name, 0.0) for name in features] for row in rows])
    measured = np.array([float(row[resource]) for row in rows])
    solution, _ = nnls(counts / measured[:, None], np.ones(len(rows)))
    return {name: round(float(value), 5) for name, value in zip(features, solution, strict=True) if value > 0}

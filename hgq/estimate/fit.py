"""Fit what each count of the RTL is worth in LUTs, flip-flops and carry cells on a family of devices, to real synthesis.

A figure is a sum of counts (`hgq.converters.rtl.logic.FEATURES`) times non-negative coefficients that make the mean of the *relative*
errors, not of their squares, smallest: small designs weigh as much as large ones, and one that is synthesised strangely pulls little.
How sure it is, is measured on families of designs that the fit did not see. Errors grow with the share of a design that is `ROUGH`, so
ranges do: a conformal range of the logarithm of the error in units of its size at that share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import DataError
from hgq.estimate.interval import Interval

Feature = str | tuple[str, ...]
"""A count, or several with one coefficient."""
ROUGH: Mapping[str, float] = {
    "table_leaf": 1.25, "middle_leaf": 1.25, "table_node": 0.0625, "middle_node": 0.0625, "small_area": 1.0, "wide": 1.0,
}  # fmt: skip
"""Counts of what a synthesiser finds its own way for, tables, products of two values, functions of many bits: LUTs of each, about."""
PLAIN = ("pairs", "dsp_pairs", "joined_constant", "gates")
"""Counts of a LUT each, about, which leave it little choice."""
LEAST_SCATTER = 0.002
"""Of the logarithm of an error: what is exact in every design but one is not known to be exact in the next."""
SMALLEST = 20.0
"""Designs with fewer of what is counted say nothing about a relative error."""
COVERAGE = 0.90
"""Share of unseen designs whose count lies within the range."""


@dataclass(frozen=True)
class Fit:
    """Coefficients of one resource.

    Args:
        coefficients: By name of the count.
        spread: Factors around the guess where `COVERAGE` of unseen designs lie that have nothing of `ROUGH`.
        rough_spread: The same for designs that have nothing else; in between, `between` them.
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
        return between(self.spread, self.rough_spread, rough_share(counts)) * self.predict(counts)


def rough_share(counts: Mapping[str, float]) -> float:
    """The share of a design's LUTs, about, that are `ROUGH`."""
    rough = sum(weight * counts.get(name, 0.0) for name, weight in ROUGH.items())
    return rough / max(rough + sum(counts.get(name, 0.0) for name in PLAIN), 1.0)


def between(spread: Interval, rough_spread: Interval, share: float) -> Interval:
    """Factors of a design of which this share is rough: logarithms grow with it."""
    low, high = (
        math.exp((1 - share) * math.log(smooth) + share * math.log(rough))
        for smooth, rough in ((spread.low, rough_spread.low), (spread.high, rough_spread.high))
    )
    return Interval(low, 1.0, high)


@dataclass(frozen=True)
class Unseen:
    """Errors of designs of families that were left out of the fit, one family at a time.

    Args:
        ratios: Measured over predicted, by (family, seed).
        shares: Of each, the `rough_share`; or 0 of all.
    """

    ratios: Mapping[tuple[str, int], float]
    shares: Mapping[tuple[str, int], float]

    def error(self, share: float) -> float:
        """This quantile of the relative error ``|predicted / measured - 1|``."""
        return float(np.quantile([abs(1 / ratio - 1) for ratio in self.ratios.values()], share))

    def of(self, families: Iterable[str]) -> Unseen:
        """The same for some families only."""
        wanted = set(families)
        return Unseen({key: ratio for key, ratio in self.ratios.items() if key[0] in wanted}, self.shares)

    def seeds_below(self, limit: int) -> Unseen:
        """The same for designs of these seeds only."""
        return Unseen({key: ratio for key, ratio in self.ratios.items() if key[1] < limit}, self.shares)

    def spreads(self, without: str = "") -> tuple[Interval, Interval]:
        """Where `COVERAGE` of designs with nothing and with nothing but rough counts lie, those of family `without` left out."""
        keys = [key for key in self.ratios if key[0] != without]
        return spreads_of([self.ratios[key] for key in keys], [self.shares[key] for key in keys])

    def coverage(self, families: Iterable[str] | None = None) -> float:
        """Share of designs, of these families or all, that lie in the range which the other families give."""
        wanted = {family for family, _ in self.ratios} & (set(families) if families is not None else {key[0] for key in self.ratios})
        spreads = {family: self.spreads(without=family) for family in wanted}
        inside = []
        for key, ratio in self.ratios.items():
            if key[0] in wanted:
                spread = between(*spreads[key[0]], self.shares[key])
                inside.append(spread.low <= ratio <= spread.high)
        return float(np.mean(inside))


def fit(
    rows: Sequence[Mapping[str, Any]], resource: str, features: Sequence[Feature], smallest: float = SMALLEST, graded: bool = True
) -> tuple[Fit, Unseen]:
    """Fit one resource.

    Args:
        rows: Designs: ``family``, ``seed``, ``logic`` (counts) and the resource measured.
        resource: Key of what was measured, such as ``lut``.
        features: Names of the counts that may explain it; those in a tuple have one coefficient, being the same thing on this family.
        smallest: Designs with less of the resource are left out.
        graded: Whether errors may grow with the share of a design that is `ROUGH`; else there is one range.

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
    unseen = Unseen(ratios, {(row["family"], row["seed"]): rough_share(row["logic"]) if graded else 0.0 for row in used})
    return Fit(_solve(used, resource, features), *unseen.spreads()), unseen


def spreads_of(ratios: Sequence[float], shares: Sequence[float]) -> tuple[Interval, Interval]:
    """Factors between which `COVERAGE` of the ratios lie at a rough share of 0 and of 1, equal shares beyond either end; they hold 1.

    The size of an error's logarithm is a line over the share, fitted by non-negative least squares. The ends are those order statistics of
    the errors in units of that size which hold a further one of the same kind with this probability (normalised conformal prediction:
    Papadopoulos, Vovk and Gammerman 2011, Journal of Artificial Intelligence Research 40), so a small sample gives a wider range.
    """
    from scipy.optimize import nnls

    errors = np.log(ratios)
    terms = np.column_stack([np.ones(len(errors)), shares])
    line, _ = nnls(terms, np.abs(errors))
    ordered = np.sort(errors / np.maximum(terms @ line, LEAST_SCATTER))
    place = (1 - COVERAGE) / 2 * (len(ordered) + 1) - 1
    low = min(ordered[max(math.floor(place), 0)], 0.0)
    high = max(ordered[min(math.ceil(len(ordered) - 1 - place), len(ordered) - 1)], 0.0)
    sizes = (max(line[0], LEAST_SCATTER), max(line.sum(), LEAST_SCATTER))
    smooth, rough = (Interval(round(math.exp(low * size), 4), 1.0, round(math.exp(high * size), 4)) for size in sizes)
    return smooth, rough


def _predicted(coefficients: Mapping[str, float], counts: Mapping[str, float]) -> float:
    return float(sum(value * counts.get(name, 0.0) for name, value in coefficients.items()))


def _solve(rows: Sequence[Mapping[str, Any]], resource: str, features: Sequence[Feature]) -> dict[str, float]:
    """Least absolute relative errors, as a linear programme: each error lies between -e and e, and the sum of all e is smallest."""
    from scipy.optimize import linprog

    alike = [(feature,) if isinstance(feature, str) else feature for feature in features]
    counts: NDArray[np.float64] = np.array([[sum(row["logic"].get(name, 0.0) for name in names) for names in alike] for row in rows])
    relative = counts / np.array([float(row[resource]) for row in rows])[:, None]
    one, error = np.ones(len(rows)), np.eye(len(rows))
    limits = np.block([[relative, -error], [-relative, -error]])
    result = linprog(np.r_[np.zeros(len(features)), one], A_ub=limits, b_ub=np.r_[one, -one], bounds=(0, None), method="highs")
    found = {name: round(float(value), 5) for names, value in zip(alike, result.x, strict=False) for name in names}
    return {name: value for name, value in found.items() if value > 0}

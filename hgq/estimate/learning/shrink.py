"""From few measurements of one part to a correction, without forgetting what is known from elsewhere.

Let r be the logarithm of what was measured over what was predicted. The prior range of an estimate, 90 % between its ends, has two causes
in equal parts: the part and tool at hand are off by a constant m, and each design is off by its own e::

    r_k = m + e_k,    m ~ N(0, t^2),    e_k ~ N(0, s^2),    t^2 = s^2 = (log(high / low) / (2 * 1.645))^2 / 2

With n measurements of mean a the best guess of m is ``a n / (n + s^2/t^2)``: one report moves the estimate half the way, four of them four
fifths. Its variance is ``s^2 t^2 / (n t^2 + s^2)``. The scatter s is learned too: the prior counts as `WEIGHT` measurements. The range of a
further design is that of Student's distribution with as many degrees of freedom; without a measurement it is the prior range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hgq.estimate.fit import COVERAGE
from hgq.estimate.interval import Interval

NORMAL = 1.6449
"""Half of the range that holds `COVERAGE` of a normal distribution, in standard deviations."""
WEIGHT = 4.0
"""Measurements that the prior scatter is worth: its distribution is scaled inverse chi-square with so many degrees of freedom."""
SMALLEST_SPREAD = 0.02
"""Prior ranges narrower than this say that nobody has measured, not that there is no scatter."""


@dataclass(frozen=True)
class Correction:
    """What measurements say about one figure.

    Args:
        factor: Measured over predicted, for the next design: guess and range.
        measurements: How many it comes from.
        mean: Their plain mean ratio.
    """

    factor: Interval
    measurements: int
    mean: float

    def apply(self, prior: Interval) -> Interval:
        """The corrected figure; its range is that of the correction, around the prior's guess."""
        return self.factor * prior.value


def shrink(ratios: Sequence[float], prior: Interval) -> Correction:
    """The correction that `ratios` ask for.

    Args:
        ratios: Measured over predicted, each positive.
        prior: The range of the estimate, as factors around its guess.
    """
    spread = max(math.log(prior.high / prior.low) / (2 * NORMAL), SMALLEST_SPREAD) if prior.low > 0 else 0.5
    part = scatter = spread**2 / 2
    logs = np.log(np.asarray(ratios, float))
    n = len(logs)
    if not n:
        return Correction(prior, 0, 1.0)
    mean = float(logs.mean())
    freedom = WEIGHT + n - 1
    scatter = (WEIGHT * scatter + float(((logs - mean) ** 2).sum())) / freedom
    guess = mean * n / (n + scatter / part)
    deviation = math.sqrt(scatter * part / (n * part + scatter) + scatter)
    reach = _student(freedom) * deviation
    return Correction(Interval(math.exp(guess - reach), math.exp(guess), math.exp(guess + reach)), n, math.exp(mean))


def _student(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + COVERAGE) / 2, freedom))

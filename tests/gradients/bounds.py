"""How far a mean of random vectors may be from its expectation."""

from __future__ import annotations

import numpy as np


def deviation_and_bound(values: np.ndarray) -> tuple[float, float]:
    """Standard deviation of the norm of the error of the mean, and where a test should draw the line.

    The square of that norm is a sum of as many independent parts as the covariance C has dimensions in effect, ``trace(C)**2 /
    trace(C**2)``: one, where all elements move together. The line lies 4 deviations of that sum away, or further: 5 for a single number.

    Args:
        values: Shape (draws, ...).
    """
    centred = values.reshape(len(values), -1) - values.reshape(len(values), -1).mean(0)
    total = (centred**2).sum() / (len(values) - 1)
    if total == 0:
        return 0.0, 0.0
    dimensions = total**2 / ((centred @ centred.T) ** 2).sum() * (len(values) - 1) ** 2
    spread = float(np.sqrt(total / len(values)))
    return spread, float(1 + 4 / np.sqrt(dimensions)) * spread

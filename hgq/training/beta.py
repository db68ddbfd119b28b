"""`BetaSchedule`: what one EBOP costs in the loss, as a function of the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras

from hgq.errors import ConfigError

SHAPES = ("constant", "linear", "log")
FROM_ZERO = 1e-4
"""A log ramp cannot start or end at zero: its zero end stands for this share of the other end."""


class BetaSchedule(keras.callbacks.Callback):
    """Sets beta of every quantized layer at the start of each epoch; logs ``beta`` and ``ebops``.

    The schedule is piecewise. From knot ``(epoch_0, beta_0, shape)`` to the next, ``(epoch_1, beta_1, …)``, with ``t`` running from 0 to 1:

    * ``constant``: ``beta_0``
    * ``linear``: ``beta_0 + t (beta_1 - beta_0)``
    * ``log``: ``beta_0 (beta_1 / beta_0) ** t``; an end that is zero stands for `FROM_ZERO` times the other one, except at the knot itself.

    Before the first knot and after the last, beta is theirs.

    Args:
        knots: A number for a constant beta, or ``(epoch, beta[, shape])`` with increasing epochs; the shape left out is ``constant``.

    Raises:
        ConfigError: knots out of order, negative or infinite numbers, unknown shapes.
    """

    def __init__(self, knots: float | Iterable[tuple[Any, ...]]) -> None:
        super().__init__()
        listed = [(0.0, float(knots), "constant")] if isinstance(knots, int | float) else [(*knot, "constant")[:3] for knot in knots]
        self.knots = [(float(epoch), float(beta), str(shape)) for epoch, beta, shape in listed]
        if not self.knots:
            raise ConfigError("A beta schedule has no knots.", expected="a number, or at least one (epoch, beta, shape)")
        for (epoch, beta, shape), following in zip(self.knots, [*self.knots[1:], None], strict=True):
            if not math.isfinite(beta) or beta < 0 or not math.isfinite(epoch):
                raise ConfigError(
                    "A knot of a beta schedule is no number.", expected="epoch and beta finite, beta >= 0", received=f"({epoch}, {beta})"
                )
            if shape not in SHAPES:
                raise ConfigError("Unknown shape in a beta schedule.", expected=", ".join(SHAPES), received=repr(shape))
            if following is not None and following[0] <= epoch:
                raise ConfigError(
                    "The epochs of a beta schedule do not increase.", expected=f"more than {epoch:g}", received=f"{following[0]:g}"
                )

    def __call__(self, epoch: float) -> float:
        """Beta at this epoch, counted from 0."""
        if epoch <= self.knots[0][0]:
            return self.knots[0][1]
        for (start, low, shape), (end, high, _) in zip(self.knots, self.knots[1:], strict=False):
            if start <= epoch < end:
                return _between(low, high, (epoch - start) / (end - start), shape)
        return self.knots[-1][1]

    def on_epoch_begin(self, epoch, logs=None):
        from hgq.layers import set_beta

        set_beta(self.model, self(epoch))

    def on_epoch_end(self, epoch, logs=None):
        log_cost(self.model, logs)
        if logs is not None:
            logs["beta"] = self(epoch)


def log_cost(model: keras.Model, logs: dict[str, Any] | None, resource: str = "ebops") -> float:
    """The model's EBOPs (or LUTs) now, also under that name in the logs; computed once an epoch however many callbacks ask."""
    from hgq.layers import total_cost

    if logs is not None and resource in logs:
        return logs[resource]
    cost = float(total_cost(model, resource))
    if logs is not None:
        logs[resource] = cost
    return cost


def _between(low: float, high: float, t: float, shape: str) -> float:
    if t == 0 or shape == "constant" or low == high:
        return low
    if shape == "linear":
        return low + t * (high - low)
    low, high = low or high * FROM_ZERO, high or low * FROM_ZERO
    return low * (high / low) ** t

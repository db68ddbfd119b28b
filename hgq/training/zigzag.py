"""One-step forward and backtrack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.training.curvature import curvature
from hgq.training.loss_aware import hand_over, loss_aware
from hgq.training.step import Gradients, Step, TrainStepMethod, register_step

STREAM = 1 << 30
"""By how much the counters of random numbers are ahead in a trial evaluation."""


@register_step("zigzag")
@dataclass(frozen=True)
class Zigzag(TrainStepMethod):
    """One-step forward and backtrack (BLAQ, arXiv:2401.16760): look one step ahead, correct the present step, go back.

    With the optimizer's averaged gradient m and its curvature D (``(epsilon + sqrt(v)) / learning_rate`` for Adam, see
    `hgq.training.curvature`), an active step is (appendix, eqs. 5 to 9)::

        w*  = w - m1 / D1                       the optimizer's own step
        m2, D2                                  the gradient at w*, on the same minibatch, into scratch moments
        w  <- w - (a m1 + (1 - a) m2) / (a D1 + (1 - a) D2)

    Weights are quantized by the layers' own quantizers, in both evaluations; bitwidths are updated like weights, once. The optimizer keeps
    the moments of the first gradient; what the trial changes besides (moving statistics, ranges, metrics) is put back, and its random
    numbers are of a stream of their own: the method draws nothing away. With ``a = 1`` training is that without the method, bit for bit.

    The paper's text has the plain gradient in place of m, its code the averaged one; ``Adam(beta_1=0)`` is the former. On a small network
    the effect (fewer changes of sign, more progress a step) was seen without momentum only, and none at equal gradient evaluations.

    Args:
        a: Weight of the present gradient, above 0 and up to 1. The paper takes 0.6 for most networks, 0.9 for ResNet-18. On ``c |w|**1.5``
            the step contracts by ``3 - 4 a``: it converges for a between 1/2 and 1.
        period: One block of steps in so many is active. 1: every step costs two evaluations; 5: 1.2 on the average.
        block: Steps of a block. The paper's is an epoch; 1 spreads the active steps evenly.

    Raises:
        ConfigError: arguments out of range; an optimizer that averages weights or accumulates gradients.
    """

    a: float = 0.6
    period: int = 5
    block: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.a, bool) or not isinstance(self.a, int | float) or not 0 < self.a <= 1:
            raise ConfigError("zigzag cannot have this a.", expected="above 0, up to 1", received=repr(self.a))
        for name in ("period", "block"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"zigzag cannot have this {name}.", expected="an integer from 1", received=repr(value))

    def begin(self, model: keras.Model) -> Step:
        optimizer: Any = model.optimizer
        for name in ("use_ema", "gradient_accumulation_steps"):
            if getattr(optimizer, name, None):
                raise ConfigError(
                    "zigzag needs an optimizer whose every step is an update by one gradient.",
                    where="the optimizer",
                    expected=f"no {name}",
                    received=f"{name}={getattr(optimizer, name)!r}",
                )
        return ZigzagStep(model, self)


class ZigzagStep(Step):
    """`Zigzag` at work."""

    def __init__(self, model: keras.Model, method: Zigzag) -> None:
        super().__init__(model)
        self.method = method
        self._aware = loss_aware(model)

    def active(self) -> Any:
        """Whether the next step looks ahead: a function of the optimizer's steps so far."""
        block = tf.convert_to_tensor(self.model.optimizer.iterations) // self.method.block
        return tf.equal(block % self.method.period, self.method.period - 1)

    def update(self, gradients: Gradients, again: Callable[[], Gradients]) -> None:
        active, weights = self.active(), self.model.trainable_variables
        before = values(weights)
        self.model.optimizer.apply(gradients, weights)
        hand_over(self._aware, curvature(self.model.optimizer))
        if self.method.period == 1:
            self._backtrack(before, again)
        else:
            tf.cond(active, lambda: self._backtrack(before, again), lambda: tf.constant(0))

    def _backtrack(self, before: list[Any], again: Callable[[], Gradients]) -> Any:
        """From the optimizer's step, which has been made, to the corrected one."""
        model, optimizer, weights = self.model, self.model.optimizer, self.model.trainable_variables
        scratch = [*optimizer.variables, *model.non_trainable_variables, *model.metrics_variables]
        kept, trial, first = values(scratch), values(weights), curvature(optimizer)
        for counter in random_streams(model):
            counter.assign_add(tf.cast(STREAM, counter.dtype))
        optimizer.apply(again(), weights)
        second, a = curvature(optimizer), self.method.a
        shares = later_shares(a, first, second, len(weights))
        for weight, start, ahead, share in zip(weights, before, trial, shares, strict=True):
            beyond = tf.convert_to_tensor(weight)
            # w - (1 - share) u1 - share u2, with the updates u1 = start - ahead and u2 = ahead - beyond; exactly `ahead` for no share
            corrected = ahead + tf.cast(share, ahead.dtype) * ((start - ahead) - (ahead - beyond))
            weight.assign(corrected if weight.constraint is None else weight.constraint(corrected))
        for variable, value in zip(scratch, kept, strict=True):
            variable.assign(value)
        if first is not None and second is not None:
            hand_over(self._aware, [a * now + (1 - a) * later for now, later in zip(first, second, strict=True)])
        return tf.constant(1)


def later_shares(a: float, first: list[Any] | None, second: list[Any] | None, count: int) -> list[Any]:
    """How much of the corrected update of each variable is the second one: ``(1 - a) D2 / (a D1 + (1 - a) D2)``.

    ``(a m1 + (1 - a) m2) / (a D1 + (1 - a) D2)`` with ``m = D u`` is the average of the optimizer's two updates u with these shares. So
    whatever an optimizer does to its updates (clipping, weight decay, rates of bits) is in it, and the learning rate cancels.
    """
    if first is None or second is None:
        return [1.0 - a] * count
    return [(1.0 - a) * later / (a * now + (1.0 - a) * later) for now, later in zip(first, second, strict=True)]


def random_streams(model: keras.Model) -> list[Any]:
    """The variables that decide which random numbers come next: of layers' gradients, stochastic rounding and dropout."""
    return [v for v in model.non_trainable_variables if v.name.endswith("draws") or v.name == "seed_generator_state"]


def values(variables: list[Any]) -> list[Any]:
    """What they are now, whatever is assigned later."""
    return [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]

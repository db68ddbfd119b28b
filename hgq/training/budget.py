"""`Budget`: steer beta so that the model's EBOPs reach a target.

The plant is awkward: log(EBOPs) falls with log(beta), slowly, with a delay and a rate that the learning rate sets; it is noisy; and it has
a cliff: a layer whose bits are all gone passes no gradient, so that no beta, not even zero, brings it back. The control law, once an epoch:

* The *set-point* does not jump to the target: after a warm-up at the initial beta it runs down to it, log-linearly, over the ramp.
* With the error ``e = log(ebops / setpoint)``, clipped to ±`CLIP` (so EBOPs of zero are an ordinary number),
  ``log(beta) += clip(proportional * (e - e_previous) + integral * speed * e, ±max_step)``, and then log(beta) is clipped to `beta_range`.
  This is a PI controller in its velocity form: its only memory is beta itself, which is bounded. `speed` is the learning rate over the
  highest so far (but at least `SLOWEST`). Bits move in proportion to the learning rate; were beta to move faster than they can follow, it
  would wind up.
* *Rescue.* While EBOPs are at or above the set-point, the state of the model is kept. When EBOPs have been below `collapsed` times the
  set-point for `patience` epochs without rising, that state is put back, and beta to a quarter of what it was then (an eighth the next
  time, …). It is for a model that died, and for one whose task is so easy that no loss asks for the bits it lost.

Training sees the EBOPs of the ranges tracked so far, the firmware those of calibrated ranges and pruned neurons. What counts is the latter:
`Budget` measures them through `exact` now and then and steers ``tracked * ratio``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras

from hgq.errors import ConfigError
from hgq.training.step import training_state
from hgq.variables import read, write

log = logging.getLogger("hgq.training")

CLIP = 2.0
"""Largest error that the controller sees, as a factor: e**2."""


RECOVERING = 1.1
"""EBOPs that have risen by this factor within `patience` epochs need no rescue."""
SLOWEST = 0.3
"""Least speed that the controller assumes of the bits."""


@dataclass
class Controller:
    """The control law without a model, so that it can be tested on simulated ones.

    Args:
        beta: Where beta starts.
        proportional, integral, max_step: See the module.
        beta_range: Between which values beta is kept.
        collapsed, patience: When to rescue; see the module.
    """

    beta: float = 1e-6
    proportional: float = 1.0
    integral: float = 0.4
    max_step: float = 0.7
    beta_range: tuple[float, float] = (1e-10, 1e-2)
    collapsed: float = 0.93
    patience: int = 8
    _error: float | None = None
    _low: int = 0
    _lowest: float = 0.0
    _kept_beta: float | None = None
    _rescues: int = 0

    def update(self, ebops: float, setpoint: float, speed: float = 1.0) -> bool:
        """Set `beta` for the next epoch; returns whether the model must be put back to the state that was last `worth_keeping`."""
        error = max(-CLIP, min(CLIP, math.log(max(ebops, 1e-3) / setpoint)))
        step = self.integral * max(speed, SLOWEST) * error + self.proportional * (error - (error if self._error is None else self._error))
        self._error = error
        self._to(self.beta * math.exp(max(-self.max_step, min(self.max_step, step))))
        return self._collapse(ebops, setpoint)

    def worth_keeping(self, ebops: float, setpoint: float) -> bool:
        """Whether this state is one to come back to: alive, and not below the set-point. Remembers its beta."""
        if ebops < setpoint:
            return False
        self._kept_beta = self.beta
        return True

    def _collapse(self, ebops: float, setpoint: float) -> bool:
        if ebops >= self.collapsed * setpoint or self._kept_beta is None:
            self._low = 0
            return False
        if self._low == 0:
            self._lowest = max(ebops, 1e-3)
        self._low += 1
        if self._low <= self.patience:
            return False
        if ebops > self._lowest * RECOVERING:  # by itself: give it as long again
            self._low, self._lowest = 1, ebops
            return False
        self._rescues += 1
        self._to(self._kept_beta / 2 ** (1 + self._rescues))
        self._low, self._error = 0, None
        return True

    def _to(self, beta: float) -> None:
        self.beta = max(self.beta_range[0], min(self.beta_range[1], beta))

    def state(self) -> dict[str, Any]:
        """All that changes, for a checkpoint."""
        return {name: getattr(self, name) for name in ("beta", "_error", "_low", "_lowest", "_kept_beta", "_rescues")}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for name, value in state.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Stage:
    """One target of a run: epochs from `start` up to and without `end`.

    Until ``start + warmup`` beta stays; then the set-point moves for `ramp` epochs; then it stays at the target.
    """

    target: float
    start: int
    end: int
    warmup: int
    ramp: int

    def settled(self, epoch: int) -> bool:
        """Whether the set-point has arrived, so that this epoch's model may be the stage's result."""
        return epoch >= self.start + self.warmup + self.ramp


class Budget(keras.callbacks.Callback):
    """Steers beta of every quantized layer to a target; logs ``ebops``, ``beta`` and ``setpoint``.

    Args:
        ebops: The target; several, from large to small, are reached one after the other, each in `epochs` epochs.
        epochs: Epochs of each stage.
        tolerance: The set-point ends at ``(1 - tolerance / 2) * ebops``; the result should lie in ``[(1 - tolerance) * ebops, ebops]``.
        beta: Where beta starts.
        warmup: Share of the first stage's epochs before the set-point moves.
        ramp: Share of each stage's epochs during which it moves.
        exact: ``exact(model)`` -> EBOPs that count, see the module; None: those that training sees.
        exact_every: Epochs between two such measurements.
        error: Relative error of what `exact` says; `Select` prefers models that are inside the band nonetheless.
        resource: What the targets count and the layers charge for: ``ebops``, or ``lut`` (then `exact` should estimate LUTs).
        controller: Another control law, or other constants.

    Raises:
        ConfigError: no target, targets that do not fall, shares out of range.
    """

    def __init__(
        self,
        ebops: float | list[float],
        epochs: int,
        *,
        tolerance: float = 0.05,
        beta: float = 1e-6,
        warmup: float = 0.1,
        ramp: float = 0.4,
        exact: Callable[[keras.Model], float] | None = None,
        exact_every: int = 10,
        error: float = 0.0,
        resource: str = "ebops",
        controller: Controller | None = None,
    ) -> None:
        super().__init__()
        targets = [float(ebops)] if isinstance(ebops, int | float) else [float(target) for target in ebops]
        if not targets or min(targets) <= 0 or any(a <= b for a, b in pairwise(targets)):
            raise ConfigError(
                "A budget needs positive targets, from large to small.", expected="such as 5000 or [20000, 5000]", received=repr(ebops)
            )
        if epochs < 1 or not warmup >= 0 or not ramp >= 0 or warmup + ramp >= 1 or not 0 < tolerance < 1:
            raise ConfigError(
                "A budget has a wrong schedule.",
                expected="epochs >= 1, 0 < tolerance < 1, and warmup + ramp < 1",
                received=f"epochs={epochs}, tolerance={tolerance}, warmup={warmup}, ramp={ramp}",
            )
        self.error = min(error, tolerance / 3)  # some of the band is left
        self.tolerance, self.exact, self.exact_every, self.resource = tolerance, exact, exact_every, resource
        self.controller = controller or Controller(beta=beta)
        self._targets, self._warmup, self._ramp = targets, round(warmup * epochs), round(ramp * epochs)
        self._lengths = [epochs] * len(targets)
        self.ratio = 1.0
        """EBOPs that count over EBOPs that training sees, at the last measurement."""
        self._from: float | None = None  # where the set-point of this stage started
        self._kept: list[Any] | None = None
        self._fastest = 0.0
        self._betas: list[Any] | None = None

    @property
    def stages(self) -> list[Stage]:
        """The targets with their epochs."""
        starts = [sum(self._lengths[:n]) for n in range(len(self._lengths) + 1)]
        return [
            Stage(target, starts[n], starts[n + 1], self._warmup if n == 0 else 0, self._ramp) for n, target in enumerate(self._targets)
        ]

    def extend(self, number: int, epochs: int = 1) -> None:
        """Let a stage last longer; later ones start later."""
        self._lengths[number] += epochs

    def stage(self, epoch: int) -> Stage:
        """The stage of this epoch; after the end, the last one."""
        return next((stage for stage in self.stages if epoch < stage.end), self.stages[-1])

    def setpoint(self, epoch: int) -> float | None:
        """What EBOPs should be at the end of this epoch; None during the warm-up."""
        stage = self.stage(epoch)
        done = epoch + 1 - stage.start - stage.warmup
        if done <= 0 or self._from is None:
            return None
        goal = stage.target * (1 - self.tolerance / 2)
        left = max(0.0, 1 - done / stage.ramp) if stage.ramp else 0.0
        return goal * (max(self._from, goal) / goal) ** left

    def on_train_begin(self, logs=None):
        self._betas = None
        self._assign()

    def on_epoch_end(self, epoch, logs=None):
        from hgq.training.beta import log_cost

        logs = {} if logs is None else logs
        tracked = log_cost(self.model, logs, self.resource)
        if epoch % self.exact_every == self.exact_every - 1:
            self.measure(tracked)
        ebops = tracked * self.ratio
        logs["beta"] = self.controller.beta
        stage = self.stage(epoch)
        if self._from is None and epoch + 1 >= stage.start + stage.warmup:
            self._from = ebops
        target = self.setpoint(epoch)
        logs["setpoint"] = target if target is not None else ebops
        if target is not None:
            if self.controller.worth_keeping(ebops, target):
                self._kept = self._snapshot()
            if self.controller.update(ebops, target, self._speed()) and self._kept is not None:
                log.info("EBOPs fell to %.0f: back to the last state above %.0f, with beta %.2g.", ebops, target, self.controller.beta)
                self._put_back(self._kept)
            self._assign()
        if epoch + 1 >= stage.end:  # should the stage be extended, the set-point has arrived and does not care where it came from
            self._from = ebops

    def measure(self, tracked: float) -> float:
        """EBOPs that count, measured now; what training sees is corrected by their ratio from here on."""
        if self.exact is None:
            return tracked
        ebops = self.exact(self.model)
        if tracked > 0 and ebops > 0:
            self.ratio = max(0.1, min(10.0, ebops / tracked))
        return ebops

    def _speed(self) -> float:
        optimizer = getattr(self.model, "optimizer", None)
        rate = 1.0 if optimizer is None else float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        self._fastest = max(self._fastest, rate)
        return rate / self._fastest if self._fastest > 0 else 1.0

    def _assign(self) -> None:
        from hgq.layers import qlayers

        if self._betas is None:  # once: walking through the layers takes longer than all else that this does each epoch
            self._betas = [layer.beta for layer in qlayers(self.model)]
        write(self._betas, [self.controller.beta] * len(self._betas))

    def _snapshot(self) -> list[Any]:
        return read(training_state(self.model))

    def _put_back(self, values: list[Any]) -> None:
        # The state was on its way down: its momentum would carry it there again.
        state = training_state(self.model)
        write(state, [value * 0 if "momentum" in variable.path else value for variable, value in zip(state, values, strict=True)])

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """All that changes, for a checkpoint: JSON values, and arrays."""
        return {
            "controller": self.controller.state(),
            "ratio": self.ratio,
            "from": self._from,
            "fastest": self._fastest,
            "lengths": self._lengths,
            "kept": self._kept is not None,
        }, self._kept or []

    def restore(self, state: dict[str, Any], arrays: list[Any]) -> None:
        """The inverse of `state`."""
        self.controller.restore(state["controller"])
        self.ratio, self._from, self._lengths = state["ratio"], state["from"], list(state["lengths"])
        self._fastest = state["fastest"]
        self._kept = list(arrays) if state["kept"] else None

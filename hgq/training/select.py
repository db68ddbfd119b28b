"""`Select`: which epoch's model a run delivers for each of its budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras

from hgq.training.budget import Budget, Stage
from hgq.variables import read, write


@dataclass(frozen=True)
class Chosen:
    """A model that was chosen.

    Args:
        target: For which budget.
        epoch: When.
        ebops: Those that count, or LUTs.
        metric: Of the validation.
        inside: Whether it is inside the band.
        surely: Whether it is so also if the count is off by `Budget.error`.
    """

    target: float
    epoch: int
    ebops: float
    metric: float
    inside: bool = True
    surely: bool = True


class Select(keras.callbacks.Callback):
    """For each stage of a `Budget`, keeps the weights of the best epoch whose measured EBOPs lie in ``[(1 - tolerance) * target, target]``.

    What is estimated only keeps a distance from both ends: an epoch that is still in the band if the count is off by `Budget.error` beats
    all that might not be. It looks only at epochs after the set-point has arrived, measures only those that could win (in the band as far
    as training can tell, and of a better metric than the best so far), and asks for the metric again after the measurement, which
    calibrates the model. Until there is one inside the band, the nearest to it is kept.

    Args:
        budget: The controller; this callback must come after it.
        metric: Key of the logs.
        higher_is_better: Its direction.
        score: ``score(model)`` -> the metric now.
    """

    def __init__(self, budget: Budget, metric: str, higher_is_better: bool, score: Callable[[keras.Model], float]) -> None:
        super().__init__()
        self.budget, self.metric, self.higher_is_better, self._score = budget, metric, higher_is_better, score
        self.accept: Callable[[], bool] = lambda: True
        """Whether the model that the budget has just measured may be chosen."""
        self.chosen: dict[int, Chosen] = {}
        self._weights: dict[int, list[Any]] = {}

    def on_epoch_end(self, epoch, logs=None):
        stage = self.budget.stage(epoch)
        number = self._number(epoch)
        if logs is None or not stage.settled(epoch):
            return
        if not self.has_chosen(number):
            self._keep_nearest(number, stage, epoch, logs)
        likely = self._inside(stage, logs[self.budget.resource] * self.budget.ratio, self.budget.tolerance / 2)
        if not likely or not self._better(number, logs[self.metric], True):
            return
        ebops = self.budget.measure(logs[self.budget.resource])
        metric, surely = self._score(self.model), self._inside(stage, ebops, -self.budget.error)
        if self._inside(stage, ebops, 0.0) and self._better(number, metric, surely) and self.accept():
            self._keep(number, Chosen(stage.target, epoch, ebops, metric, surely=surely))

    def _keep(self, number: int, chosen: Chosen) -> None:
        self.chosen[number] = chosen
        self._weights[number] = read(self.model.variables)

    def _keep_nearest(self, number: int, stage: Stage, epoch: int, logs: Any) -> None:
        ebops, middle = logs[self.budget.resource] * self.budget.ratio, stage.target * (1 - self.budget.tolerance / 2)
        before = self.chosen.get(number)
        if before is None or abs(ebops - middle) < abs(before.ebops - middle):
            self._keep(number, Chosen(stage.target, epoch, ebops, float(logs[self.metric]), inside=False, surely=False))

    def has_chosen(self, number: int) -> bool:
        """Whether this stage has a model inside its band."""
        return number in self.chosen and self.chosen[number].inside

    def put_back(self, number: int = 0) -> Chosen | None:
        """Give the model the state that was chosen for this stage, ranges included; None, and no change, if no epoch had settled."""
        if number not in self.chosen:
            return None
        write(self.model.variables, self._weights[number])
        return self.chosen[number]

    def _number(self, epoch: int) -> int:
        ends = [stage.end for stage in self.budget.stages]
        return next((n for n, end in enumerate(ends) if epoch < end), len(ends) - 1)

    def _inside(self, stage: Stage, ebops: float, slack: float) -> bool:
        return (1 - self.budget.tolerance - slack) * stage.target <= ebops <= (1 + slack) * stage.target

    def _better(self, number: int, metric: float, surely: bool) -> bool:
        if metric != metric:
            return False
        if not self.has_chosen(number):
            return True
        best = self.chosen[number]
        if surely != best.surely:
            return surely
        return metric > best.metric if self.higher_is_better else metric < best.metric

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """All that changes, for a checkpoint."""
        numbers = sorted(self.chosen)
        return {"chosen": [[n, asdict(self.chosen[n])] for n in numbers]}, [array for n in numbers for array in self._weights[n]]

    def restore(self, state: dict[str, Any], arrays: list[Any]) -> None:
        """The inverse of `state`."""
        self.chosen = {n: Chosen(**chosen) for n, chosen in state["chosen"]}
        size = len(arrays) // max(1, len(self.chosen))
        self._weights = {n: list(arrays[index * size : (index + 1) * size]) for index, n in enumerate(self.chosen)}

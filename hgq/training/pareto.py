"""`ParetoFront`: keep every model that no other one beats."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import keras

from hgq.output import write_file_atomically, writing
from hgq.training.beta import log_cost
from hgq.training.step import training_state
from hgq.variables import read, write

log = logging.getLogger("hgq.training")

INDEX = "pareto.json"
MOST_BYTES = 1 << 26
"""Of points in memory; the models of larger networks, whose epochs take longer than a file, are written at once."""


@dataclass(frozen=True)
class Point:
    """One model: when, what it costs, how good it is, and its file."""

    epoch: int
    ebops: float
    metric: float
    file: str


def dominates(a: Point, b: Point, higher_is_better: bool = True, spacing: float = 0.0) -> bool:
    """Whether `a` makes `b` superfluous: no worse in cost and metric, and better in one of them (of two equals, the earlier is better).

    With a `spacing`, also when `a` costs up to this share more: then the points of a front keep a distance.
    """
    gain = (a.metric - b.metric) * (1 if higher_is_better else -1)
    if a.ebops > b.ebops * (1 + spacing) or gain < 0:
        return False
    return a.ebops < b.ebops or gain > 0 or a.epoch < b.epoch


def front(points: list[Point], higher_is_better: bool = True) -> list[Point]:
    """The points that no other dominates, by falling cost."""
    kept = [p for p in points if not any(dominates(q, p, higher_is_better) for q in points if q is not p)]
    return sorted(kept, key=lambda p: (-p.ebops, p.epoch))


class ParetoFront(keras.callbacks.Callback):
    """Saves the model of each epoch that no earlier one dominates, and deletes those that a new one does.

    The directory holds one ``.keras`` file a point and ``pareto.json``: a list of ``{epoch, ebops, metric, file}`` by falling EBOPs. EBOPs
    and metric are those of the training's tracked ranges; calibrate before freezing.

    Args:
        directory: Where; made when the first point is saved.
        metric: What to maximise or minimise, a key of the epoch's logs.
        mode: ``max``, ``min``, or ``auto``: ``min`` for names with "loss" or "error".
        start_epoch: Epochs before it are not considered.
        spacing: Skip a point when one of no worse metric costs at most this share more; 0 keeps the full front. In a sweep, whose EBOPs
            fall with each epoch, the full front can be as long as the run.
        seconds: Write files at most this often, and at the end of training: a file takes longer than an epoch of a small network, and most
            points do not stay. Until then points are held in memory (and in `state`).
        save: ``save(model, path)``; the default is ``model.save``.
    """

    def __init__(
        self,
        directory: str | Path,
        metric: str = "val_accuracy",
        mode: Literal["auto", "max", "min"] = "auto",
        *,
        start_epoch: int = 0,
        spacing: float = 0.0,
        seconds: float = 0.0,
        save: Callable[[keras.Model, Path], None] | None = None,
    ) -> None:
        super().__init__()
        self.directory, self.metric, self.start_epoch, self.spacing = Path(directory), metric, start_epoch, spacing
        self.higher_is_better = mode == "max" or (mode == "auto" and not any(word in metric for word in ("loss", "error")))
        self.seconds, self.points = seconds, list[Point]()
        self._held: dict[str, list[Any]] = {}  # by file: what variables were, of points not written yet
        self._written = time.monotonic()
        self._save = save or (lambda model, path: model.save(path))

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        ebops = log_cost(self.model, logs)
        if epoch < self.start_epoch:
            return
        if self.metric not in logs:
            log.warning("ParetoFront: the logs have no %r, only %s.", self.metric, ", ".join(logs))
            return
        self.offer(epoch, ebops, float(logs[self.metric]))

    def offer(self, epoch: int, ebops: float, metric: float) -> bool:
        """Add the present model to the front if no point dominates it; returns whether it was."""
        point = Point(epoch, ebops, metric, f"epoch{epoch:05d}_ebops{ebops:.0f}_{self.metric}{metric:.4f}.keras")
        if metric != metric or any(dominates(q, point, self.higher_is_better, self.spacing) for q in self.points):
            return False
        gone = [q for q in self.points if dominates(point, q, self.higher_is_better)]
        self.points = sorted([q for q in self.points if q not in gone] + [point], key=lambda p: (-p.ebops, p.epoch))
        self._held = {file: held for file, held in self._held.items() if all(q.file != file for q in gone)}
        if time.monotonic() - self._written >= self.seconds:
            self.write(point)
        else:
            self._held[point.file] = read(training_state(self.model))
            if _bytes(self._held) > MOST_BYTES:
                self.write()
        return True

    def on_train_end(self, logs=None):
        self.write()

    def write(self, present: Point | None = None) -> None:
        """Bring the directory up to date.

        Args:
            present: The point that the model is now, if it is new. Other models stand in its place for a moment while they are written.
        """
        self._written = time.monotonic()
        if not self.points:
            return
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            if present is not None:
                self._save(self.model, self.directory / present.file)
            if self._held:
                variables = training_state(self.model)
                now = read(variables)
                try:
                    for file, held in self._held.items():
                        write(variables, held)
                        self._save(self.model, self.directory / file)
                finally:
                    write(variables, now)
                self._held = {}
            self._write_index()
            self._tidy()  # only now: at no moment does the index name a file that is not there

    def _write_index(self) -> None:
        text = json.dumps([asdict(point) for point in self.points if point.file not in self._held], indent=1) + "\n"
        write_file_atomically(self.directory / INDEX, text, force=True)

    def _tidy(self) -> None:
        """Delete the models of points that are gone."""
        files = {point.file for point in self.points}
        for path in self.directory.glob("epoch*.keras"):
            if path.name not in files:
                path.unlink(missing_ok=True)

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """All that changes, for a checkpoint."""
        held = [array for arrays in self._held.values() for array in arrays]
        return {"points": [asdict(point) for point in self.points], "held": list(self._held)}, held

    def restore(self, state: dict[str, Any], arrays: list[Any]) -> None:
        """The inverse of `state`. Points found after the checkpoint leave the index; their files go, and will come again.

        A point of the checkpoint whose file a later one has replaced cannot come back, nor is it missed: the same later point returns.
        """
        self.points = [Point(**point) for point in state["points"]]
        files, size = state["held"], len(arrays) // max(1, len(state["held"]))
        self._held = {file: list(arrays[n * size : (n + 1) * size]) for n, file in enumerate(files)}
        if self.directory.is_dir():
            self._tidy()
            self._write_index()


def _bytes(held: dict[str, list[Any]]) -> int:
    return sum(array.nbytes for arrays in held.values() for array in arrays)

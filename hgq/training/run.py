"""`Run`: a recipe in training. The loop of epochs, what steers it, its checkpoints, and what it delivers."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import keras

from hgq import datasets
from hgq.calibrate import calibrate
from hgq.config import Recipe
from hgq.datasets import Dataset
from hgq.estimate import device_of
from hgq.output import write_file_atomically
from hgq.training import checkpoint
from hgq.training.beta import BetaSchedule
from hgq.training.bits import BitHistogram
from hgq.training.budget import Budget
from hgq.training.build import build_model
from hgq.training.deliver import deliver_one
from hgq.training.devices import strategy_of
from hgq.training.finetune import triangular
from hgq.training.firmware import Firmware
from hgq.training.health import GradientHealth
from hgq.training.loop import Loop, score
from hgq.training.pareto import ParetoFront
from hgq.training.progress import Progress
from hgq.training.reach import refuse_budget, refuse_latency
from hgq.training.result import RunResult
from hgq.training.select import Select
from hgq.training.shallow import Shallow
from hgq.variables import read, write

log = logging.getLogger("hgq.training")

OVERTIME = 0.25
"""A stage that has no model in its band at its end goes on for up to this share of its epochs …"""
OVERTIME_RATE = 0.3
"""… at this share of its first learning rate: the last one would be too low to change bits."""
SAVE_SECONDS = 2.0
"""Checkpoints are at least this far apart, so that small networks do not spend their time on them …"""
PARETO_SECONDS = 60.0
"""… nor on the models of the front, which are part of a checkpoint until they are written."""


def load_data(recipe: Recipe) -> Dataset:
    """The recipe's data; raises `DataError` as `hgq.datasets.load` does."""
    section = recipe.data
    return datasets.load(
        section.source,
        validation=section.validation,
        scaling=section.scaling,
        seed=recipe.train.seed,
        keys={key: getattr(section, key) for key in ("x_train", "y_train", "x_test", "y_test")},
        regression=recipe.train.loss == "mse",
    )


class Run:
    """A run in progress: `train` it, or answer what its `epochs` ask for; then `deliver`.

    Attributes:
        model, data, loop: What is trained, on what, and how an epoch of it alone is done.
        epoch: The next one.
        save_seconds: Checkpoints are at least this far apart.
    """

    def __init__(self, recipe: Recipe, directory: Path, progress: bool | None, callbacks: list[keras.callbacks.Callback]) -> None:
        keras.utils.set_random_seed(recipe.train.seed)
        self.recipe, self.directory, self.checkpoint = recipe, directory, directory / "checkpoint" / checkpoint.FILE
        self.data = load_data(recipe)
        section = recipe.train
        batch = min(section.batch_size, len(self.data.x_train))
        with strategy_of(section.devices, batch_size=batch, jit_compile=section.jit_compile).scope():
            self.model = build_model(recipe, self.data)
        self.loop = Loop(
            self.model,
            self.data.x_train,
            self.data.y_train,
            batch_size=section.batch_size,
            seed=section.seed,
            jit_compile=section.jit_compile,
        )
        self.metric = "accuracy" if section.loss == "crossentropy" else "mse"
        self.monitor = "val_accuracy" if self.metric == "accuracy" else "val_loss"
        self.firmware = Firmware(recipe, self.calibrate)
        self.epoch, self.seconds, self.history = 0, 0.0, list[dict[str, float]]()
        self.save_seconds = SAVE_SECONDS
        self._extra_epochs: dict[int, int] = {}
        self.budget = self.select = None
        self.stage_epochs = section.epochs + section.finetune
        if recipe.budget is not None:
            asked = recipe.budget
            self.budget = Budget(
                list(asked.targets),
                self.stage_epochs,
                tolerance=asked.tolerance,
                beta=asked.beta,
                warmup=asked.warmup * section.epochs / self.stage_epochs,
                ramp=asked.ramp * section.epochs / self.stage_epochs,
                exact=self.firmware.cost,
                error=self.firmware.error,
                resource=asked.resource,
            )
            self.select = Select(self.budget, self.monitor, self.metric == "accuracy", lambda model: self.validate()[self.monitor])
            self.select.accept = self.firmware.in_time
            self.control: keras.callbacks.Callback = self.budget
        else:
            beta = section.beta if section.beta is not None else 1e-6
            knots = [(knot.epoch, knot.beta, knot.shape) for knot in beta] if isinstance(beta, list) else beta
            self.control = BetaSchedule(knots)
        total = self.stage_epochs * (len(recipe.budget.targets) if recipe.budget else 1)
        self.shallow: Shallow | None = None
        if recipe.export.latency_ns is not None:
            asked, measure = recipe.export, lambda: self.firmware.fastest(self.model)
            every, start = max(1, section.epochs // 20), section.epochs // 10
            self.shallow = Shallow(
                self.model, recipe.export.latency_ns, asked.clock_ns, device_of(asked.part), measure, every=every, start=start
            )
        self.pareto = ParetoFront(
            directory / "pareto", self.monitor, start_epoch=min(20, section.epochs // 5), spacing=0.1, seconds=PARETO_SECONDS
        )
        self.bits = BitHistogram(directory / "bits.csv", every=max(1, total // 50))
        self.bar = Progress(total, self.monitor, progress)
        self.health: GradientHealth | None = None
        if section.gradient_health:
            batch = (self.data.x_train[: section.batch_size], self.data.y_train[: section.batch_size])
            self.health = GradientHealth(directory / "gradients.csv", *batch, every=max(1, total // 50))
        steering = [self.control, *([self.shallow] if self.shallow else []), *([self.select] if self.select else [])]
        own = [*steering, self.pareto, self.bits, *([self.health] if self.health else []), self.bar]
        self.total = total
        # Called one by one with the same logs, since `keras.callbacks.CallbackList` would keep what they add to the logs to itself.
        self.callbacks = [*own, *callbacks]
        for callback in self.callbacks:
            callback.set_model(self.model)
            callback.set_params({"epochs": total})

    # ---- the loop -----------------------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Epochs until the end; an interrupt leaves a checkpoint of the last epoch."""
        asked = self.epochs()
        try:
            epoch = next(asked)
            while True:
                epoch = asked.send(self.one_epoch(epoch))
        except StopIteration:
            pass
        except KeyboardInterrupt:  # who looks at the run as it is finds all of its front
            self.pareto.write()
            raise
        finally:
            asked.close()

    def one_epoch(self, epoch: int) -> dict[str, float]:
        """Train this epoch; what `epochs` wants to know of it."""
        return {**self.loop.run_epoch(epoch, exact_gradients=self.fine_tuning(epoch)), **self.validate(), **self.loop.costs()}

    def epochs(self) -> Generator[int, dict[str, float], None]:
        """The run but for the training itself: yields the number of an epoch and wants to be sent what `one_epoch` returns, until the end.

        So runs can be trained side by side. Between two epochs it steers, keeps models and writes checkpoints; all of it reads and changes
        the model's variables.
        """
        saved, unsaved = -math.inf, False
        try:
            for callback in self.callbacks:
                callback.on_train_begin()
            while not self._finished():
                start, rate = time.perf_counter(), self.learning_rate(self.epoch)
                self.model.optimizer.learning_rate.assign(rate)
                for callback in self.callbacks:
                    callback.on_epoch_begin(self.epoch)
                self._note((yield self.epoch), rate, start)
                unsaved = True
                if time.monotonic() - saved > self.save_seconds:
                    self._save()
                    saved, unsaved = time.monotonic(), False
            if unsaved:
                self._save()
            for callback in self.callbacks:
                callback.on_train_end()
        finally:
            self.bar.close()

    def _note(self, logs: dict[str, float], rate: float, start: float) -> None:
        """The end of an epoch: history and callbacks."""
        if not math.isfinite(logs["loss"]):
            log.warning("Epoch %d: the loss is %s.", self.epoch, logs["loss"])
        for callback in self.callbacks:
            callback.on_epoch_end(self.epoch, logs)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self.history.append({"epoch": self.epoch, **logs, "learning_rate": rate, "seconds": round(seconds, 4)})
        self.epoch += 1

    def _finished(self) -> bool:
        """Whether all epochs are over; at the end of a stage that has no model yet, asks for one more epoch."""
        if self.budget is None or self.select is None:
            slow = self.epoch >= self.total and self.shallow is not None and not self.shallow.met
            return self.epoch >= self.total + (round(OVERTIME * self.recipe.train.epochs) if slow else 0)
        if self.epoch:
            stage = self.budget.stage(self.epoch - 1)
            number = self.budget.stages.index(stage)
            extra = stage.end - stage.start - self.stage_epochs
            if self.epoch == stage.end and not self.select.has_chosen(number) and extra < OVERTIME * self.recipe.train.epochs:
                self.budget.extend(number)
        return self.epoch >= self.budget.stages[-1].end

    def _within_stage(self, epoch: int) -> int:
        return epoch - (self.budget.stage(epoch).start if self.budget else 0)

    def fine_tuning(self, epoch: int) -> bool:
        """Whether this epoch's gradients are computed in full precision: the last ones of a stage, and those after them."""
        return self.recipe.train.finetune > 0 and self._within_stage(epoch) >= self.recipe.train.epochs

    def learning_rate(self, epoch: int) -> float:
        """Of this epoch: a pure function of it."""
        section = self.recipe.train
        if section.schedule == "constant":
            return section.learning_rate
        within = self._within_stage(epoch)
        if section.epochs <= within < self.stage_epochs:
            share = (within - section.epochs + 0.5) / section.finetune
            return section.learning_rate * triangular(share, section.final_rate, max(OVERTIME_RATE, section.final_rate))
        share = within / section.epochs
        if share >= 1:
            return section.learning_rate * max(OVERTIME_RATE, section.final_rate)
        return section.learning_rate * (section.final_rate + (1 - section.final_rate) * 0.5 * (1 + math.cos(math.pi * share)))

    def validate(self) -> dict[str, float]:
        """``val_loss`` and, of classifiers, ``val_accuracy``: of inference with the present ranges."""
        return self.scored(self.loop.predict(self.data.x_val))

    def scored(self, outputs: Any) -> dict[str, float]:
        """The same from the outputs for the validation samples."""
        return {f"val_{name}": value for name, value in score(outputs, self.data.y_val, self.recipe.train.loss).items()}

    def calibrate(self) -> None:
        """Set the ranges to what the training samples need."""
        calibrate(self.model, self.data.x_train, batch_size=1 << 15)

    def refuse_unreachable(self) -> None:
        """Raise `BudgetError` for a budget or a latency that no training reaches; leaves the model as it is."""
        refuse_budget(self.model, self.recipe, self.firmware.cost)
        if self.shallow is not None:
            refuse_latency(self.shallow)

    # ---- the run directory --------------------------------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, checkpoint.Resumable]:
        parts: dict[str, Any] = {"pareto": self.pareto, "bits": self.bits}
        if self.health is not None:
            parts["health"] = self.health
        if self.shallow is not None:
            parts["shallow"] = self.shallow
        if self.budget is not None:
            parts |= {"budget": self.budget, "select": self.select}
        return parts

    def _save(self) -> None:
        run = {"epoch": self.epoch, "seconds": self.seconds, "history": self.history}
        checkpoint.save(self.checkpoint, self.model, self._parts(), run)
        self._write_history()

    def restore(self) -> None:
        """Go back to the checkpoint."""
        run = checkpoint.load(self.checkpoint, self.model, self._parts())
        self.epoch, self.seconds, self.history = run["epoch"], run["seconds"], run["history"]

    def _write_history(self) -> None:
        columns = list(dict.fromkeys(name for row in self.history for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_file_atomically(self.directory / "history.csv", text.getvalue(), force=True)

    def deliver(self) -> RunResult:
        """Calibrate, freeze and save each chosen model; the last step of a run."""
        self._write_history()
        last = read(self.model.variables)
        targets: list[float | None] = list(self.recipe.budget.targets) if self.recipe.budget else [None]
        points = []
        for number, target in enumerate(targets):
            chosen = self.select.put_back(number) if self.select else None
            if chosen is None:
                write(self.model.variables, last)
            folder = f"budgets/{target:.0f}/" if len(targets) > 1 else ""
            points.append(deliver_one(self, target, chosen.epoch if chosen else self.epoch - 1, folder))
        main = len(points) // 2
        if len(points) > 1:
            for name in ("model.keras", "model.hgq"):
                source = self.directory / "budgets" / f"{targets[main]:.0f}" / name
                write_file_atomically(self.directory / name, source.read_bytes(), force=True)
        result = RunResult(self.directory, tuple(points), main, self.metric, self.epoch, round(self.seconds, 2))
        result.write()
        self.checkpoint.unlink(missing_ok=True)
        return result

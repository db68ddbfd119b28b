"""Runs side by side: each steers, validates, keeps models and delivers as if it were alone; their epochs are trained together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

from hgq.sweep.stack.stack import Stack
from hgq.sweep.ticker import Ticker
from hgq.sweep.trial import Event, Report, Trial, caught
from hgq.training.run import Run
from hgq.training.start import begun


def lockstep(trials: Sequence[Trial], out: Path, report: Report) -> Iterator[Trial]:
    """Train trials together, up to their delivered models; that one failed is an event.

    Args:
        trials: They differ in what `hgq.sweep.groups.APART` allows.
        out: The sweep directory.
        report: Called with what happens.

    Yields:
        Each trial that did not fail, once its models are delivered: to be estimated, verified and reported.

    Raises:
        ConfigError: these models cannot be trained in one step together. Nothing is trained then, and no trial has ended.
    """
    runs: dict[str, Run] = {}
    whole: list[Trial] = []

    def begin(trial: Trial) -> None:
        directory = trial.directory(out)
        resume = (directory / "recipe.toml").is_file()
        made = begun(trial.recipe, directory, resume=resume, progress=False, callbacks=[Ticker(trial.name, report)])
        if isinstance(made, Run):
            runs[trial.name] = made

    def end(trial: Trial) -> None:
        if trial.name in runs:
            report(Event("note", trial.name, "calibrating and freezing …"))
            runs[trial.name].deliver()

    for trial in trials:
        report(Event("note", trial.name, "loading data and building the model …"))
        if caught(trial, report, partial(begin, trial)):
            whole.append(trial)
    if runs:
        first, *others = runs.values()
        for run in others:
            run.loop.borrow(first.loop)
        _train(list(runs.values()))
    for trial in whole:
        if caught(trial, report, partial(end, trial)):
            yield trial


def _train(runs: Sequence[Run]) -> None:
    """Epochs of all until the last one is over. A run that is over keeps its model; its place in the stack goes on for nothing."""
    for run in runs:
        run.save_seconds *= len(runs)
        run.pareto.seconds *= len(runs)
    first = runs[0].recipe.train
    stack = Stack([run.model for run in runs], [(run.data.x_train, run.data.y_train) for run in runs], batch_size=first.batch_size)
    asked = [run.epochs() for run in runs]
    try:
        epochs = [next(one, None) for one in asked]
        while any(epoch is not None for epoch in epochs):
            stack.push()
            means = stack.run_epoch([(run.recipe.train.seed, epoch or 0) for run, epoch in zip(runs, epochs, strict=True)])
            outputs, costs = stack.predict([run.data.x_val for run in runs]), stack.costs()
            stack.pull([number for number, epoch in enumerate(epochs) if epoch is not None])
            for number, (run, one) in enumerate(zip(runs, asked, strict=True)):
                if epochs[number] is not None:
                    logs = {**means[number], **run.scored(outputs[number]), **costs[number]}
                    epochs[number] = _sent(one, logs)
    finally:
        for one in asked:
            one.close()


def _sent(asked: Generator[int, dict[str, float], None], logs: dict[str, float]) -> int | None:
    try:
        return asked.send(logs)
    except StopIteration:
        return None

"""From runs of the plan to what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.gradient_accuracy import jets, training
from benchmarks.gradient_accuracy.plan import TASKS, Run

tf.config.threading.set_intra_op_parallelism_threads(1)  # the networks are small: a second thread costs more than it brings
tf.config.threading.set_inter_op_parallelism_threads(1)

_loaded: dict[str, training.Arrays] = {}


def outcomes(group: list[Run], folder: Path) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Each run of a group, which differ by their seed only, and its outcome.

    Raises:
        HGQError: the data are not there, or the method means nothing.
    """
    task, method = group[0].task, group[0].method
    if task == "jets":
        for run in group:
            yield run, jets.outcome(run)
        return
    if task not in _loaded:
        _loaded.clear()
        _loaded[task] = training.load(TASKS[task], folder)
    trainer = training.Trainer(task, method, _loaded[task])
    for run in group:
        yield run, trainer.run(run.seed)

"""`train`: a recipe becomes a run directory.

::

    recipe.toml     what was asked for, every value written out
    history.csv     one row an epoch: losses, metric, ebops, beta, setpoint, learning rate, seconds
    bits.csv        how many weights and activations have how many bits, by layer and epoch
    pareto/         the models that no other one beats, and pareto.json
    checkpoint/     state.npz, until the run is done: with it the run goes on bit-identically
    model.keras     the model: calibrated, so that it is exactly what model.hgq was frozen from
    model.hgq       the same, frozen
    budgets/N/      with several budgets: both files for each
    result.json     accuracy and EBOPs, asked and got

What an interrupt can leave is a run that resumes: the checkpoint is replaced atomically after an epoch, and everything else is derived
from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import keras

from hgq.config import Recipe
from hgq.errors import ConfigError, OutputError
from hgq.output import refuse_used, write_file_atomically, writing
from hgq.training.reach import refuse_timing
from hgq.training.result import FILE as RESULT
from hgq.training.result import RunResult
from hgq.training.run import Run


def train(
    recipe: Recipe | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Run a recipe, from data to a frozen model.

    Args:
        recipe: A recipe, or the path of one.
        out: The run directory, new or empty.
        resume: Go on with the run in `out`, bit-identically to one that was never interrupted. Its recipe must be the same. A finished run
            is returned as it is.
        progress: Show a progress bar; None: on a terminal.
        callbacks: More Keras callbacks, called last; their state is not part of a checkpoint.
        tell: Called with what is going on, besides.

    Returns:
        The result; also in ``result.json``.

    Raises:
        ConfigError: a recipe that means nothing, or another than that of the run to resume.
        DataError: data that cannot be used.
        OutputError: `out` holds something already, or cannot be written.
        FileFormatError: a checkpoint that is damaged.
        BudgetError: a budget, clock or latency that cannot be reached; nothing is trained or written then.
    """
    run = begun(recipe, out, resume=resume, progress=progress, callbacks=callbacks, tell=tell)
    if isinstance(run, RunResult):
        return run
    run.train()
    tell("calibrating and freezing …")
    return run.deliver()


def begun(
    recipe: Recipe | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Run | RunResult:
    """A run that is ready for its next epoch, its directory made; or the result of a finished one. Arguments and errors as of `train`."""
    directory = Path(out)
    if not isinstance(recipe, Recipe):
        recipe = Recipe.from_toml(Path(recipe))
    finished = _check_directory(directory, recipe, resume)
    if finished is not None:
        return finished
    refuse_timing(recipe)
    tell("loading data and building the model …")
    run = Run(recipe, directory, progress, list(callbacks))
    if resume and run.checkpoint.is_file():
        run.restore()
        tell(f"resuming after epoch {run.epoch} …")
    else:
        run.refuse_unreachable()
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        write_file_atomically(directory / "recipe.toml", recipe.to_toml(), force=True)
    return run


def _check_directory(directory: Path, recipe: Recipe, resume: bool) -> RunResult | None:
    """Refuse what cannot be; a finished run that is resumed is returned."""
    asked = directory / "recipe.toml"
    if not resume:
        refuse_used(directory, "run")
        return None
    if not asked.is_file():
        raise OutputError(
            "There is no run to resume.", where=str(directory), expected="a run directory with recipe.toml", fix="Leave --resume out."
        )
    if Recipe.from_toml(asked) != Recipe.from_text(recipe.to_toml()):
        raise ConfigError(
            "The run to resume has another recipe.",
            where=str(asked),
            expected="the same values: only then can it go on bit-identically",
            fix="Resume with the recipe in the run directory, or start a new run elsewhere.",
        )
    done = directory / RESULT
    if not done.is_file():
        return None
    return RunResult.read(directory)

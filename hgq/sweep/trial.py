"""`Trial`: one training of a sweep, in a run directory that is what `hgq train` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hgq.config import Recipe
from hgq.errors import HGQError

TRIALS = "trials"
"""Folder of the run directories."""
RESULT = "result.json"
"""What a run directory has once its models are delivered: `hgq.training.result`, which this module does not load."""
State = Literal["done", "begun", "new"]


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        name: Of its folder.
        changes: What it gives to fields of the sweep's recipe, by their paths.
        recipe: All of it.
    """

    name: str
    changes: Mapping[str, Any]
    recipe: Recipe

    def directory(self, out: Path) -> Path:
        """Its run directory in the sweep directory `out`."""
        return out / TRIALS / self.name

    def state(self, out: Path) -> State:
        """How far it is, as its run directory tells: nothing else remembers, so that nothing can be wrong about it."""
        directory = self.directory(out)
        if (directory / RESULT).is_file() and (directory / "report.html").is_file():
            return "done"
        return "begun" if (directory / "recipe.toml").is_file() else "new"


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial.

    Args:
        kind: ``note`` (`text` says what goes on), ``epoch`` (`epoch` of `total` are over; `text` has numbers), ``done``, ``failed`` (`text`
            says why; again it would be the same), or ``lost`` (its worker died; again it may go well).
        trial: Its name.
        text, epoch, total: See `kind`.
    """

    kind: Literal["note", "epoch", "done", "failed", "lost"]
    trial: str
    text: str = ""
    epoch: int = 0
    total: int = 0


Report = Callable[[Event], None]


def run_trial(trial: Trial, directory: Path, report: Report) -> None:
    """Train, estimate, verify and report one trial, from where its run directory is to the end.

    Raises:
        HGQError: what `hgq.training.train` and `hgq.workflow.finish` raise.
    """
    from hgq.workflow import finish

    def tell(text: str) -> None:
        report(Event("note", trial.name, text))

    if not (directory / RESULT).is_file():  # what is left of a trained one does not need Keras, which takes seconds to load
        from hgq.sweep.ticker import Ticker
        from hgq.training import train

        begun = (directory / "recipe.toml").is_file()
        train(trial.recipe, directory, resume=begun, progress=False, callbacks=[Ticker(trial.name, report)], tell=tell)
    finish(directory, tell=tell)


def attempt(trial: Trial, directory: Path, report: Report) -> None:
    """`run_trial`; how it ended is an event, whatever it was. An interrupt goes through."""
    if caught(trial, report, lambda: run_trial(trial, directory, report)):
        report(Event("done", trial.name))


def caught(trial: Trial, report: Report, work: Callable[[], None]) -> bool:
    """Do a piece of a trial's work: one trial's fault must not end the others. Whether it went well; if not, that is an event."""
    try:
        work()
    except HGQError as error:
        report(Event("failed", trial.name, error.text()))
    except Exception as error:
        report(Event("failed", trial.name, f"{type(error).__name__}: {error}"))
    else:
        return True
    return False

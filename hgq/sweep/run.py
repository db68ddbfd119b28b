"""`sweep`: a plan becomes a sweep directory.

::

    sweep.toml        what was asked for
    trials/NAME/      a run directory for each trial: what `hgq train` writes, and every command takes
    sweep.csv         one row a model: what was swept, budget asked and met, EBOPs, accuracy
    pareto.png        accuracy against EBOPs
    sweep.html        the same with the table, complete in itself
    failures.json     why trials failed, where some did
    logs/             what worker processes had to say
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from hgq.errors import ConfigError, OutputError
from hgq.output import refuse_used, write_file_atomically, writing
from hgq.sweep.plan import Plan
from hgq.sweep.runners import Here, Runner
from hgq.sweep.table import FILE as TABLE
from hgq.sweep.table import Row, rows_of, to_csv
from hgq.sweep.trial import Event, Report, Trial

log = logging.getLogger("hgq.sweep")

ASKED = "sweep.toml"
FAILURES = "failures.json"


@dataclass(frozen=True)
class SweepResult:
    """What `sweep` made.

    Args:
        directory: The sweep directory.
        rows: See `hgq.sweep.table.rows_of`.
        failures: Why trials failed, by their names.
        notes: What could not be done besides, and what to do about it.
    """

    directory: Path
    rows: list[Row]
    failures: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every trial is done, within its budget, and bit-exact as far as it was verified."""
        return all(row["state"] == "done" and row["within"] and row["verified"] is not False for row in self.rows)


def sweep(
    plan: Plan,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    runner: Runner | None = None,
    retries: int = 1,
    report: Report = lambda event: None,
) -> SweepResult:
    """Run all trials of a plan.

    Args:
        plan: The trials.
        out: The sweep directory, new or empty.
        resume: Go on with the sweep in `out`: finished trials are kept, begun ones go on from their checkpoints. The plan must be the same.
        runner: Who runs the trials; None: this process, one after the other.
        retries: How often a trial whose worker died is begun again.
        report: Called with what happens.

    Returns:
        The result. A trial that failed is in it; it does not end the sweep.

    Raises:
        ConfigError: another plan than that of the sweep to resume.
        OutputError: `out` holds something already, or cannot be written.
        KeyboardInterrupt: tables are written then, too.
    """
    directory = Path(out)
    _check_directory(directory, plan, resume)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_file_atomically(directory / ASKED, plan.to_toml(), force=True)
    work = _Work(plan.trials(), directory, report)
    try:
        work.run(runner or Here(), retries)
    finally:
        result = _written(plan.name, directory, work.trials, work.failures)
    return result


def _check_directory(directory: Path, plan: Plan, resume: bool) -> None:
    """Refuse what cannot be."""
    asked = directory / ASKED
    if not resume:
        refuse_used(directory, "sweep")
        return
    if not asked.is_file():
        raise OutputError(
            "There is no sweep to resume.", where=str(directory), expected=f"a sweep directory with {ASKED}", fix="Leave --resume out."
        )
    if _compared(Plan.from_toml(asked)) != _compared(plan):
        raise ConfigError(
            "The sweep to resume has other trials.",
            where=str(asked),
            expected="the same recipe and the same values",
            fix="Resume with the sweep.toml in the directory, or start a new sweep elsewhere.",
        )


def _compared(plan: Plan) -> list[tuple[str, str]]:
    return [(trial.name, trial.recipe.to_toml()) for trial in plan.trials()]


@dataclass
class _Work:
    """Trials, and what became of them."""

    trials: list[Trial]
    directory: Path
    tell: Report
    failures: dict[str, str] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)

    def run(self, runner: Runner, retries: int) -> None:
        for _ in range(retries + 1):
            todo = [trial for trial in self.trials if trial.state(self.directory) != "done" and self._again(trial)]
            if not todo:
                return
            for trial in todo:
                self.failures.pop(trial.name, None)
            self._lost = set()
            runner.run(todo, self.directory, self._noted)

    def _again(self, trial: Trial) -> bool:
        """Not what failed: it would fail again."""
        return trial.name not in self.failures or trial.name in self._lost

    def _noted(self, event: Event) -> None:
        if event.kind in ("failed", "lost"):
            self.failures[event.trial] = event.text
        if event.kind == "lost":
            self._lost.add(event.trial)
        self.tell(event)


def _written(name: str, directory: Path, trials: list[Trial], failures: dict[str, str]) -> SweepResult:
    """Table, plot and page."""
    from hgq.report.sweep import page

    rows, notes = rows_of(trials, directory, failures), []
    write_file_atomically(directory / TABLE, to_csv(rows), force=True)
    if failures:
        write_file_atomically(directory / FAILURES, json.dumps(failures, indent=1) + "\n", force=True)
    else:
        (directory / FAILURES).unlink(missing_ok=True)
    write_file_atomically(directory / "sweep.html", page(name, rows, failures), force=True)
    try:
        from hgq.sweep.plot import png

        if (drawn := png(rows, name)) is not None:
            write_file_atomically(directory / "pareto.png", drawn, force=True)
    except ImportError:
        notes.append('No pareto.png: matplotlib is not installed. pip install "hgqc[sweep]"')
    return SweepResult(directory, rows, dict(failures), tuple(notes))

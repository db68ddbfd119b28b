"""`hgq sweep`: one recipe, many trials."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgq.cli import _output

if TYPE_CHECKING:
    from hgq.sweep import Plan, SweepResult
    from hgq.sweep.runners import Runner

VALUES = "1,2,5 or FROM:TO[:STEP]"


def command(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="What the trials have in common; its \\[sweep] table, if any, says what differs.")
    ],
    seeds: Annotated[str | None, typer.Option("--seeds", help=f"Seeds: {VALUES}.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Budgets, in EBOPs, or in LUTs if the recipe's budget is.")] = None,
    lut: Annotated[str | None, typer.Option("--lut", help="Budgets in LUTs of the RTL on the recipe's part.")] = None,
    beta: Annotated[str | None, typer.Option("--beta", help="Loss per EBOP, instead of the recipe's budget.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUES", help="Any field of the recipe, such as train.learning_rate=1e-3,5e-3; repeatable."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The .npz file to learn from.", show_default="the recipe's")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs for each budget.", show_default="the recipe's")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Test samples to verify each trial on; 0: none.", show_default="the recipe's")
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            "--workers", "-w", metavar="N", help="Processes that train, one trial each at a time; or ray://HOST:PORT, a Ray cluster."
        ),
    ] = "1",
    vectorize: Annotated[
        bool, typer.Option("--vectorize", help="Train trials of one architecture in one process, by one step for all, to the same bits.")
    ] = False,
    retries: Annotated[int, typer.Option("--retries", min=0, help="How often a trial is begun again whose worker died.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The sweep directory.", show_default="sweeps/NAME")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on: finished trials are kept, others go on from their checkpoints.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Show the trials, train nothing.")] = False,
    as_json: _output.AsJson = False,
) -> None:
    """Train every combination of seeds, budgets, betas or any fields of a recipe. Each trial's folder is what `hgq train` writes.

    Ctrl-C leaves a sweep that --resume continues. Exit code 1 if a trial failed, missed its budget or is not bit-exact.
    """
    from hgq.sweep.plan import Plan

    axes: dict[str, Any] = {name: text for name, text in (("seed", seeds), ("budget", budget), ("lut", lut), ("beta", beta)) if text}
    for text in fields or []:
        path, values = _field(text)
        axes[path] = values
    changes = {"data.path": data and str(data), "train.epochs": epochs, "verify.samples": samples}
    changes["train.jit_compile"] = False if vectorize else None  # the step of all is made of native ops, which XLA does not know
    plan = Plan.from_toml(recipe, axes).changed({path: value for path, value in changes.items() if value is not None})
    if list_only:
        rows = [{"trial": trial.name, **trial.changes} for trial in plan.trials()]
        _output.json_result(rows) if as_json else _output.table(rows, f"{len(rows)} trial{'s' if len(rows) > 1 else ''}")
        return
    target = out or Path("sweeps") / plan.name
    result = _run(plan, target, resume, _runner(workers, vectorize), retries)
    _output.json_result(
        {"directory": result.directory, "rows": result.rows, "failures": result.failures, "ok": result.ok}
    ) if as_json else show(result)
    judge(result)


def _field(text: str) -> tuple[str, str]:
    from hgq.errors import ConfigError

    path, sign, values = text.partition("=")
    if not sign:
        raise ConfigError("--set needs a field and values.", where="--set", expected="such as train.learning_rate=1e-3,5e-3", received=text)
    return path.strip(), values


def _runner(workers: str, vectorize: bool) -> Runner:
    """Who runs the trials."""
    from hgq.errors import ConfigError
    from hgq.sweep.runners import Here, Processes, Together

    if workers == "ray" or workers.startswith("ray://"):
        from hgq.sweep.cluster import Cluster

        return Cluster(workers if "://" in workers else None)
    if not workers.isdecimal() or not 1 <= int(workers) <= 1024:
        raise ConfigError(
            "This is no number of workers.", where="--workers", expected="1 or more, ray, or ray://HOST:PORT", received=workers
        )
    if vectorize:
        if workers != "1":
            raise ConfigError(
                "--vectorize trains in one process.", where="--workers", expected="--vectorize or --workers, not both", received=workers
            )
        return Together()
    return Here() if int(workers) == 1 else Processes(int(workers))


def _run(plan: Plan, out: Path, resume: bool, runner: Runner, retries: int) -> SweepResult:
    from hgq.cli import _keras
    from hgq.cli._watch import Watch
    from hgq.output import refuse_used
    from hgq.sweep.run import sweep
    from hgq.sweep.runners import Here, Together

    trials = plan.trials()
    if not resume:
        refuse_used(out, "sweep")  # before Keras is loaded
    if isinstance(runner, Here | Together):
        _keras.load()
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each trial is traced anew: TensorFlow would warn of that
    try:
        with Watch(len(trials), sum(trial.state(out) == "done" for trial in trials) if resume else 0) as watch:
            return sweep(plan, out, resume=resume, runner=runner, retries=retries, report=watch)
    except KeyboardInterrupt:
        if (out / "sweep.toml").is_file():
            given = shlex.join(argument for argument in sys.argv[2:] if argument != "--resume")
            named = "" if any(argument.startswith(("--out", "-o")) for argument in sys.argv) else f" --out {shlex.quote(str(out))}"
            _output.warning(f"Interrupted. Continue with: hgq sweep {given}{named} --resume")
        raise


def show(result: SweepResult) -> None:
    """The table on stdout."""
    shares = any(row.get("metric") == "accuracy" for row in result.rows)
    rows = [_shown(row, shares) for row in result.rows]
    _output.table(rows, "Trials (★: no other is both no larger and better in validation)")
    for trial, why in result.failures.items():
        _output.warning(f"{trial}: {why}")
    for note in result.notes:
        _output.warning(note)
    _output.result(f"Report: {result.directory / 'sweep.html'}")


def _shown(row: dict[str, Any], shares: bool) -> dict[str, Any]:
    from hgq.report.sweep import NOT_SWEPT

    def metric(value: float) -> Any:
        return f"{100 * value:.2f} %" if shares else value

    swept = {key: value for key, value in row.items() if key not in NOT_SWEPT}
    if row["state"] != "done":
        return {"": "", "trial": row["trial"], **swept, "state": row["state"]}
    asked = None if row["budget"] is None else f"{row['budget']:,.0f} {'LUT' if row['resource'] == 'lut' else 'EBOPs'}"
    return {
        "": "★" if row["front"] else "",
        "trial": row["trial"],
        **swept,
        "state": "done" if row["within"] else "MISSED",
        "asked": asked,
        "EBOPs": row["ebops"],
        "LUT": row["lut"],
        "ns": row["latency_ns"],
        "val": metric(row["val"]),
        "test": metric(row["test"]),
        "epochs": row["epochs"],
        "bit-exact": row["verified"],
    }


def judge(result: SweepResult) -> None:
    """Raise what the exit code must say."""
    from hgq.errors import BudgetError

    if result.ok:
        return
    failed = [name for name in result.failures]
    missed = [row["trial"] for row in result.rows if row["state"] == "done" and not row["within"]]
    wrong = [row["trial"] for row in result.rows if row["state"] == "done" and row["verified"] is False]
    parts = (("failed", failed), ("missed their budget", missed), ("not bit-exact", wrong))
    raise BudgetError(
        "Not every trial is what was asked for.",
        where=str(result.directory),
        received="; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names),
        fix="--resume begins the failed ones again. A missed budget wants more epochs.",
    )

"""What `hgq train` and `hgq demo` share: run a recipe, finish the run directory, show and judge the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgq.cli import _keras, _output

if TYPE_CHECKING:
    from hgq.config import Recipe
    from hgq.training import RunResult
    from hgq.training.result import Point
    from hgq.workflow import Finished


TITLES = {"ebops": "EBOPs", "lut": "LUT"}


def run(recipe: Recipe, out: Path, resume: bool, as_json: bool, command: Callable[[Path], str]) -> None:
    """Train, finish, show, judge.

    Args:
        recipe: What to do.
        out: The run directory.
        resume: Go on with what is there.
        as_json: Print JSON instead of a table.
        command: The command line that resumes the run, for the note after an interrupt.

    Raises:
        MismatchError: two representations of the model differ.
        BudgetError: a budget was missed.
        OutputError: `out` holds something already.
        DataError: there are no such data.
    """
    from hgq.datasets import located
    from hgq.output import refuse_used

    if not resume:  # before Keras is loaded
        refuse_used(out, "run")
        located(recipe.data.source)
    _keras.load()
    from hgq.training import train
    from hgq.workflow import finish

    try:
        result = train(recipe, out, resume=resume, tell=_output.progress)
    except KeyboardInterrupt:
        if (out / "recipe.toml").is_file():
            _output.warning(f"Interrupted. Continue with: {command(out)}")
        raise
    finished = finish(out, tell=_output.progress)
    summary = summarise(result, finished)
    _output.json_result(summary) if as_json else show(summary)
    judge(result, finished)


def summarise(result: RunResult, finished: Finished) -> dict[str, Any]:
    """All that a person wants to know, as JSON values."""
    estimates = {name: value.to_dict() for name, value in finished.estimates.items()}
    return {
        **result.to_dict(),
        "estimate": estimates,
        "estimate_rows": [_estimate_row(value) for value in finished.estimates.values()],
        "verify": finished.verdict.to_dict() if finished.verdict else None,
        "verify_rows": finished.verdict.rows() if finished.verdict else [],
        "notes": list(finished.notes),
        "report": str(finished.report),
    }


def show(summary: dict[str, Any]) -> None:
    """The summary as tables on stdout."""
    metric = summary["metric"]
    rows = [
        {
            "model": point["hgq_file"],
            f"test {metric}": f"{100 * point['test']:.2f} %" if metric == "accuracy" else point["test"],
            f"{TITLES[point['resource']]} asked": point["budget"] and round(point["budget"]),
            **({"LUT got (estimate)": point["lut"]} if point["lut"] is not None else {}),
            "EBOPs got": point["ebops"],
            **_timing(point),
            "budget": _judged(point),
        }
        for point in summary["points"]
    ]
    _output.table(
        rows, f"Models ({summary['points'][0]['test_samples']:,} test samples; {summary['epochs']} epochs in {summary['seconds']:.0f} s)"
    )
    if summary["estimate_rows"]:
        _output.table(summary["estimate_rows"], "Estimate for model.hgq (guess, and where it may lie)")
    if summary["verify_rows"]:
        _output.table(summary["verify_rows"], "Bit by bit against the golden integers")
    for note in summary["notes"]:
        _output.warning(note)
    _output.result(f"Report: {summary['report']}")


def _timing(point: dict[str, Any]) -> dict[str, Any]:
    if point["latency_budget_ns"] is None:
        return {}
    cycles = f", {point['latency_cycles']} cycles" if point["latency_cycles"] is not None else ""
    return {"ns asked": point["latency_budget_ns"], "ns got (estimate)": f"{point['latency_ns'] or 0:.1f}{cycles}"}


def _judged(point: dict[str, Any]) -> str:
    if point["budget"] is None and point["latency_budget_ns"] is None:
        return ""
    if point["within"]:
        return "met"
    slow = point["latency_budget_ns"] is not None and point["clock_ns"] is None
    over = (point["lut"] or point["ebops"]) / point["budget"] - 1 if point["budget"] else 0.0
    parts = [f"by {100 * over:+.1f} %"] if over and not (slow and abs(over) < 0.05) else []
    return " and ".join(["MISSED", *parts, *(["too slow"] if slow else [])]).replace("MISSED and", "MISSED")


def judge(result: RunResult, finished: Finished) -> None:
    """Raise what the exit code must say."""
    from hgq.errors import BudgetError, MismatchError

    if finished.verdict is not None and not finished.verdict.ok:
        wrong = [check for check in finished.verdict.checks if check.mismatches]
        raise MismatchError(
            "Representations of the model differ.",
            where=str(result.directory),
            expected="0 mismatches",
            received=", ".join(f"{check.name}: {check.mismatches} of {check.samples} samples" for check in wrong),
            fix="verify.json names the first divergent node and one minimal input. Please report this.",
        )
    missed = [point for point in result.points if not point.within]
    if missed:
        raise BudgetError(
            "A budget was missed.",
            where=str(result.directory),
            expected="; ".join(_asked(point) for point in missed),
            received="; ".join(_got(point) for point in missed),
            fix="Train for more epochs (train.epochs), or start from other bits or layers.",
        )


def _asked(point: Point) -> str:
    parts = [f"{point.budget:,.0f} {TITLES[point.resource]}"] if point.budget is not None else []
    return " and ".join([*parts, *([f"{point.latency_budget_ns:g} ns"] if point.latency_budget_ns is not None else [])])


def _got(point: Point) -> str:
    parts = [f"{point.spent:,}"] if point.budget is not None else []
    return " and ".join([*parts, *([f"{point.latency_ns:.1f} ns"] if point.latency_ns is not None else [])])


def _estimate_row(estimate: Any) -> dict[str, Any]:
    def interval(value: Any, unit: str = "") -> str | None:
        if value is None:
            return None
        text = f"{value.value:,.0f}" if value.low == value.high else f"{value.value:,.0f} ({value.low:,.0f} to {value.high:,.0f})"
        return text + unit

    counts, timing = estimate.counts, estimate.timing
    return {
        "backend": f"{estimate.backend}, {estimate.strategy.replace('_', ' ')}",
        "LUT": interval(counts.lut),
        "FF": interval(counts.ff),
        "DSP": interval(counts.dsp),
        "latency": interval(timing.ns, " ns"),
        "cycles": interval(timing.cycles),
    }

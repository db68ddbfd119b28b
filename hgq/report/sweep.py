"""`page`: what came of a sweep, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hgq import __version__
from hgq.report.axes import number
from hgq.report.bitmap import LEVELS
from hgq.report.charts import Frame, Mark, Series, chart
from hgq.report.page import template

NOT_SWEPT = "trial state resource budget within ebops lut latency_ns metric val test epochs seconds verified front model".split()
"""Columns of a row that say what came of a trial; the others say what it was given."""


def page(name: str, rows: Sequence[Mapping[str, Any]], failures: Mapping[str, str]) -> str:
    """The page of a sweep.

    Args:
        name: Of its recipe.
        rows: As `hgq.sweep.table.rows_of` makes them.
        failures: Why trials failed, by their names.

    Returns:
        HTML text. The same arguments give the same text.
    """
    done = [row for row in rows if row["state"] == "done"]
    shares = bool(done) and done[0]["metric"] == "accuracy"
    return template("sweep.html.j2").render(
        name=name,
        rows=rows,
        swept=list(dict.fromkeys(key for row in rows for key in row if key not in NOT_SWEPT)),
        done=done,
        trials=len({row["trial"] for row in rows}),
        finished=len({row["trial"] for row in done}),
        failures=failures,
        chart=_chart(done, shares),
        budgeted=any(row["budget"] is not None for row in done),
        metric="Accuracy" if shares else "Mean squared error",
        metric_text=lambda value: f"{100 * value:.2f} %" if shares else number(value),
        number=number,
        ns=lambda value: f"{value:,.1f}".removesuffix(".0"),
        levels=range(LEVELS + 1),
        version=__version__,
    )


def _chart(done: Sequence[Mapping[str, Any]], shares: bool) -> Any:
    points = [(row["ebops"], row["test"]) for row in done if row["ebops"] > 0]
    # Chosen in validation, drawn by the test: they need not rise.
    best = sorted((row["ebops"], row["test"]) for row in done if row["front"] and row["ebops"] > 0)
    if not best:
        return None
    label = "Test accuracy" if shares else "Mean squared error, test"
    frame = Frame(
        title=f"{label} against EBOPs",
        description=f"{len(points)} models; {len(best)} that no other beats, from {number(best[0][0])} to {number(best[-1][0])} EBOPs.",
        x_label="EBOPs (effective bit operations), logarithmic",
        y_label=label,
        x_log=True,
        y_percent=shares,
    )
    budgets = sorted({row["budget"] for row in done if row["budget"] is not None and row["resource"] == "ebops"})
    # The others decide the axes too: here each is a whole training.
    series = [Series("", points, "s2", line=False, dots=True), Series("not beaten", best, "s1", dots=True)]
    return chart(frame, series, [Mark(budget, f"budget {number(budget)}") for budget in budgets])

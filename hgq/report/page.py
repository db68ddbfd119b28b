"""`render`: everything known about a model, as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from hgq import __version__
from hgq.estimate.ebops import ebops_of
from hgq.estimate.model import Estimate
from hgq.ir import show
from hgq.ir.graph import Graph
from hgq.report.axes import number
from hgq.report.bitmap import LEVELS, layer_maps
from hgq.report.charts import Frame, Mark, Series, chart, front
from hgq.report.health import gradient_section

if TYPE_CHECKING:
    from jinja2 import Template

Record = Mapping[str, Any]
MOST_POINTS = 1200
"""Points of a curve or cloud that are drawn; longer histories are thinned evenly."""


UNASKED = {"resource": "ebops", "latency_budget_ns": None, "latency_ns": None, "latency_cycles": None, "clock_ns": None}
"""Of a delivered model whose result says nothing about them."""


def render(
    graph: Graph,
    history: Sequence[Record] | None = None,
    pareto: Sequence[Record] | None = None,
    estimate: Estimate | Record | None = None,
    verify: Any = None,
    *,
    budgets: Sequence[float] = (),
    result: Mapping[str, Any] | None = None,
    gradients: Sequence[Record] | None = None,
) -> str:
    """The page.

    Args:
        graph: The frozen model.
        history: One record an epoch: ``epoch``, ``loss``, ``ebops``, ``beta``, and metrics such as ``val_accuracy``.
        pareto: The models kept: ``epoch``, ``ebops``, ``metric``.
        estimate: An `Estimate`, or what its `to_dict` gives.
        verify: A `hgq.verify.Verdict`, or what its `to_dict` gives.
        budgets: EBOPs budgets that were asked for.
        result: What ``result.json`` of a run holds: the models that were delivered, with their test metric.
        gradients: One record a measured epoch and layer, as `hgq.training.GradientHealth` writes them.

    Returns:
        HTML text. The same arguments give the same text.
    """
    found = estimate.to_dict() if isinstance(estimate, Estimate) else estimate
    verdict = verify.to_dict() if hasattr(verify, "to_dict") else verify
    rows = [dict(record) for record in history or ()]
    ebops = ebops_of(graph)
    metric = metric_of(rows)
    points = [(_real(p.get("ebops")), _real(p.get("metric"))) for p in pareto or ()]
    points = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    given, main_one = (result["points"], result["main"]) if result else ([], None)
    models = [{**UNASKED, **point, "main": index == main_one} for index, point in enumerate(given)]
    main = next((model for model in models if model["main"]), None)
    chosen = (_real(main["ebops"]), _real(main["val"])) if main else _nearest(points, ebops)
    return template("page.html.j2").render(
        graph=graph,
        digest=graph.digest()[:16],
        version=__version__,
        ebops=ebops,
        budgets=[float(b) for b in budgets],
        metric=_words(metric),
        chosen=chosen,
        models=models,
        main=main,
        test_metric="Test accuracy" if result and result["metric"] == "accuracy" else "Mean squared error, test",
        pareto_chart=_pareto_chart(points, rows, metric, budgets, chosen),
        pareto=[{"ebops": cost, "metric": _metric_text(value, metric)} for cost, value in front(points, higher_is_better=_rises(metric))],
        curves=_curves(rows, budgets),
        health=gradient_section(gradients or ()),
        maps=layer_maps(graph),
        levels=range(LEVELS + 1),
        estimate=found,
        verify=verdict,
        nodes=show.table(graph),
        number=number,
        ns=lambda value: f"{value:,.1f}".removesuffix(".0"),
        metric_text=lambda value: _metric_text(value, metric),
    )


def metric_of(history: Sequence[Record]) -> str:
    """Which column of a history the Pareto front is about: a validation accuracy, else any accuracy, else a loss."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    for wanted in ("val_accuracy", "accuracy"):
        if wanted in columns:
            return wanted
    return next((c for c in columns if "acc" in c), next((c for c in ("val_loss", "loss") if c in columns), "val_accuracy"))


def _pareto_chart(points: list, rows: list[dict[str, Any]], metric: str, budgets: Sequence[float], chosen: Any) -> Markup | None:
    cloud = [(_real(row.get("ebops")), _real(row.get(metric))) for row in rows]
    cloud = [p for p in cloud if math.isfinite(p[1]) and p[0] > 0]
    best = front(points or cloud, higher_is_better=_rises(metric))
    best = [p for p in best if p[0] > 0]
    if not best:
        return None
    frame = Frame(
        title=f"{_words(metric)} against EBOPs",
        description=f"{len(best)} models that no other beats, from {number(best[0][0])} to {number(best[-1][0])} EBOPs.",
        x_label="EBOPs (effective bit operations), logarithmic",
        y_label=_words(metric),
        x_log=True,
        y_percent=_is_share(metric, [p[1] for p in best]),
    )
    # Without the span of the front alone, the first epochs would squeeze it into a corner.
    series = [
        Series("", _thin(cloud), "cloud", line=False, dots=True),
        Series("not beaten", best, "s1", steps=_rises(metric), dots=True),
    ]
    return chart(frame, series, [Mark(float(b), f"budget {number(float(b))}") for b in budgets], ring=chosen)


def _curves(rows: list[dict[str, Any]], budgets: Sequence[float]) -> list[dict[str, Any]]:
    def column(name: str) -> list[tuple[float, float]]:
        pairs = [(_real(row.get("epoch", index)), _real(row.get(name))) for index, row in enumerate(rows)]
        return _thin([p for p in pairs if math.isfinite(p[0]) and math.isfinite(p[1])])

    in_luts = any("lut" in row for row in rows)
    asked = ("setpoint", "asked for")
    costs = [("EBOPs", (("ebops", "EBOPs"), *(() if in_luts else (asked,))), True)]
    if in_luts:
        costs.insert(0, ("LUT, as training counts them", (("lut", "LUT"), asked), True))
    panels = (
        ("Loss", (("loss", "training"), ("val_loss", "validation")), False),
        ("Accuracy", (("accuracy", "training"), ("val_accuracy", "validation")), False),
        *costs,
        (f"beta: weight of one {'LUT' if in_luts else 'EBOP'} in the loss", (("beta", "beta"),), True),
    )
    drawn = []
    for title, columns, log in panels:
        series = []
        for index, (name, label) in enumerate(columns, 1):
            points = [p for p in column(name) if p[1] > 0 or not log]
            if len(points) > 1:
                series.append(Series(label, points, f"s{index}"))
        if series:
            share = title == "Accuracy" and all(0 <= p[1] <= 1 for one in series for p in one.points)
            ends = [f"{100 * one.points[-1][1]:.2f} %" if share else number(one.points[-1][1]) for one in series]
            last = "; ".join(
                f"{one.label} ends at {end}" if len(series) > 1 else f"ends at {end}" for one, end in zip(series, ends, strict=True)
            )
            frame = Frame(title, f"{title} by epoch: {last}.", "epoch", title, 440, 280, y_log=log, y_percent=share)
            drawn.append({"title": title, "svg": chart(frame, series), "last": last})
    return drawn


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(MOST_POINTS)]


def _nearest(points: list[tuple[float, float]], ebops: float) -> tuple[float, float] | None:
    """The point that is this model, if one is within a tenth of its EBOPs."""
    near = [p for p in points if abs(p[0] - ebops) <= 0.1 * ebops]
    return min(near, key=lambda p: abs(p[0] - ebops)) if near else None


def _real(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _rises(metric: str) -> bool:
    return not any(word in metric for word in ("loss", "error", "mse", "mae"))


def _is_share(metric: str, values: Sequence[float]) -> bool:
    return "acc" in metric and all(0 <= value <= 1 for value in values)


def _metric_text(value: float, metric: str) -> str:
    return f"{100 * value:.2f} %" if _is_share(metric, [value]) else number(value)


def _words(metric: str) -> str:
    return metric.replace("val_", "validation ").replace("_", " ").capitalize()


@cache
def template(name: str) -> Template:
    """A page of this package, by the name of its file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hgq.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)

"""The front of a sweep as a PNG file, by matplotlib, which comes with the extra ``sweep``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any


def png(rows: Sequence[dict[str, Any]], name: str) -> bytes | None:
    """The metric of test samples against EBOPs, one dot a model, those that no other beats in validation joined; None without models.

    Raises:
        ImportError: there is no matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    done = [row for row in rows if row["state"] == "done"]
    if not done:
        return None
    rises = done[0]["metric"] == "accuracy"
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    scale = 100.0 if rises else 1.0
    axes.scatter([row["ebops"] for row in done], [scale * row["test"] for row in done], s=16, color="0.6", label="models")
    best = sorted((row["ebops"], scale * row["test"]) for row in done if row["front"])  # chosen in validation: they need not rise
    axes.plot(*zip(*best, strict=True), marker="o", color="tab:blue", label="not beaten in validation")
    costs = [row["ebops"] for row in done]
    if min(costs) > 0:
        axes.set_xscale("log")
        whole = StrMethodFormatter("{x:,.0f}")  # not powers of ten
        axes.xaxis.set_major_formatter(whole)
        axes.xaxis.set_minor_formatter(whole if max(costs) < 5 * min(costs) else NullFormatter())
    axes.set_xlabel("EBOPs")
    axes.set_ylabel("Test accuracy in %" if rises else "Test mean squared error")
    axes.set_title(name)
    axes.grid(alpha=0.3)
    axes.legend()
    target = io.BytesIO()
    canvas.print_png(target)
    return target.getvalue()

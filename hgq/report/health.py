"""What quantization did to gradients: the section of the page, from the rows of `hgq.training.GradientHealth`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hgq.report.charts import Frame, Series, chart

MOST_PANELS = 12
"""Layers that get a chart of their own; the table has all."""


def gradient_section(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A table with the last measurement of each layer, and a chart of each; None without rows."""
    layers = list(dict.fromkeys(str(row["layer"]) for row in rows))
    if not layers:
        return None
    table, panels = [], []
    for layer in layers:
        own = [row for row in rows if str(row["layer"]) == layer]
        last = own[-1]
        scheme = _short(str(last["scheme"]))
        table.append(
            {
                "layer": layer,
                "scheme": scheme,
                "epoch": last["epoch"],
                "underflow": _percent(last["underflow"]),
                "clipped": _percent(last["clipped"]),
                "snr": _db(last["snr_db"]),
                "kernel_snr": _db(last["kernel_snr_db"]),
            }
        )
        series = [
            Series(label, points, css)
            for label, column, css in (("result", "snr_db", "s1"), ("kernel", "kernel_snr_db", "s2"))
            if len(points := _points(own, column)) > 1
        ]
        if series and len(panels) < MOST_PANELS:
            words = f"Signal over quantization error of the gradients of {layer} by epoch, in dB."
            panels.append({"layer": layer, "svg": chart(Frame(layer, words, "epoch", f"{layer}: SNR in dB", 440, 260), series)})
    return {"table": table, "panels": panels, "left": len(layers) - len(panels) if len(layers) > MOST_PANELS else 0}


def _points(rows: Sequence[Mapping[str, Any]], column: str) -> list[tuple[float, float]]:
    pairs = [(float(row["epoch"]), float(row[column])) for row in rows]
    return [pair for pair in pairs if math.isfinite(pair[1])]


def _short(scheme: str) -> str:
    """A scheme without the arguments that nobody reads."""
    return scheme if len(scheme) <= 32 else scheme[:31].rstrip(", ") + "…"


def _percent(value: Any) -> str:
    share = float(value)
    return f"{100 * share:.3g} %" if math.isfinite(share) else "–"


def _db(value: Any) -> str:
    number = float(value)
    return "exact" if number == math.inf else f"{number:.1f} dB"

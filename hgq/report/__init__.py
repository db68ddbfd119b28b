"""The report: one self-contained HTML page with charts as inline SVG. It asks nothing of the network.

=================  ============================================================
`page.py`          `render`: graph, history, estimate … -> HTML text
`run.py`           `report`: a run directory -> ``report.html``
`sweep.py`         `page`: the trials of a sweep -> HTML text
`charts.py`        line and scatter charts; `axes.py`: their scales and ticks
`bitmap.py`        bitwidth heat maps
``*.j2``           the page and its style sheet
=================  ============================================================
"""

from __future__ import annotations

from hgq.report.page import render
from hgq.report.run import report

__all__ = ["render", "report"]

"""Sweeps: one recipe, many trials.

=================  ==================================================================================
`axes.py`          `Axis`: a field of the recipe and the values it takes
`plan.py`          `Plan`: recipe and axes -> trials, from TOML and back
`trial.py`         `Trial`: where it is, how far it is, and running it
`table.py`         what came of the trials: rows, CSV, front
`plot.py`          the front as PNG
`runners.py`       who runs trials: this process, or processes of its own; `worker.py` is the other end
`cluster.py`       the same on a Ray cluster
`groups.py`        which trials one step can train; `stack/` that step
`run.py`           `sweep`: plan -> sweep directory
=================  ==================================================================================
"""

from __future__ import annotations

from hgq.sweep.axes import Axis
from hgq.sweep.plan import Plan
from hgq.sweep.run import SweepResult, sweep
from hgq.sweep.trial import Trial

__all__ = ["Axis", "Plan", "SweepResult", "Trial", "sweep"]

"""What a user's own reports of vendors' tools say about his parts, and what that changes in his estimates.

================  =====================================================================================
`reports.py`      the reports: Vivado utilization and timing, Vitis HLS csynth.xml, Quartus summaries
`collect.py`      a folder of firmware projects with reports -> `Observation`
`shrink.py`       few observations and a prior -> a correction with a range
`store.py`        the user's file, and `corrections`: what `hgq estimate` applies
================  =====================================================================================
"""

from __future__ import annotations

from hgq.estimate.learning.collect import Observation, collect
from hgq.estimate.learning.shrink import Correction, shrink
from hgq.estimate.learning.store import Store, corrections

__all__ = ["Correction", "Observation", "Store", "collect", "corrections", "shrink"]

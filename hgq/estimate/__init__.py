"""What a graph will cost in hardware, each number with its range and what it is based on.

=================  ===================================================================================
`model.py`         `estimate`: graph + part + clock + backend -> `Estimate`
`ebops.py`         EBOPs of a graph, by the functions that training charges
`structure.py`     what a backend would build, in plain counts
`resources.py`     counts -> LUT, FF, DSP, BRAM
`latency.py`       cycles, the period that can be reached, nanoseconds
`why.py`           where the LUTs go, down to the weight (`kernels.py`)
`devices.py`       parts and families; one TOML file for each device in ``devices/``
=================  ===================================================================================
"""

from __future__ import annotations

from hgq.estimate.devices import Device, device_of, known_devices
from hgq.estimate.ebops import ebops_by_node, ebops_of
from hgq.estimate.interval import Interval
from hgq.estimate.model import Estimate, LayerEstimate, estimate

__all__ = ["Device", "Estimate", "Interval", "LayerEstimate", "device_of", "ebops_by_node", "ebops_of", "estimate", "known_devices"]

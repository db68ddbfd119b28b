"""The layers of a graph, each as a graph of its own.

alkaid optimises across layers and pipeline stages, so the RTL of a whole model cannot say which LUT belongs to which layer. Synthesised
alone, without registers, each layer can; their sum differs from the whole by what layers share, and by registers in LUTs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hgq.errors import LoweringError
from hgq.ir.graph import Graph, Input
from hgq.ir.show import declared_format
from hgq.synth.flow import Synthesis, synthesise


def layer_graphs(graph: Graph) -> dict[str, Graph]:
    """A graph for each Keras layer path that has nodes; values from other layers become ports of their declared formats."""
    sources = dict.fromkeys(node.source for node in graph.nodes)
    return {source: _part(graph, source) for source in sources}


def _part(graph: Graph, source: str) -> Graph:
    nodes = tuple(node for node in graph.nodes if node.source == source)
    own = {node.name for node in nodes}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name not in own)
    ports = {port.name: port for port in graph.inputs}
    inputs = []
    for name in read:
        if name in graph.consts:
            continue
        fixed = declared_format(graph, name)
        inputs.append(ports.get(name) or Input(name, fixed.shape, fixed))
    outputs = tuple(
        node.name for node in nodes if node.name in graph.outputs or any(user.name not in own for user in graph.users(node.name))
    )
    consts = {name: graph.consts[name] for name in read if name in graph.consts}
    return graph.with_(name=graph.name, inputs=tuple(inputs), consts=consts, nodes=nodes, outputs=outputs, meta={})


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

"""The layers of a graph, each as a graph of its own: so that each can be built, counted or synthesised alone."""

from __future__ import annotations

from hgq.ir.graph import Graph, Input, Node
from hgq.ir.show import declared_format


def layer_graphs(graph: Graph) -> dict[str, Graph]:
    """A graph for each Keras layer path that has nodes; values from other layers become ports of their declared formats."""
    sources = dict.fromkeys(node.source for node in graph.nodes)
    return {source: part(graph, tuple(node for node in graph.nodes if node.source == source)) for source in sources}


def part(graph: Graph, nodes: tuple[Node, ...]) -> Graph:
    """Some nodes, in their order, as a graph of their own; values from others become ports of their declared formats."""
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

"""What passes share: naming new constants."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from hgq.ir.graph import Const, Graph


def fresh(name: str, taken: Container[str]) -> str:
    """`name`, numbered when it is taken."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}.{number}"
    return unique


def put_const(const: Const, graph: Graph, consts: dict[str, Const]) -> str:
    """File a changed constant; it keeps its name unless other nodes of `graph` still read the original.

    Returns:
        The name it got.
    """
    taken = {*consts, *(port.name for port in graph.inputs), *(node.name for node in graph.nodes)}
    name = const.name if len(graph.users(const.name)) <= 1 else fresh(const.name, taken)
    consts[name] = replace(const, name=name)
    return name

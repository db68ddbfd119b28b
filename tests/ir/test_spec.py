"""Each invariant broken on its own, and what the error says."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.errors import GraphError
from hgq.ir import spec
from hgq.ir.graph import Const, Graph, Input, Node
from hgq.numerics import Fixed

ONES = Fixed(np.ones(3, int), np.full(3, 2), np.full(3, 2))
PORT = Input("x", (3,), ONES)
KERNEL = Const.minimal("w", np.arange(6).reshape(3, 2), 1)


def build(nodes=None, inputs=(PORT,), consts=None, outputs=("y",)) -> Graph:
    nodes = (Node("y", "matmul", ("x", "w"), {}, "dense"),) if nodes is None else nodes
    return Graph("net", inputs, {"w": KERNEL} if consts is None else consts, nodes, outputs)


def quantize(name="y", source="x", fixed=ONES, rounding="RND", overflow="SAT", **more) -> Node:
    return Node(name, "quantize", (source,), {"format": fixed, "rounding": rounding, "overflow": overflow, **more}, "layer")


def test_a_good_graph_passes():
    graph = build()
    assert spec.check(graph) is graph


def bad_const(mantissa, fixed) -> dict[str, Const]:
    return {"w": Const("w", mantissa, fixed)}


WIDE = Fixed(np.zeros((3, 2), int), np.full((3, 2), 54), np.zeros((3, 2), int))

CASES = {
    "no inputs": (build(inputs=()), "needs an input and an output"),
    "no outputs": (build(outputs=()), "needs an input and an output"),
    "bad name": (build(nodes=(Node("y; rm", "matmul", ("x", "w")),), outputs=("y; rm",)), "characters it must not have"),
    "newline in name": (build(nodes=(Node("y\n", "matmul", ("x", "w")),), outputs=("y\n",)), "characters it must not have"),
    "shared name": (build(nodes=(Node("x", "matmul", ("x", "w")),), outputs=("x",)), "Two values share a name"),
    "filed wrongly": (build(consts={"v": KERNEL}), "filed under another name"),
    "port format": (build(inputs=(Input("x", (4,), ONES),)), "does not have the shape of its value"),
    "port rounding": (build(inputs=(Input("x", (3,), ONES, "S_RND"),)), "cannot round stochastically"),
    "port rounding unknown": (build(inputs=(Input("x", (3,), ONES, "ROUND"),)), "Unknown rounding mode"),  # type: ignore[arg-type]
    "port overflow": (build(inputs=(Input("x", (3,), ONES, "RND", "SATURATE"),)), "Unknown overflow mode"),  # type: ignore[arg-type]
    "const dtype": (build(consts=bad_const(np.ones((3, 2)), KERNEL.format)), "must be int64"),
    "const format": (build(consts=bad_const(KERNEL.mantissa, KERNEL.format[0])), "does not have the shape"),
    "const too wide": (build(consts=bad_const(KERNEL.mantissa, WIDE)), "too wide"),
    "const does not fit": (build(consts=bad_const(KERNEL.mantissa + 100, KERNEL.format)), "does not fit its format"),
    "unknown op": (build(nodes=(Node("y", "softmax", ("x",)),)), "Unknown op"),
    "operands": (build(nodes=(Node("y", "matmul", ("x",)),)), "Wrong number of operands"),
    "attributes": (build(nodes=(Node("y", "relu", ("x",), {"slope": 1}),)), "Wrong attributes"),
    "missing attributes": (build(nodes=(Node("y", "reshape", ("x",)),)), "Wrong attributes"),
    "undefined": (build(nodes=(Node("y", "relu", ("z",)),)), "used before it is defined"),
    "order": (build(nodes=(Node("y", "relu", ("z",)), Node("z", "relu", ("x",)))), "used before it is defined"),
    "needs constant": (build(nodes=(Node("y", "matmul", ("x", "x")),)), "must be a constant"),
    "only constants": (build(nodes=(Node("y", "relu", ("w",)),)), "reads constants only"),
    "stochastic": (build(nodes=(quantize(rounding="S_RND"),)), "cannot round stochastically"),
    "quantize rounding": (build(nodes=(quantize(rounding="ROUND"),)), "Unknown rounding mode"),
    "quantize overflow": (build(nodes=(quantize(overflow="SATURATE"),)), "Unknown overflow mode"),
    "quantize format shape": (build(nodes=(quantize(fixed=Fixed(1, 2, 2)),)), "does not have the shape of its value"),
    "quantize format type": (build(nodes=(quantize(fixed=3),)), "must be a Fixed"),
    "shapes": (build(nodes=(Node("y", "matmul", ("x", "w")), Node("z", "matmul", ("y", "w"))), outputs=("z",)), "Shapes do not fit"),
    "reshape": (build(nodes=(Node("y", "reshape", ("x",), {"shape": (2, 2)}),)), "Shapes do not fit"),
    "output undefined": (build(outputs=("z",)), "An output is never defined"),
    "output constant": (build(outputs=("w",)), "An output is never defined"),
}


@pytest.mark.parametrize("case", CASES)
def test_violation(case):
    graph, message = CASES[case]
    with pytest.raises(ValueError, match=message) as caught:
        spec.check(graph)
    assert hasattr(caught.value, "exit_code"), "bad graphs raise HGQError, never a bare ValueError"


def test_the_error_names_node_op_and_layer():
    with pytest.raises(GraphError, match=r"node y \(matmul\), layer dense"):
        spec.check(build(nodes=(Node("y", "matmul", ("x",), {}, "dense"),)))

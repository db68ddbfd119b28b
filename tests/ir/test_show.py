from __future__ import annotations

import json

import numpy as np
import pytest

from hgq.ir import show
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Const, Node
from hgq.numerics import Fixed
from tests.ir.small import small_graph


def test_the_table_has_every_value_once(graph):
    rows = show.table(graph)
    assert [row["name"] for row in rows] == ["x", *(node.name for node in graph.nodes)]
    assert json.loads(json.dumps(rows)) == rows
    last = rows[-1]
    assert last["output"] and last["layer"] == "head" and last["constants"] == ["head/bias"]
    assert sum(row["output"] for row in rows) == 1


def test_the_table_counts(graph):
    rows = {row["name"]: row for row in show.table(graph)}
    kernel = graph.consts["dense/kernel"].mantissa
    assert rows["dense/matmul"]["constants_nonzero"] == np.count_nonzero(kernel)
    assert rows["dense/matmul"]["constants_total"] == kernel.size
    declared = graph.node("dense/iq").attrs["format"]
    assert rows["x"]["dead"] == int((graph.inputs[0].format.width == 0).sum()) == 2
    assert rows["dense/iq"]["bits"] == int(declared.width.sum())
    assert rows["dense/iq"]["bits_mean"] == pytest.approx(declared.width.mean(), abs=1e-3)
    assert rows["dense/iq"]["rounding"] == "RND" and rows["dense/relu"]["rounding"] is None
    assert rows["x"]["op"] == "input" and rows["x"]["overflow"] == "SAT"


def test_summaries():
    assert show.summary(Fixed([1, 1], [0, 3], [2, 6])) == "k 1  i 0..3  f 2..6"
    assert show.summary(Fixed([0, 1], [0, 3], [0, 6])) == "k 1  i 3  f 6", "dead elements do not count"
    assert show.summary(Fixed([0], [0], [0])) == "all dead"


def test_a_reshape_keeps_what_was_declared():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.ones((2, 3), int), np.full((2, 3), 4), np.full((2, 3), 1)), "RND", "SAT")
    x = b.op("relu", x)
    x = b.quantize(x, Fixed(1, 6, 2), "RND", "SAT")
    y = b.op("reshape", x, shape=(6,))
    graph = b.graph(y)
    assert (show.declared_format(graph, y.name).width == 9).all()
    assert (graph.formats()[y.name].width < 9).all()


def test_equal_graphs_do_not_differ(graph):
    assert show.diff(graph, small_graph()) == []
    assert show.diff(graph, graph.with_(meta={"other": 1})) == []


def changes(graph):
    bias = graph.consts["dense/bias"]
    wider = graph.node("dense/iq").attrs["format"]
    wider = Fixed(wider.k, wider.i + 1, wider.f)

    def node(name, **attrs):
        return tuple(Node(n.name, n.op, n.inputs, {**n.attrs, **attrs}, n.source) if n.name == name else n for n in graph.nodes)

    yield graph.with_(name="other"), "graph", "name"
    yield graph.with_(consts={**graph.consts, bias.name: Const(bias.name, bias.mantissa + 1, bias.format)}), "constant", "5 of 5 values"
    yield graph.with_(nodes=node("dense/iq", overflow="SAT")), "node", "overflow"
    yield graph.with_(nodes=node("dense/iq", format=wider)), "node", "format of 6 of 6 elements"
    yield graph.with_(nodes=graph.nodes[:-1], outputs=("head/matmul",)), "node", "only in one"
    yield graph.with_(outputs=("head/matmul",)), "output", "names"
    port = graph.inputs[0]
    yield graph.with_(inputs=(type(port)(port.name, port.shape, port.format, "TRN", port.overflow),)), "input", "rounding"


def test_each_difference_is_found(graph):
    for other, kind, what in changes(graph):
        for rows in (show.diff(graph, other), show.diff(other, graph)):
            assert any(row["kind"] == kind and row["what"].startswith(what) for row in rows), (kind, what, rows)
            assert json.loads(json.dumps(rows)) == rows


def test_another_order_is_a_difference():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.ones(2, int), np.full(2, 3), np.zeros(2, int)), "RND", "SAT")
    one, two = b.op("relu", x, name="one"), b.op("relu", x, name="two")
    graph = b.graph(b.op("add", one, two))
    swapped = graph.with_(nodes=(graph.nodes[1], graph.nodes[0], graph.nodes[2]))
    assert [row["what"] for row in show.diff(graph, swapped)] == ["order of definition"]

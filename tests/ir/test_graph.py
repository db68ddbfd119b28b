from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hgq.errors import GraphError
from hgq.ir.graph import Const, Graph, Node, graph_of, payload_of
from hgq.numerics import Fixed


def test_lookups(graph):
    assert graph.node("dense/matmul").op == "matmul"
    assert [node.name for node in graph.users("dense/matmul")] == ["dense/add"]
    assert graph.users("head/add") == ()
    assert graph.shapes()["dense/relu"] == (5,)
    with pytest.raises(GraphError, match=r"No node is called 'nope'.*\n.*\n.*dense/matmul"):
        graph.node("nope")


def test_the_digest_ignores_dict_order_and_meta(graph):
    turned = graph.with_(
        consts=dict(reversed(graph.consts.items())),
        nodes=tuple(Node(n.name, n.op, n.inputs, dict(reversed(n.attrs.items())), n.source) for n in graph.nodes),
        meta={"accuracy": 0.9},
    )
    assert list(turned.consts) != list(graph.consts)
    assert turned.digest() == graph.digest()


def changed_name(g: Graph) -> Graph:
    return g.with_(name="other")


def changed_mantissa(g: Graph) -> Graph:
    const = g.consts["dense/bias"]
    return g.with_(consts={**g.consts, const.name: Const(const.name, const.mantissa + 1, const.format)})


def changed_format(g: Graph) -> Graph:
    def wider(node):
        fixed = node.attrs["format"]
        return Node(node.name, node.op, node.inputs, {**node.attrs, "format": Fixed(fixed.k, fixed.i + 1, fixed.f)}, node.source)

    return g.with_(nodes=tuple(wider(n) if n.name == "head/iq" else n for n in g.nodes))


def changed_mode(g: Graph) -> Graph:
    return g.with_(
        nodes=tuple(Node(n.name, n.op, n.inputs, {**n.attrs, "overflow": "SAT"}, n.source) if n.name == "head/iq" else n for n in g.nodes)
    )


@pytest.mark.parametrize("change", [changed_name, changed_mantissa, changed_format, changed_mode])
def test_the_digest_sees_every_change_of_meaning(graph, change):
    assert change(graph).digest() != graph.digest()


def test_the_digest_is_the_same_in_another_process(graph):
    code = "from tests.ir.small import small_graph; print(small_graph().digest())"
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == graph.digest()


def test_the_payload_is_json_and_inverts(graph):
    payload, arrays = payload_of(graph)
    back = graph_of(json.loads(json.dumps(payload)), arrays, graph.meta)
    assert back.digest() == graph.digest()
    assert back.outputs == graph.outputs and back.meta == graph.meta


def test_minimal_constants_keep_their_values():
    rng = np.random.default_rng(0)
    mantissa = rng.integers(-64, 64, (7, 9))
    f = rng.integers(-3, 6, (7, 9))
    const = Const.minimal("c", mantissa, f)
    assert np.array_equal(const.value, mantissa * 2.0**-f)
    assert (const.mantissa[mantissa != 0] % 2 != 0).all()  # nothing left to cut off
    assert ((const.format.low <= const.mantissa) & (const.mantissa <= const.format.high)).all()
    assert (const.format.width[mantissa == 0] == 0).all()

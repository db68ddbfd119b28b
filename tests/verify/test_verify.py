"""Verification finds planted faults, names the node, and shrinks the input. The real backends are verified in tests/converters."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hgq import plugins
from hgq.errors import DataError, LoweringError, ToolNotFound
from hgq.ir import interpret
from hgq.ir.graph import Graph
from hgq.verify import corner_samples, verify
from hgq.verify.locate import minimal_input
from tests.random_graphs import random_graph, random_samples


class FakeBackend:
    """Simulates with the golden model, after `spoil` has changed the graph."""

    simulation = "a fake"

    def __init__(self, spoil=lambda graph: graph) -> None:
        self.spoil = spoil
        self.runs = 0

    def simulate(self, graph, options, x, workdir, simulator=None):
        self.runs += 1
        return interpret.run(self.spoil(graph), x)


@pytest.fixture
def graph() -> Graph:
    return random_graph(11, (5, 6, 4, 2), overflows=("SAT",), density=1.0)


@pytest.fixture
def use(monkeypatch):
    def install(backend):
        monkeypatch.setattr(plugins, "backend", lambda name: backend)
        return backend

    return install


def spoiled(node_op: str, name: str):
    """Add 1 LSB to every constant of a node, wherever the node still is in the graph."""

    def spoil(graph: Graph) -> Graph:
        for node in graph.nodes:
            if node.name == name and node.op == node_op:
                const = graph.consts[node.inputs[1]]
                wider = replace(const, mantissa=const.mantissa + 1, format=type(const.format)(1, 40, const.format.f))
                return graph.with_(consts={**graph.consts, const.name: wider})
        return graph

    return spoil


def test_an_exact_backend_passes(graph, use):
    use(FakeBackend())
    verdict = verify(graph, random_samples(graph, 300), backends=("fake",), corners=50)
    assert verdict.ok
    assert verdict.samples == 300
    assert verdict.corners > 50 + 4
    assert verdict.checks[0].samples == verdict.samples + verdict.corners
    assert json.loads(json.dumps(verdict.to_dict()))["ok"] is True


@pytest.mark.parametrize(("op", "name"), [("matmul", "dense_1/matmul"), ("add", "dense_0/add"), ("matmul", "dense_2/matmul")])
def test_a_wrong_node_is_named_with_a_minimal_input(graph, use, op, name):
    use(FakeBackend(spoiled(op, name)))
    verdict = verify(graph, random_samples(graph, 300), backends=("fake",))
    assert not verdict.ok
    found = verdict.checks[0].divergence
    assert found is not None
    assert found.node == name
    assert found.layer == name.split("/")[0]
    assert found.expected != found.received
    sample = {key: np.array([value]) for key, value in found.input.items()}
    wrong = interpret.run(spoiled(op, name)(graph), sample)
    assert any((wrong[key] != value).any() for key, value in interpret.run(graph, sample).items())


def test_a_minimal_input_has_no_element_that_could_be_zero(graph):
    spoil = spoiled("matmul", "dense_0/matmul")
    sample = {"x": np.full((1, 5), 3.0)}

    def simulate(data):
        return interpret.run(spoil(graph), data)

    small = minimal_input(graph, sample, simulate)
    for index in np.flatnonzero(small["x"]):
        less = small["x"].copy()
        less.flat[index] = 0.0
        golden, other = interpret.run(graph, {"x": less}), simulate({"x": less})
        assert all(np.array_equal(golden[key], other[key]) for key in golden)


def test_a_backend_that_refuses_a_part_of_the_graph_does_not_hide_its_mismatch(graph, use):
    class Picky(FakeBackend):
        def simulate(self, graph, options, x, workdir, simulator=None):
            if len(graph.nodes) < 6:
                raise LoweringError("Too short.")
            return super().simulate(graph, options, x, workdir, simulator)

    use(Picky(spoiled("matmul", "dense_0/matmul")))
    verdict = verify(graph, random_samples(graph, 100), backends=("fake",))
    assert not verdict.ok
    assert verdict.checks[0].divergence is not None
    assert verdict.checks[0].divergence.node == ""


def test_a_missing_tool_is_a_skipped_check(graph, use):
    class Absent:
        simulation = "absent"

        def simulate(self, *args, **kwargs):
            raise ToolNotFound("g++ is not installed.", fix="apt-get install g++")

    use(Absent())
    verdict = verify(graph, backends=("fake",))
    assert verdict.ok
    assert [check.fix for check in verdict.skipped] == ["apt-get install g++"]
    assert verdict.rows()[0]["result"] == "skipped: g++ is not installed."


def test_a_reference_that_differs_is_found(graph):
    class Wrong:
        def predict(self, graph, data):
            outputs = interpret.run(graph, data)
            return {name: np.where(np.arange(len(value))[:, None] == 7, value + 1, value) for name, value in outputs.items()}

        def first_divergent(self, graph, data):
            return "dense_1/matmul", "a note"

    verdict = verify(graph, random_samples(graph, 20), reference=Wrong(), backends=())
    assert verdict.checks[0].mismatches == 1
    assert verdict.checks[0].divergence is not None
    assert verdict.checks[0].divergence.note == "a note"


def test_bad_samples_are_refused_before_anything_is_compiled(graph, use):
    backend = use(FakeBackend())
    for x in (np.full((3, 5), np.nan), np.zeros((3, 4)), np.zeros((3, 5), dtype=object)):
        with pytest.raises(DataError):
            verify(graph, x, backends=("fake",))
    assert backend.runs == 0


def test_corner_samples_reach_every_end_and_go_beyond(graph):
    port = graph.inputs[0]
    data = corner_samples(graph, random=200)["x"]
    assert np.array_equal(data, data.astype(np.float32))
    low, high = port.format.value(port.format.low), port.format.value(port.format.high)
    lsb = np.exp2(-port.format.f)
    for element in range(port.shape[0]):
        seen = set(data[:, element].tolist())
        for value in (low, high, 0 * low):
            assert {float(value[element] + step * lsb[element]) for step in (-1, -0.5, 0, 0.5, 1)} <= seen

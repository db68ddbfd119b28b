"""The op `lookup` against a loop over its definition; what proves, checks, cuts and stores it."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.errors import GraphError
from hgq.ir import file, interpret
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.ir.integers import IntArray
from hgq.ir.ops import OPS
from hgq.numerics import Fixed
from hgq.passes import optimize
from tests.ir.proofs import checked_trace
from tests.random_graphs import LOOKUPS, random_lookup_graph, random_samples


def loop(mantissa, table, fixed):
    """One element after the other, with Python's integers."""
    tables = np.broadcast_to(table, (*fixed.shape, table.shape[-1]))
    y = np.zeros(mantissa.shape)
    for index in np.ndindex(mantissa.shape):
        at, m = index[1:], int(mantissa[index])
        width = max(int(fixed.k[at] + fixed.i[at] + fixed.f[at]), 0)
        y[index] = tables[at][m % 2**width]
    return y


@pytest.mark.parametrize("case", LOOKUPS)
def test_lookup_is_its_definition(case):
    rng = np.random.default_rng(0)
    shape, own = LOOKUPS[case]
    fixed = Fixed(rng.integers(0, 2, shape), rng.integers(-2, 4, shape), rng.integers(-2, 4, shape)).canonical()
    table = rng.integers(-99, 99, (*own, 2 ** int(fixed.width.max()))) / 8
    m = rng.integers(fixed.low, fixed.high, (50, *shape), endpoint=True)
    y = OPS["lookup"].function(IntArray.of_formats(m, np.broadcast_to(fixed.f, m.shape)), table, format=fixed)
    np.testing.assert_array_equal(y.reals(), loop(m, table, fixed))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("case", LOOKUPS)
def test_proven_formats_hold_every_value_and_passes_change_none(case, seed, tmp_path):
    graph = random_lookup_graph(case, seed)
    samples = random_samples(graph, 300, seed)
    checked_trace(graph, samples)
    path = file.save(graph, tmp_path / "model.hgq")
    assert file.load(path).digest() == graph.digest()


def test_only_entries_within_reach_count():
    """|x| <= 1 of a table over [-2, 2): what lies outside decides no format, and neither do entries between the multiples of 1/2."""
    b = GraphBuilder("reach")
    x = b.input("x", Fixed(1, [0], [1]), "RND", "SAT")
    wide = Fixed(1, [1], [2])
    table = np.full(16, 1000)
    table[[0, 2, 12, 14]] = [4, 6, -8, 2]  # 0, 1/2, -1, -1/2
    y = b.lookup(x, table, Fixed(1, 12, 0), wide)
    graph = b.graph(y)
    k, i, f = (int(part[0]) for part in graph.formats()[y.name].astuple())
    assert (k, i, f) == (1, 3, -1)
    assert interpret.run(graph, np.array([[0.0], [0.5], [-1], [-0.5]]))[y.name].ravel().tolist() == [4, 6, -8, 2]


def test_constant_elements_become_constants():
    b = GraphBuilder("constant")
    x = b.input("x", Fixed([1, 0], [1, 0], [0, 0]), "RND", "SAT")
    y = b.lookup(x, np.array([7, 5, 5, 5]), Fixed(1, 4, 1), Fixed([1, 0], [1, 0], [0, 0]))
    low = b.graph(y).formats()[y.name]
    assert low.f.tolist() == [1, 1]
    assert interpret.run(b.graph(y), np.array([[1.0, 9.0]]))[y.name].tolist() == [[2.5, 3.5]]


def small(table, fixed=None) -> Graph:
    b = GraphBuilder("small")
    x = b.input("x", Fixed(1, [1, 2], [1, 1]), "RND", "SAT")
    return b.graph(b.lookup(x, np.asarray(table), Fixed(1, 9, 0), fixed or Fixed(1, [1, 2], [1, 1])))


@pytest.mark.parametrize(
    ("table", "fixed", "message"),
    [
        (np.zeros(8), None, "16 entries on the last axis"),
        (np.zeros((3, 16)), None, "does not broadcast"),
        (np.zeros((1, 1, 16)), None, "does not broadcast"),
        (np.zeros(8), Fixed(1, [1, 1], [1, 1]), "may not lie in its format"),
        (np.zeros(16), Fixed(1, [1, 3], [0, 0]), "may not lie in its format"),
        (np.zeros(8), Fixed(0, [1, 2], [1, 1]), "may not lie in its format"),
    ],
)
def test_what_does_not_fit_is_refused(table, fixed, message):
    with pytest.raises(GraphError, match=message):
        small(table, fixed)


def test_unread_elements_are_read_from_nowhere():
    b = GraphBuilder("unread")
    x = b.input("x", Fixed(1, [1, 2], [1, 1]), "RND", "SAT")
    y = b.lookup(x, np.arange(16), Fixed(1, 9, 0), Fixed(1, [1, 2], [1, 1]))
    graph = optimize(b.graph(b.op("take", y, axis=0, indices=(1,))))
    assert graph.inputs[0].format.width.tolist() == [0, 4]

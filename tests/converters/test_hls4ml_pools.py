"""Pooling and reductions in hls4ml: what becomes what, and the C simulation."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hls4ml")

from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed
from tests.converters.test_hls4ml import assert_exact, kinds, needs_compiler, workdir  # noqa: F401
from tests.random_graphs import POOLS, REDUCTIONS


def many(ops: tuple[str, ...], cases: dict, seed: int) -> Graph:
    """Each op on each case of a table, all in one graph: compiling takes most of the time."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"many_{seed}")
    outputs = []
    for number, (name, (shape, given)) in enumerate(cases.items()):
        attrs = given if isinstance(given, dict) else {"axes": given}
        k = 0 if number % 3 == 0 else rng.integers(0, 2, shape)  # unsigned, and padded
        x = b.input(f"x_{name}", Fixed(k, rng.integers(1, 3, shape), rng.integers(0, 3, shape)), "RND", "SAT")
        for op in ops:
            y = b.op(op, x, **attrs)
            if op == "sum_pool":
                y = b.op("multiply", y, b.constant(np.array([1 + 2 * (number % 2)]), Fixed(0, 2, 3), "share"))
            outputs.append(b.quantize(y, Fixed(1, 3, np.full(y.shape, 3)), "RND", "SAT"))
    return b.graph(*outputs)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([(1, 1)], ["Conv1D"]),
        ([(5, 4)], ["Conv1D", "BatchNormalization"]),
        ([(1, 1), (5, 4)], ["Conv1D", "BatchNormalization", "BatchNormalization"]),
    ],
)
def test_a_shift_becomes_the_weights_of_a_sum(shares, expected):
    b = GraphBuilder("mean")
    y = b.op("sum_pool", b.input("x", Fixed(1, 2, np.zeros((4, 2))), "RND", "SAT"), pool=(2,), strides=(2,), padding=((0, 0),))
    means = [b.op("multiply", y, b.constant(np.array([m]), Fixed(0, 4 - f, f), "share")) for m, f in shares]
    assert kinds(b.graph(*means)) == ["InputLayer", *expected]


@needs_compiler
@pytest.mark.slow
def test_csim_pooling(workdir):  # noqa: F811
    assert_exact(many(("max_pool", "sum_pool"), POOLS, 1), workdir, 500)


@needs_compiler
@pytest.mark.slow
def test_csim_reductions(workdir):  # noqa: F811
    assert_exact(many(("reduce_sum", "reduce_max", "reduce_min"), REDUCTIONS, 2), workdir, 500)

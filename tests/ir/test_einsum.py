"""The op `einsum` against NumPy's, on integers, ranges and alkaid's symbols; every pass on graphs with it; what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from hgq import plugins
from hgq.errors import GraphError
from hgq.estimate.ebops import ebops_by_node
from hgq.estimate.resources import LUT_PER_DSP, dsp_candidates
from hgq.ir import contraction, file, interpret, spec
from hgq.ir.exactness import beyond_float32
from hgq.ir.integers import IntArray
from hgq.ir.ops import OPS
from hgq.numerics import Fixed
from tests.ir.proofs import checked_trace
from tests.random_graphs import EINSUMS, random_einsum_graph, random_samples

BOTH = pytest.mark.parametrize("constant", [True, False])


@pytest.mark.parametrize("case", EINSUMS)
def test_einsum_is_numpys(case):
    rng = np.random.default_rng(0)
    equation, one, two = EINSUMS[case]
    x, w, y = rng.integers(-99, 99, (3, *one)), rng.integers(-9, 9, two), rng.integers(-9, 9, (3, *two))
    operands, out = equation.split("->")
    first, second = operands.split(",")
    got = OPS["einsum"].function(IntArray(x, 2), w.astype(float) / 8, equation=equation)
    np.testing.assert_array_equal(got.mantissa * 2.0**-got.f, np.einsum(f"Z{first},{second}->Z{out}", x, w) / 32)
    got = OPS["einsum"].function(IntArray(x, 2), IntArray(y, 1), equation=equation)
    np.testing.assert_array_equal(got.mantissa * 2.0**-got.f, np.einsum(f"Z{first},Z{second}->Z{out}", x, y) / 8)


@BOTH
@pytest.mark.parametrize("case", EINSUMS)
def test_proven_formats_passes_and_rtl(case, constant):
    for seed in range(2):
        graph = random_einsum_graph(case, seed, constant)
        samples = random_samples(graph, 200, seed)
        trace = checked_trace(graph, samples)
        for name, value in plugins.backend("rtl").comb_predict(graph, samples).items():
            np.testing.assert_array_equal(value, trace[name])


@BOTH
@pytest.mark.parametrize("case", EINSUMS)
def test_cost_by_brute_force(case, constant):
    graph = random_einsum_graph(case, 1, constant)
    node = next(node for node in graph.nodes if node.op == "einsum")
    parts = contraction.read(node.attrs["equation"])
    const = graph.consts.get(node.inputs[1])
    bits = [port.format.width for port in graph.inputs]
    if const is not None:
        bits.append(Fixed.minimal(const.mantissa, const.format.f).width)
    letters = sorted(set(parts.x + parts.y))
    sizes = parts.sizes(bits[0].shape, bits[1].shape)
    ebops = large = 0
    for index in np.ndindex(*(sizes[c] for c in letters)):
        at = dict(zip(letters, index, strict=True))
        a, b = bits[0][tuple(at[c] for c in parts.x)], bits[1][tuple(at[c] for c in parts.y)]
        ebops += a * b
        large += a * b >= LUT_PER_DSP and not (constant and b == 1)
    assert ebops_by_node(graph)[node.name] == ebops
    assert ebops > 0 or case == "dot"
    assert dsp_candidates(graph)[node.name] == large


@BOTH
def test_a_graph_with_einsum_is_saved_as_it_is(tmp_path, constant):
    graph = random_einsum_graph("heads", 0, constant)
    assert file.load(file.save(graph, tmp_path / "einsum.hgq")).digest() == graph.digest()


def test_large_graphs_take_fewer_samples_at_a_time():
    graph = random_einsum_graph("heads", 0, constant=False)
    assert interpret._chunk(graph) == interpret.CHUNK
    limit = interpret.ELEMENTS
    try:
        interpret.ELEMENTS = 2 * 2 * 2 * 3 * 3 * 10
        assert interpret._chunk(graph) < 10
    finally:
        interpret.ELEMENTS = limit


def test_sums_beyond_float32_are_told():
    from hgq.ir.build import GraphBuilder

    b = GraphBuilder("wide")
    x, y = (b.input(name, Fixed(1, np.full(4, bits), 0), "RND", "SAT") for name, bits in (("x", 12), ("y", 12)))
    (problem,) = beyond_float32(b.graph(b.op("reshape", b.op("einsum", x, y, equation="a,a->"), shape=(1,))))
    assert "sums may need 26 bits" in problem


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ab->a", "no equation of two operands"),
        ("ab,bc", "no equation of two operands"),
        ("aab,bc->ac", "names an axis twice"),
        ("ab,bc->ad", "that no operand has"),
        ("ab,cd->ac", "sums over b, d of one operand alone"),
        ("...b,bc->...c", "no equation of two operands"),
    ],
)
def test_equations_that_are_none(equation, message):
    with pytest.raises(ValueError, match=message):
        contraction.read(equation)


def test_shapes_that_do_not_fit():
    graph = random_einsum_graph("dense", 0)
    node = next(node for node in graph.nodes if node.op == "einsum")
    from dataclasses import replace

    for equation in ("ab,cb->ac", "abc,bc->ac"):
        bad = tuple(replace(n, attrs={"equation": equation}) if n is node else n for n in graph.nodes)
        with pytest.raises(GraphError, match="Shapes do not fit together"):
            spec.check(graph.with_(nodes=bad))


@pytest.mark.parametrize(
    ("equation", "ranks", "expected"),
    [
        ("...x,xy->...y", (3, 2), "abx,xy->aby"),
        (" ab..., bc -> ac... ", (4, 2), "abde,bc->acde"),
        ("abc,cd->abd", (3, 2), "abc,cd->abd"),
        ("...a,...a->...", (2, 2), "ba,ba->b"),
    ],
)
def test_an_ellipsis_is_spelled_out(equation, ranks, expected):
    assert contraction.spelled_out(equation, *ranks) == expected


@pytest.mark.parametrize(("equation", "ranks"), [("...x,xy->...y", (0, 2)), ("abc,cd->abd", (4, 2)), ("ab,bc->...c", (2, 2))])
def test_an_ellipsis_that_fits_nothing(equation, ranks):
    with pytest.raises(ValueError, match="fit|ellipsis"):
        contraction.spelled_out(equation, *ranks)

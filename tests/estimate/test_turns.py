"""The parallelisation factor in the estimate: fewer copies, a longer interval and latency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hgq.errors import GraphError
from hgq.estimate import estimate
from hgq.estimate.ebops import ebops_by_node
from hgq.estimate.resources import dsp_candidates, turns
from hgq.ir import interpret, spec
from hgq.ir.graph import Graph
from tests.random_graphs import random_conv_graph, random_einsum_graph, random_samples


def in_turns(graph: Graph, parallel: int, *ops: str) -> Graph:
    nodes = (replace(n, attrs={**n.attrs, "parallel": parallel}) if n.op in ops else n for n in graph.nodes)
    return spec.check(graph.with_(nodes=tuple(nodes)))


def test_a_factor_changes_cost_and_time_but_no_value():
    graph = random_conv_graph("2d", 0)  # 4 * 5 windows
    serial = in_turns(graph, 4, "conv", "matmul")
    samples = random_samples(graph, 50)
    for name, value in interpret.run(graph, samples).items():
        np.testing.assert_array_equal(interpret.run(serial, samples)[name], value)
    assert set(turns(serial).values()) == {5} and not turns(graph)
    all_, some = (ebops_by_node(g) for g in (graph, serial))
    assert all(some[node.name] < all_[node.name] for node in graph.nodes if node.op in ("conv", "matmul"))
    assert all(dsp_candidates(serial)[name] <= count for name, count in dsp_candidates(graph).items())
    for strategy in ("latency", "distributed_arithmetic"):
        estimates = [estimate(g, "xcvu13p-flga2577-2-e", 5.0, "hls4ml", {"strategy": strategy}) for g in (graph, serial)]
        assert estimates[1].counts.lut.value < estimates[0].counts.lut.value
        times = [one.timing for one in estimates]
        assert [time.interval.value for time in times] == [1, 5]
        assert times[1].cycles.low > times[0].cycles.low


def test_all_positions_in_one_turn_cost_what_no_factor_costs():
    graph = random_conv_graph("2d", 0)
    assert ebops_by_node(in_turns(graph, 20, "conv", "matmul")) == ebops_by_node(graph)
    graph = random_einsum_graph("heads", 1)
    assert ebops_by_node(in_turns(graph, 2, "einsum")) == ebops_by_node(graph)


def test_einsum_in_turns_by_brute_force():
    graph = in_turns(random_einsum_graph("heads", 1), 1, "einsum")  # qhc,khc->hqk in turns over q
    bits_x = graph.inputs[0].format.width.max(axis=0)
    const = graph.consts["einsum/kernel"] if "einsum/kernel" in graph.consts else graph.consts["kernel"]
    from hgq.numerics import Fixed

    bits_w = Fixed.minimal(const.mantissa, const.format.f).width
    node = next(node for node in graph.nodes if node.op == "einsum")
    assert ebops_by_node(graph)[node.name] == sum(bits_x[h, c] * bits_w[k, h, c] for k, h, c in np.ndindex(*bits_w.shape))


def test_positions_that_do_not_fall_into_turns():
    with pytest.raises(GraphError, match="20 positions cannot be computed 3 at a time"):
        in_turns(random_conv_graph("2d", 0), 3, "conv")
    with pytest.raises(GraphError, match="2 positions cannot be computed 3 at a time"):
        in_turns(random_einsum_graph("heads", 1), 3, "einsum")


def test_rtl_warns_that_it_computes_all_at_once(caplog):
    from hgq import plugins

    graph = in_turns(random_conv_graph("1d", 0), 1, "conv")
    samples = random_samples(graph, 50)
    got = plugins.backend("rtl").comb_predict(graph, samples)
    assert "parallelization_factor of conv is without effect" in caplog.text
    for name, value in interpret.run(graph, samples).items():
        np.testing.assert_array_equal(got[name], value)

"""hls4ml's resource strategy: products that take turns on shared multipliers, by the structure of its C++.

A layer of n weights with reuse factor r has n/r multipliers. Each holds r weights in a memory of r words and adds its products up; a new
sample is taken every r cycles. Constants are data here, so zeros and signed digits save nothing: what counts is the widest weight and
the widest value. The latency strategy with a reuse factor above 1 is taken to be the same: HLS is told how many multipliers there are.
No open tool synthesises the C++ and no published design has both these figures and ours: ranges are wide, no fit is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil, log2, prod

from hgq.errors import ConfigError
from hgq.estimate import resources
from hgq.estimate.ebops import constant_bits, ebops_by_node
from hgq.estimate.interval import Interval, total
from hgq.estimate.kernels import Kernel, kernels
from hgq.estimate.resources import HLS_FF_PER_LUT_EQUIVALENT, LUT_PER_DSP, NONE, Counts, dsp_candidates, hls_latency
from hgq.ir.graph import Graph
from hgq.ir.ops import PARALLEL
from hgq.ir.show import declared_format

SHARED = ("resource", "resource_unrolled")
UNROLLED = ("latency", *SHARED)
DSP_WIDTHS = (26, 17)
"""Signed widths that one DSP48 multiplies, less the sign that narrower unsigned data needs."""
LUT_PER_PRODUCT_BIT = Interval(0.60, 1.00, 1.50)
"""Of a multiplier in LUTs, for each bit of one operand times the other: as with the latency strategy."""
SUM_LUT_PER_BIT = Interval(0.5, 1.0, 2.0)
"""Of the adder behind each multiplier and of the multiplexers before it: a judgement."""
FF_PER_BIT = Interval(0.5, 1.5, 3.0)
"""Registers for each bit of product, of running sum and of the layer's input and output: a judgement."""
OVERHEAD_CYCLES = Interval(2, 4, 10)
"""Cycles of a layer besides its turns and the depth of its sums: a judgement."""
EXTRA_INTERVAL = Interval(0, 0, 6)
"""Cycles by which the interval may exceed the reuse factor, where loops are not flattened: a judgement."""
RAM_DEPTH, RAM_WIDTH = 512, 36
"""Of a block of 18 Kb."""
SHALLOW_RAM = 16
"""Weights of fewer turns than this are in LUTs; up to `DEEP_RAM` either may be."""
DEEP_RAM = 128


@dataclass(frozen=True)
class LayerHLS:
    """One layer: what it takes, its cycles, and the cycles between two samples."""

    counts: Counts
    cycles: Interval
    interval: Interval


def strategies(graph: Graph, options: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Strategy and reuse factor of each layer with products, from ``strategy``, ``reuse_factor`` and ``…:LAYER``.

    Raises:
        ConfigError: a reuse factor that is no positive whole number.
    """

    def chosen(key: str, layer: str, default: str) -> str:
        found = options.get(key, default)
        for name, value in options.items():
            stem, colon, pattern = name.partition(":")
            if colon and stem == key and fnmatchcase(layer, pattern):
                found = value
        return found.lower()

    rows = {}
    for layer in dict.fromkeys(kernel.node.source for kernel in kernels(graph)):
        strategy, reuse = chosen("strategy", layer, "latency"), chosen("reuse_factor", layer, "1")
        if not reuse.isdecimal() or int(reuse) < 1:
            raise ConfigError(
                "This is no reuse factor.", where=f"layer {layer}", expected="a whole number, 1 or more", received=repr(reuse)
            )
        rows[layer] = ({"da": "distributed_arithmetic"}.get(strategy, strategy), int(reuse))
    return rows


def takes_turns(chosen: Mapping[str, tuple[str, int]]) -> bool:
    """Whether any layer shares its multipliers."""
    return any(strategy in SHARED or reuse > 1 for strategy, reuse in chosen.values())


def by_layer(graph: Graph, chosen: Mapping[str, tuple[str, int]]) -> dict[str, LayerHLS]:
    """Every layer of a graph, those without products as with the latency strategy.

    Args:
        graph: A frozen model.
        chosen: Of `strategies`: ``latency``, ``resource`` or ``resource_unrolled``.
    """
    ebops, candidates = ebops_by_node(graph), dsp_candidates(graph)
    shared = {kernel.node.name: kernel for kernel in kernels(graph) if _is_shared(kernel, chosen)}
    found = {}
    for layer in dict.fromkeys(node.source for node in graph.nodes):
        nodes = [node for node in graph.nodes if node.source == layer]
        reuse = chosen.get(layer, ("latency", 1))[1]
        parts = [_shared(graph, shared[node.name], reuse) for node in nodes if node.name in shared]
        rest = [node.name for node in nodes if node.name not in shared]
        other = hls_latency(sum(ebops[name] for name in rest), sum(candidates[name] for name in rest))
        counts = resources.summed([other, *(part.counts for part in parts)])
        cycles = total(part.cycles for part in parts) if parts else Interval(0, 1, 3)
        longest = max((part.interval for part in parts), key=lambda part: part.value, default=Interval.exact(1))
        found[layer] = LayerHLS(counts, cycles, longest)
    return found


def _is_shared(kernel: Kernel, chosen: Mapping[str, tuple[str, int]]) -> bool:
    strategy, reuse = chosen.get(kernel.node.source, ("latency", 1))
    return kernel.node.op != "multiply" and (strategy in SHARED or reuse > 1)


def _shared(graph: Graph, kernel: Kernel, reuse: int) -> LayerHLS:
    """One product with a kernel; positions that are computed at the same time have multipliers of their own, others take turns."""
    shape = kernel.const.mantissa.shape
    weights, outputs = prod(shape), prod(kernel.outputs)
    inputs = weights // outputs
    reuse = _possible(weights, reuse)
    positions = prod(graph.shapes()[kernel.node.name]) // outputs
    copies = kernel.node.attrs.get(PARALLEL) or positions
    turns = ceil(positions / copies)
    data = next(name for name in kernel.node.inputs if name != kernel.const.name)
    wide_x, wide_w = int(declared_format(graph, data).width.max(initial=0)), int(constant_bits(kernel.const).max(initial=0))
    multipliers = copies * weights // reuse
    product, running = wide_x + wide_w, wide_x + wide_w + ceil(log2(max(inputs, 1)))
    if not wide_x or not wide_w:
        return LayerHLS(Counts(NONE, NONE, NONE, NONE), Interval.exact(0), Interval.exact(1))
    if wide_x * wide_w >= LUT_PER_DSP:
        each = ceil(max(wide_x, wide_w) / DSP_WIDTHS[0]) * ceil(min(wide_x, wide_w) / DSP_WIDTHS[1])
        narrow = min(wide_x, wide_w) <= 10  # HLS may still prefer LUTs for these
        dsp = Interval(0 if narrow else multipliers * each, multipliers * each, multipliers * each)
        products = Interval(0, 0, multipliers * wide_x * wide_w * LUT_PER_PRODUCT_BIT.high if narrow else 0)
    else:
        dsp, products = NONE, LUT_PER_PRODUCT_BIT * (multipliers * wide_x * wide_w)
    lut = products + SUM_LUT_PER_BIT * (multipliers * running)
    bits = multipliers * product + copies * outputs * running + copies * inputs * wide_x
    ff = FF_PER_BIT * bits + HLS_FF_PER_LUT_EQUIVALENT * products.value
    blocks = ceil(weights // reuse * wide_w / RAM_WIDTH) * ceil(reuse / RAM_DEPTH)
    in_luts = weights * wide_w / 64  # of six inputs each
    if reuse < SHALLOW_RAM:
        bram, lut = NONE, lut + Interval(0, in_luts, 2 * in_luts)
    else:
        bram = Interval(0 if reuse < DEEP_RAM else blocks, blocks, blocks)
        lut = lut + Interval(0, 0, in_luts if reuse < DEEP_RAM else 0)
    depth = ceil(log2(max(inputs, 2)) / 2)  # two levels of additions fit a cycle of some ns
    cycles = OVERHEAD_CYCLES + Interval.exact(turns * reuse + depth)
    counts = Counts(lut.rounded(), ff.rounded(), dsp.rounded(), bram)
    return LayerHLS(counts, cycles, EXTRA_INTERVAL + Interval.exact(turns * reuse))


def _possible(weights: int, reuse: int) -> int:
    """The divisor of the number of weights that is nearest: hls4ml takes no other."""
    divisors = [n for n in range(1, int(weights**0.5) + 1) if weights % n == 0]
    return min({*divisors, *(weights // n for n in divisors)}, key=lambda n: (abs(n - reuse), n))

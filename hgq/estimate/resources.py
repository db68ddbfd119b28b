"""From counts to LUTs, flip-flops, DSPs and block RAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from hgq.estimate.devices import Device
from hgq.estimate.ebops import constant_bits, ebops_by_node, operands
from hgq.estimate.interval import Interval, total
from hgq.estimate.structure import Structure
from hgq.ir.contraction import read
from hgq.ir.graph import Graph, Node
from hgq.ir.ops import PARALLEL
from hgq.ir.show import declared_format
from hgq.numerics import Ints
from hgq.resources.ebops import contraction_copies, copies, tap_products

LUT_PER_DSP = 55
"""What one DSP saves: hls4ml designs of HGQ models follow EBOPs = LUT + 55 DSP "roughly" (HGQ, arXiv:2405.00645)."""

HLS_LUT_PER_EBOP = Interval(0.60, 1.00, 1.50)
"""LUT + 55 DSP for each EBOP with hls4ml's latency strategy. Only "roughly equal" is published; no design with both numbers is. The low
end is that of adder graphs (0.66 to 1.07 of EBOPs on 28 designs), the high end a judgement."""

HLS_FF_PER_LUT_EQUIVALENT = Interval(0.15, 0.25, 0.30)
"""Flip-flops over LUT + 55 DSP: range and median of the eight HGQ rows of `reference/published.md`, jets on a VU9P at 5 ns."""

DA_LUT_SPREAD = Interval(0.85, 1.00, 1.25)
"""hls4ml's distributed arithmetic shares additions within each layer only, and HLS adds its own registers and control: a judgement."""

DA_FF_PER_LUT = Interval(0.20, 0.53, 1.00)
"""Median of 20 post-route JEDI-linear designs at 2 ns (0.46 to 0.58); slower clocks need fewer, 1.7 ns designs needed 1.0."""


@dataclass(frozen=True)
class Counts:
    """What a layer or a whole model occupies.

    Args:
        lut: Look-up tables.
        ff: Flip-flops; None where nobody knows how they are shared between layers.
        dsp: Multiplier blocks.
        bram: Block RAMs of 18 Kb.
    """

    lut: Interval
    ff: Interval | None
    dsp: Interval
    bram: Interval


NONE = Interval.exact(0)

OUR_ADDER = Interval(0.85, 0.90, 1.00)
"""LUTs of the RTL with our adder over those with alkaid's, which the families' scales are of: 0.89, 0.90 and 0.94 on three trained jet
taggers (Yosys, xc7 and xcup)."""

ALIKE_LUT = Interval(0.92, 1.00, 1.01)
ALIKE_FF = Interval(0.75, 0.95, 1.00)
"""What is counted bit by bit over what is counted by positions that are alike: 24 small convolutions, `tests/converters/test_alike.py`."""

SHORT_STAGE = 2.0
"""Stages of fewer additions than this delay many values by several cycles, and synthesis makes shift registers of LUTs out of that."""


def adder_graph(structure: Structure, device: Device) -> Counts:
    """Fully unrolled additions, shifts and tables, as the rtl backend writes them: block RAM for large tables next to registers only, DSPs
    for products of two values only.

    By the fits to synthesis where the family has them and the backend counts what they need; else by the scale of the family.
    """
    family = device.family
    if structure.counts and {"lut", "ff"} <= family.fits.keys():
        lut, ff = (family.fits[name].interval(structure.counts) for name in ("lut", "ff"))
        dsp, bram = (family.fits[name].interval(structure.counts).rounded() if name in family.fits else NONE for name in ("dsp", "bram"))
        if structure.alike:
            error = structure.alike["error"]
            lut, ff = (part * Interval(1 - error, 1, 1 + error) for part in (lut * ALIKE_LUT, ff * ALIKE_FF))
        return Counts(lut.rounded(), ff.rounded() if structure.register_bits else NONE, dsp, bram)
    lut = family.lut_per_cost * (OUR_ADDER if structure.counts else 1.0) * structure.cost  # only our RTL says its counts
    shifts = family.srl_per_bit * structure.register_bits if structure.stage_depth < SHORT_STAGE else 0.0
    ff = family.ff_per_bit * float(structure.register_bits)
    return Counts((lut + Interval(0, 0, shifts)).rounded(), ff.rounded(), NONE, NONE)


def adder_graph_layers(structure: Structure, device: Device) -> dict[str, Counts]:
    """The LUTs of the whole, shared out by cost; nobody knows whose the registers are."""
    whole = adder_graph(structure, device).lut
    total_cost = sum(structure.cost_of.values())
    return {
        layer: Counts((whole * (cost / total_cost if total_cost else 0.0)).rounded(), None, NONE, NONE)
        for layer, cost in structure.cost_of.items()
    }


def hls_distributed_arithmetic(cost: float, device: Device) -> Counts:
    """The same additions inside hls4ml's C++."""
    lut = device.family.lut_per_cost * DA_LUT_SPREAD * cost
    return Counts(lut.rounded(), (lut * DA_FF_PER_LUT).rounded(), NONE, NONE)


def hls_latency(ebops: float, candidates: int) -> Counts:
    """hls4ml's latency strategy: every product unrolled, HLS chooses between LUTs and DSPs.

    Args:
        ebops: Effective bit operations.
        candidates: Products large enough for a DSP; see `dsp_candidates`.
    """
    equivalent = HLS_LUT_PER_EBOP * float(ebops)
    dsp = Interval(0, round(candidates / 2), candidates)
    lut = Interval(max(equivalent.low - LUT_PER_DSP * dsp.high, 0), max(equivalent.value - LUT_PER_DSP * dsp.value, 0), equivalent.high)
    return Counts(lut.rounded(), (equivalent * HLS_FF_PER_LUT_EQUIVALENT).rounded(), dsp, NONE)


def dsp_candidates(graph: Graph) -> dict[str, int]:
    """For each node, how many of its products cost more EBOPs than a DSP saves, while the constant is no power of two."""
    return {node.name: _candidates(graph, node) for node in graph.nodes}


def _candidates(graph: Graph, node: Node) -> int:
    if node.op == "product":
        bits = [declared_format(graph, name).width for name in node.inputs]
        return int(np.count_nonzero(bits[0] * bits[1] >= LUT_PER_DSP))
    if node.op == "einsum":
        return _large_contractions(graph, node)
    pair = operands(graph, node)
    if pair is None or node.op not in ("matmul", "conv", "multiply"):
        return 0
    data, const = pair
    bits_x, bits_c = declared_format(graph, data).width, constant_bits(const)
    bits_c = np.where(bits_c <= 1, 0, bits_c)  # one effective bit is a power of two, of either sign: a shift
    if node.op == "multiply":
        return int(np.count_nonzero(bits_x * bits_c >= LUT_PER_DSP))
    if node.op == "conv":
        return sum(_large_products(x, c) for x, c in tap_products(bits_x, bits_c, **node.attrs))
    return _large_products(copies(bits_x, node.attrs.get(PARALLEL)), bits_c)


def _large_contractions(graph: Graph, node: Node) -> int:
    """By the distinct widths too: for each width of the second operand, the products that are large enough with the first."""
    x, y = (constant_bits(graph.consts[name]) if name in graph.consts else declared_format(graph, name).width for name in node.inputs)
    if node.inputs[1] in graph.consts:
        y = np.where(y <= 1, 0, y)
    parts = read(node.attrs["equation"])
    sizes = parts.sizes(x.shape, y.shape)
    x = contraction_copies(x, parts.x, (parts.kept, parts.free_x, parts.contracted), sizes, node.attrs.get(PARALLEL))
    y = contraction_copies(y, parts.y, (parts.kept, parts.free_y, parts.contracted), sizes, None)
    found = 0
    for width in np.unique(y[y > 0]):
        large, here = (x * width >= LUT_PER_DSP).astype(np.int64), (y == width).astype(np.int64)
        found += int(np.einsum("ipc,igc->", large, here))
    return found


def turns(graph: Graph) -> dict[str, int]:
    """For each node with a parallelisation factor, how many turns its positions take: the cycles between two samples in hls4ml."""
    found = {}
    for node in graph.nodes:
        if node.attrs.get(PARALLEL) is not None:
            shape, positions = graph.shapes()[node.name], 1
            if node.op == "einsum":
                parts = read(node.attrs["equation"])
                positions = prod(size for letter, size in zip(parts.out, shape, strict=True) if letter in parts.free_x)
            else:
                positions = prod(shape[:-1])
            found[node.name] = positions // node.attrs[PARALLEL]
    return found


def by_layer_turns(graph: Graph) -> dict[str, int]:
    """`turns` by Keras layer path."""
    found = turns(graph)
    return {node.source: found[node.name] for node in graph.nodes if node.name in found}


def _large_products(bits_x: Ints, bits_c: Ints) -> int:
    """Pairs by the distinct widths, which are few, rather than by position."""
    x, counts = np.unique(bits_x.reshape(-1, bits_x.shape[-1]), axis=0, return_counts=True)
    return int(sum(n * np.count_nonzero(row[:, None] * bits_c >= LUT_PER_DSP) for row, n in zip(x, counts, strict=True)))


def summed(parts: list[Counts]) -> Counts:
    """Totals; flip-flops are None as soon as one part's are."""
    ff = None if any(part.ff is None for part in parts) else total(part.ff for part in parts if part.ff is not None)
    return Counts(total(p.lut for p in parts), ff, total(p.dsp for p in parts), total(p.bram for p in parts))


def by_layer(graph: Graph, values: Mapping[str, Any]) -> dict[str, Any]:
    """Sum node values over their Keras layer paths, in order of definition."""
    sums: dict[str, Any] = {}
    for node in graph.nodes:
        sums[node.source] = sums.get(node.source, 0) + values[node.name]
    return sums


def layer_ebops(graph: Graph) -> dict[str, float]:
    """EBOPs of each Keras layer path."""
    return by_layer(graph, ebops_by_node(graph))


def layer_counts(graph: Graph, structure: Structure | None, device: Device, strategy: str) -> dict[str, Counts]:
    """Counts of each Keras layer path; empty where the backend does not attribute its cost."""
    layers = layer_ebops(graph)
    if strategy == "latency":
        candidates = by_layer(graph, dsp_candidates(graph))
        return {layer: hls_latency(ebops, candidates[layer]) for layer, ebops in layers.items()}
    if structure is None or not structure.cost_of:
        return {}
    if strategy == "distributed_arithmetic":
        return {layer: hls_distributed_arithmetic(cost, device) for layer, cost in structure.cost_of.items()}
    return adder_graph_layers(structure, device)

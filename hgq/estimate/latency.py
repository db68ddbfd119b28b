"""Cycles, the clock period that can be reached, and nanoseconds. Never cycles times the clock that was merely asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hgq.estimate.devices import Device
from hgq.estimate.interval import Interval
from hgq.estimate.structure import Structure

HLS_UNCERTAINTY = 0.27
"""Share of the clock period that Vitis HLS keeps back for routing, by default."""

HLS_DELAY_NS = (7.15, -31.9)
"""``a ln(EBOPs) + b`` ns from input to output with hls4ml's latency strategy: least squares through cycles x 5 ns of the eight HGQ rows of
`reference/published.md` (jets, four dense layers, 256 to 8,106 LUT + 55 DSP)."""
HLS_DELAY_SPREAD = Interval(0.75, 1.00, 1.30)
"""Extremes of that fit's residuals."""
HLS_DELAY_FLOOR_NS = 5.0
DA_SPREAD = Interval(0.60, 1.00, 1.50)
"""A judgement: HLS schedules the additions anew, with its own delay table."""


@dataclass(frozen=True)
class Latency:
    """Timing of a design.

    Args:
        cycles: From input to output.
        interval: Cycles between two samples.
        period_ns: Shortest clock period that place and route is likely to reach.
        ns: From input to output, at the clock asked for or, where that cannot be reached, at the one that can.
        meets: ``yes``, ``likely``, ``unlikely`` or ``no``: whether the clock asked for is reached.
    """

    cycles: Interval
    interval: Interval
    period_ns: Interval
    ns: Interval
    meets: str


def period(device: Device, stage_depth: float, lut: float, carry_depth: float | None = None) -> Interval:
    """Shortest clock period of a stage of `stage_depth` additions in a design of `lut` LUTs, in ns.

    By the carry cells on its longest path, `carry_depth`, where that is known and the family has coefficients for it.
    """
    family = device.family
    if carry_depth is not None and family.carry_period_ns is not None:
        base, cell, addition = family.carry_period_ns
        reached = max(base + cell * carry_depth + addition * max(stage_depth, 0.0), family.period_floor_ns) * device.period_factor
        found = family.carry_period_spread * reached
        return Interval(max(found.low, family.period_floor_ns * device.period_factor), found.value, found.high)
    crowded = family.period_per_unit_ns + family.crowding_ns * math.log(max(lut, 1.0) / 1000)
    unit = max(crowded, family.period_per_unit_ns / 2)
    needs = [family.period_floor_ns, family.period_base_ns + unit * max(stage_depth, 0.0)]
    if family.congestion is not None:
        slope, offset = family.congestion
        needs.append(slope * math.log(max(lut, 1.0)) + offset)
    spread = family.period_spread * (max(needs) * device.period_factor)
    return Interval(max(spread.low, family.period_floor_ns * device.period_factor), spread.value, spread.high)


def of_pipeline(structure: Structure, device: Device, lut: Interval, clock_ns: float) -> Latency:
    """Timing of an adder graph with known registers: cycles are exact, or one off where positions stand for others."""
    carry_depth = None if structure.counts.get("dsp") else structure.carry_depth  # which says nothing of multiplier blocks
    reached = period(device, structure.stage_depth, lut.value, carry_depth)
    if structure.cycles == 0:  # combinational: the delay is the latency, whatever the clock
        return Latency(Interval.exact(0), Interval.exact(structure.interval), reached, reached, _meets(reached, clock_ns))
    off = 1 if structure.alike else 0
    cycles = Interval(structure.cycles - off, structure.cycles, structure.cycles + off)
    return _timed(cycles, Interval.exact(structure.interval), reached, clock_ns)


def of_hls_latency(ebops: float, device: Device, lut: Interval, clock_ns: float, turns: Sequence[int] = ()) -> Latency:
    """hls4ml's latency strategy, from published cycles; II is 1 because everything is unrolled, save where positions take `turns`."""
    slope, offset = HLS_DELAY_NS
    delay = HLS_DELAY_SPREAD * max(slope * math.log(max(ebops, 1)) + offset, HLS_DELAY_FLOOR_NS)
    return _hls(delay, device, lut, clock_ns, turns)


def of_hls_additions(structure: Structure, device: Device, lut: Interval, clock_ns: float, turns: Sequence[int] = ()) -> Latency:
    """hls4ml's distributed arithmetic: the depth of the adder graph, cut by HLS to the clock less its uncertainty."""
    delay = DA_SPREAD * (device.family.period_per_unit_ns * max(structure.depth, 1.0))
    return _hls(delay * (1 / (1 - HLS_UNCERTAINTY)), device, lut, clock_ns, turns)


def of_hls_turns(cycles: Interval, interval: Interval, device: Device, lut: Interval, clock_ns: float) -> Latency:
    """hls4ml's resource strategy: layers one after the other, each with its own turns."""
    return _timed(cycles, interval, _hls_period(device, lut, clock_ns), clock_ns)


def _hls_period(device: Device, lut: Interval, clock_ns: float) -> Interval:
    """HLS fills a cycle up to the clock less its uncertainty, so a stage is never much faster than that."""
    routed = period(device, 1.0, lut.value)
    stage = Interval(1 - HLS_UNCERTAINTY, 0.87, 1.15) * clock_ns
    return Interval(max(routed.low, stage.low), max(routed.value, stage.value), max(routed.high, stage.high))


def _hls(delay_ns: Interval, device: Device, lut: Interval, clock_ns: float, turns: Sequence[int]) -> Latency:
    """Layers whose positions take turns work one after the other: each adds a cycle a turn, the longest sets the interval."""
    waiting = sum(count - 1 for count in turns)

    def cycles(ns: float) -> int:
        return max(math.ceil(ns / clock_ns - 1e-9), 1) + waiting

    reached = _hls_period(device, lut, clock_ns)
    return _timed(
        Interval(cycles(delay_ns.low), cycles(delay_ns.value), cycles(delay_ns.high)),
        Interval.exact(max(turns, default=1)),
        reached,
        clock_ns,
    )


def with_period(timing: Latency, reached: Interval, clock_ns: float) -> Latency:
    """The same cycles with another shortest period."""
    if timing.cycles.is_exact and timing.cycles.value == 0:
        return Latency(timing.cycles, timing.interval, reached, reached, _meets(reached, clock_ns))
    return _timed(timing.cycles, timing.interval, reached, clock_ns)


def _timed(cycles: Interval, interval: Interval, reached: Interval, clock_ns: float) -> Latency:
    runs_at = Interval(max(reached.low, clock_ns), max(reached.value, clock_ns), max(reached.high, clock_ns))
    return Latency(cycles, interval, reached, cycles * runs_at, _meets(reached, clock_ns))


def _meets(reached: Interval, clock_ns: float) -> str:
    if reached.high <= clock_ns:
        return "yes"
    if reached.value <= clock_ns:
        return "likely"
    return "unlikely" if reached.low <= clock_ns else "no"

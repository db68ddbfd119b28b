"""Nanoseconds from input to output: which pipeline and clock keep a graph within them, and what no pipeline can.

A design of S stages has S + 1 registers on the way. Its latency is their number times the clock period, and the period is what the longest
stage needs. Fewer stages save registers, more of them allow a faster clock, so the shortest latency lies somewhere between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hgq.backend import Options
from hgq.errors import BudgetError
from hgq.estimate import latency
from hgq.estimate.devices import Device, device_of
from hgq.estimate.model import Estimate, estimate
from hgq.ir.graph import Graph
from hgq.plugins import backend as backend_named

SHORTEST_STAGE = 1.0
"""No stage with logic is shorter, in additions."""
ROUNDING_NS = 0.01
"""Clock periods are told to this."""


@dataclass(frozen=True)
class Cut:
    """One way to cut a graph into stages.

    Args:
        stages: Stages of logic.
        cycles: Registers on the way from input to output.
        depth: Of the longest stage, in additions.
        period_ns: Shortest clock period that this stage is likely to reach.
    """

    stages: int
    cycles: int
    depth: float
    period_ns: float

    @property
    def ns(self) -> float:
        """From input to output, as fast as it goes."""
        return self.cycles * self.period_ns


@dataclass(frozen=True)
class Plan:
    """A pipeline and a clock.

    Args:
        part: Device.
        stages: For the option ``stages`` of the rtl backend.
        clock_ns: Period to ask for.
        cycles: From input to output.
        ns: From input to output, by the best guess of `hgq estimate`.
        wanted_ns: What was asked for.
    """

    part: str
    stages: int
    clock_ns: float
    cycles: int
    ns: float
    wanted_ns: float

    @property
    def options(self) -> dict[str, str]:
        """Options of the rtl backend."""
        return {"stages": str(self.stages)}


def remembered(graph: Graph) -> Plan | None:
    """The pipeline that a model was trained for, from its notes; None if there is none, or it is not understood."""
    try:
        return Plan(**graph.meta["pipeline"])
    except (KeyError, TypeError):
        return None


def cuts(graph: Graph, device: Device, lut: float, options: Mapping[str, str] | None = None) -> list[Cut]:
    """Every sensible number of stages, from one on; empty if no output depends on an input.

    Args:
        graph: A frozen model.
        device: The part.
        lut: LUTs of the design: the fuller, the slower.
        options: Options of the rtl backend besides ``stages``.
    """
    asked = Options(part=device.part, extra=options or {})
    rows = backend_named("rtl").pipelines(graph, asked)
    return [Cut(stages, stages + 1, depth, latency.period(device, depth, lut).value) for stages, depth in rows]


def fastest(rows: list[Cut], clock_ns: float) -> Cut | None:
    """The cut with the shortest latency among those that reach the clock, or of all if none does; None of none."""
    return min([cut for cut in rows if cut.period_ns <= clock_ns] or rows, key=lambda cut: cut.ns, default=None)


def fastest_cut(graph: Graph, part: str, clock_ns: float) -> Cut | None:
    """`fastest` of all pipelines of a graph."""
    device = device_of(part)
    return fastest(cuts(graph, device, estimate(graph, part, clock_ns, "rtl").counts.lut.value), clock_ns)


def floor_ns(part: str) -> float:
    """No clocked design on this part is faster from input to output: two registers with one addition between them."""
    return 2 * latency.period(device_of(part), SHORTEST_STAGE, 1.0).value


def plan(graph: Graph, part: str, clock_ns: float, wanted_ns: float, options: Mapping[str, str] | None = None) -> tuple[Plan, Estimate]:
    """The pipeline and the clock for a latency.

    The clock asked for is kept where the fewest stages that reach it are fast enough. Else it is the slowest one, faster than that, with
    which some pipeline is.

    Args:
        graph: A frozen model.
        part: Device.
        clock_ns: Longest clock period.
        wanted_ns: Nanoseconds from input to output.
        options: Options of the rtl backend, but for those that cut the pipeline.

    Returns:
        The plan, and the estimate of that pipeline.

    Raises:
        BudgetError: no pipeline of this graph is that fast; says what the fastest takes.
        ConfigError: an unknown part or option.
    """
    device, options = device_of(part), dict(options or {})
    first = estimate(graph, part, clock_ns, "rtl", options)
    rows = cuts(graph, device, first.counts.lut.value, options)
    if not rows:
        return Plan(device.part, 0, clock_ns, 0, 0.0, wanted_ns), first
    tried: dict[int, Cut] = {}
    for cut, hoped in [*_choices(rows, clock_ns, wanted_ns), *_others(rows, device, clock_ns)]:
        if cut.stages in tried:
            continue
        period, asked = hoped, {**options, "stages": str(cut.stages)}
        found = estimate(graph, part, period, "rtl", asked)
        if found.timing.period_ns.value > period * (1 + 1e-9):  # its carry chains are longer than those of most cuts
            period = _up(found.timing.period_ns.value)
            found = estimate(graph, part, period, "rtl", asked)
        if found.timing.ns.value <= wanted_ns * (1 + 1e-9):
            return Plan(device.part, cut.stages, period, cut.cycles, round(found.timing.ns.value, 3), wanted_ns), found
        tried[cut.stages] = replace(cut, period_ns=found.timing.period_ns.value)
    best = fastest(list(tried.values()) or rows, clock_ns) or rows[0]
    raise BudgetError(
        "No pipeline of this model is that fast on this part.",
        where=f"{graph.name} on {device.part}",
        expected=f"{wanted_ns:g} ns from input to output",
        received=f"{best.ns:.2f} ns at the least: {best.cycles} cycles of {best.period_ns:.2f} ns (a clock of {clock_ns:g} ns or faster)",
        fix="Train it with --latency-ns, which makes its sums shorter; or take fewer layers, or a faster part.",
    )


def _choices(rows: list[Cut], clock_ns: float, wanted_ns: float) -> list[tuple[Cut, float]]:
    """Pipelines and clocks that should do, the best first."""
    reaching = [cut for cut in rows if cut.period_ns <= clock_ns]
    if not reaching:  # then as fast a clock as there is
        return [(cut, _up(cut.period_ns)) for cut in sorted(rows, key=lambda cut: cut.period_ns) if cut.ns <= wanted_ns]
    kept = [(cut, clock_ns) for cut in reaching if cut.cycles * clock_ns <= wanted_ns]
    shares = [(cut, wanted_ns / cut.cycles) for cut in reaching]
    faster = [(cut, max(_down(period), cut.period_ns)) for cut, period in shares if cut.period_ns <= period <= clock_ns]
    return kept[:1] + sorted(faster, key=lambda choice: -choice[1])


def _others(rows: list[Cut], device: Device, clock_ns: float) -> list[tuple[Cut, float]]:
    """All cuts, where their periods are not quite known before their carry cells are counted."""
    return [(cut, clock_ns) for cut in rows] if device.family.carry_period_ns is not None else []


def _down(ns: float) -> float:
    return round(math.floor(ns / ROUNDING_NS + 1e-6) * ROUNDING_NS, 6)


def _up(ns: float) -> float:
    return round(math.ceil(ns / ROUNDING_NS - 1e-6) * ROUNDING_NS, 6)

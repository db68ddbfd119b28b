"""Which operation goes into which pipeline stage.

alkaid cuts at equal times from the input. An operation that begins before a cut and ends after it then lies wholly behind it, so that
stages become up to one operation longer than was asked for. Here operations are packed instead: each starts as soon as its operands are
there, and moves to the next stage when it would not end in time. No stage is longer than the cutoff, unless a single operation is, and no
pipeline with this property has fewer stages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-9
BISECTIONS = 12
QUICK = 4
"""Bisections where many numbers of stages are only compared; the one that is written gets `BISECTIONS`."""
TICKS = 4096
"""Of a stage. alkaid sorts times as float32 and then searches them as float64: these are the same in both."""


def pack(
    comb: Any, cutoff: float, delays: Sequence[float] | None = None, arrivals: Sequence[tuple[int, float]] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stage of each operation, from 0, and when in its stage it ends, in additions.

    Args:
        comb: alkaid's combinational program.
        cutoff: Longest stage.
        delays: What `delays_of` says, where it is known already.
        arrivals: Of each input its stage, and when it is there; None: all at the beginning.
    """
    stage, end = [0] * len(comb.ops), [0.0] * len(comb.ops)
    for index, (op, delay) in enumerate(zip(comb.ops, delays or delays_of(comb), strict=True)):
        if not op.addr:
            if arrivals is not None and op.opcode == -1:
                stage[index], end[index] = arrivals[op.data[0]]
            continue
        last, start = -1, 0.0
        for operand in op.addr:  # plain numbers: this loop is most of the time of an estimate
            if stage[operand] > last:
                last, start = stage[operand], end[operand]
            elif stage[operand] == last and end[operand] > start:
                start = end[operand]
        if start > 0 and delay > 0 and start + delay > cutoff + SLACK:  # wires and inversions take no time, hence need no stage
            last, start = last + 1, 0.0
        stage[index], end[index] = last, start + delay
    return np.array(stage, np.int64), np.array(end)


def delays_of(comb: Any) -> list[float]:
    """Delay of each operation by itself, in additions."""
    return [op.latency - max((comb.ops[operand].latency for operand in op.addr), default=op.latency) for op in comb.ops]


def shortest_cutoff(comb: Any, stages: int) -> float:
    """The least cutoff with which `pack` needs no more than `stages`."""
    return _bisect(comb, delays_of(comb), stages, comb.latency[1] / (stages + 1), max(comb.latency[1], 1.0), BISECTIONS)


def _bisect(comb: Any, delays: Sequence[float], stages: int, low: float, high: float, times: int) -> float:
    for _ in range(times):
        middle = (low + high) / 2
        low, high = (low, middle) if pack(comb, middle, delays)[0].max(initial=0) < stages else (middle, high)
    return high


def cuts(comb: Any, shortest: float) -> list[tuple[int, float]]:
    """(stages, delay of the longest), from one stage to stages of one operation or of `shortest`, for each number of operations in one.

    Cutting to a number of stages (`pipeline`) may balance them a little better still.
    """
    delays, found = delays_of(comb), dict[int, float]()
    unit = max(max(delays, default=0.0), shortest)
    depth = max(float(comb.latency[1]), unit)
    count = math.ceil(depth / unit)
    for operations in sorted({math.ceil(count / part) for part in range(1, count + 1)}):
        stages = int(pack(comb, min(operations * unit, depth), delays)[0].max(initial=0)) + 1
        found[stages] = min(found.get(stages, depth), operations * unit)
    for stages, cutoff in found.items():
        closest = _bisect(comb, delays, stages, min(depth / stages, cutoff), cutoff, QUICK)
        found[stages] = float(pack(comb, closest, delays)[1].max(initial=0.0))
    return sorted(found.items())


def pipeline(comb: Any, *, cutoff: float | None = None, stages: int | None = None) -> Any:
    """Alkaid's ``FSM`` with registers at both ends and between stages.

    Args:
        comb: alkaid's combinational program, with latencies.
        cutoff: Longest stage, in additions.
        stages: Instead, how many stages; 0 for none and no register.
    """
    from alkaid.trace import to_pipeline

    if stages == 0:
        return to_pipeline(comb, n_stages=1, reg_inp=False, reg_out=False, verbose=False)
    wanted = stages or int(pack(comb, cutoff or 0.0)[0].max(initial=0)) + 1
    place, end = pack(comb, shortest_cutoff(comb, wanted))  # as many stages as the cutoff needs, but balanced
    count = int(place.max(initial=0)) + 1
    if stages is not None and count < stages:  # more stages than there is work for: some only pass values on
        return to_pipeline(comb, n_stages=stages, verbose=False)
    # alkaid's cuts are at equal times. In these times they are at 1, 2, 3 …
    longest = np.array([max(end[place == number].max(initial=0.0), SLACK) for number in range(count)])
    times = np.where(end > 0, place + np.ceil(end / longest[place] * TICKS) / TICKS, place)
    ops = [op._replace(latency=float(time)) for op, time in zip(comb.ops, times, strict=True)]
    return to_pipeline(comb._replace(ops=ops), n_stages=count, verbose=False)

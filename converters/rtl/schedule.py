"""Which operation goes into which pipeline stage.

alkaid cuts at equal times from the input. An operation that begins before a cut and ends after it then lies wholly behind it, so that
stages become up to one operation longer than was asked for. Here operations are packed instead: each starts as soon as its operands are
there, and moves to the next stage when it would not end in time. No stage is longer than the cutoff, unless a single operation is, and no
pipeline with this property has fewer stages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-9
BISECTIONS = 12


def pack(comb: Any, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stage of each operation, from 0, and when in its stage it ends, in additions."""
    stage = np.zeros(len(comb.ops), np.int64)
    end = np.zeros(len(comb.ops))
    for index, op in enumerate(comb.ops):
        if not op.addr:
            continue
        operands = list(op.addr)
        delay = op.latency - max(comb.ops[operand].latency for operand in operands)
        stage[index] = stage[operands].max()
        start = max(end[operand] for operand in operands if stage[operand] == stage[index])
        if start > 0 and delay > 0 and start + delay > cutoff + SLACK:  # wires and inversions take no time, hence need no stage
            stage[index] += 1
            start = 0.0
        end[index] = start + delay
    return stage, end


def shortest_cutoff(comb: Any, stages: int) -> float:
    """The least cutoff with which `pack` needs no more than `stages`."""
    low, high = comb.latency[1] / (stages + 1), max(comb.latency[1], 1.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if pack(comb, middle)[0].max(initial=0) < stages else (middle, high)
    return high


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
    times = np.where(end > 0, place + end / longest[place], place)
    ops = [op._replace(latency=float(time)) for op, time in zip(comb.ops, times, strict=True)]
    return to_pipeline(comb._replace(ops=ops), n_stages=count, verbose=False)

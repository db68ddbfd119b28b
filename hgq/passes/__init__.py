"""Passes: ``Graph -> Graph``, one per file, each checked before the next may run.

A pass must leave ports and outputs alone (a port's elements may lose bits that nothing reads) and must not change a single output bit.
`optimize` repeats `PIPELINE` until nothing changes; after every pass the graph is checked against `hgq.ir.spec` and compared with the graph
before on random and extreme samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from hgq.errors import HGQError, PassError
from hgq.ir import interpret, spec
from hgq.ir.graph import Graph
from hgq.passes.dead import remove_dead
from hgq.passes.fold import fold_constants
from hgq.passes.narrow import narrow_widths

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (narrow_widths, fold_constants, remove_dead)
ROUNDS = 8
"""More rounds than any graph seen has needed; a bound, so that two passes undoing each other cannot loop for ever."""

log = logging.getLogger("hgq.passes")


def optimize(graph: Graph, pipeline: tuple[Pass, ...] = PIPELINE) -> Graph:
    """The same function with fewer bits and nodes.

    Raises:
        PassError: a pass broke an invariant or changed an output; names it and the passes before it.
    """
    done: list[str] = []
    for _ in range(ROUNDS):
        before = graph.digest()
        for step in pipeline:
            graph = run_checked(step, graph, done)
            done.append(step.__name__)
        if graph.digest() == before:
            break
    return graph


def run_checked(step: Pass, graph: Graph, done: list[str]) -> Graph:
    """Run one pass and prove on samples that it kept the graph's meaning.

    Raises:
        PassError: it did not.
    """
    where = f"pass {step.__name__}, after {', '.join(done) or 'no other'}"
    try:
        after = step(graph)
        if after.digest() == graph.digest():
            return graph
        spec.check(after)
    except HGQError as error:
        raise PassError("A pass produced a broken graph.", where=where, received=str(error), fix=REPORT) from error
    samples = probe(graph)
    old, new = interpret.run(graph, samples), interpret.run(after, samples)
    if set(old) != set(new) or any(not np.array_equal(old[name], new[name]) for name in old):
        raise PassError("A pass changed what the graph computes.", where=where, fix=REPORT)
    log.debug("%s: %d nodes -> %d nodes", step.__name__, len(graph.nodes), len(after.nodes))
    return after


REPORT = "This is a bug in hgqc: please report it with the .hgq file. Until then, freeze with optimize=False."


def probe(graph: Graph, samples: int = 64) -> dict[str, np.ndarray]:
    """Real numbers for every port: both ends of its formats, zero, and random values over the full range."""
    rng = np.random.default_rng(0)
    data = {}
    for port in graph.inputs:
        low, high = port.format.low, port.format.high
        mantissa = rng.integers(low, high, (samples, *port.shape), endpoint=True)
        mantissa[0], mantissa[1], mantissa[2] = low, high, 0
        data[port.name] = port.format.value(mantissa)
    return data

"""On a mismatch: which node, and what is the smallest input that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import LoweringError
from hgq.ir import interpret
from hgq.ir.graph import Graph
from hgq.verify.vectors import Data


def differing(expected: Mapping[str, Any], received: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which samples differ in any bit of any output."""
    wrong = np.zeros(len(next(iter(expected.values()))), bool)
    for name, value in expected.items():
        other = np.asarray(received[name], np.float64).reshape(value.shape)
        wrong |= (value != other).reshape(len(value), -1).any(axis=1)
    return wrong


def minimal_input(graph: Graph, sample: Data, simulate: Callable[[Data], Mapping[str, Any]]) -> Data:
    """Set as many elements of a failing sample to zero as possible so that it still fails.

    Greedy, first in halves of the elements, then in ever smaller groups; each round of candidates is one batch.
    """
    names = list(sample)
    flat = np.concatenate([sample[name].reshape(-1) for name in names])

    def unflatten(rows: np.ndarray) -> Data:
        data, start = {}, 0
        for name in names:
            size = sample[name].size
            data[name] = rows[:, start : start + size].reshape(len(rows), *sample[name].shape[1:])
            start += size
        return data

    group = max(np.count_nonzero(flat) // 2, 1)
    while True:
        alive = np.flatnonzero(flat)
        groups = [alive[start : start + group] for start in range(0, len(alive), group)]
        if groups:
            candidates = np.repeat(flat[None], len(groups), axis=0)
            for row, index in enumerate(groups):
                candidates[row, index] = 0.0
            batch = unflatten(candidates)
            failing = np.flatnonzero(differing(interpret.run(graph, batch), simulate(batch)))
            if failing.size:
                flat = candidates[failing[0]]
                group = min(group, max(np.count_nonzero(flat), 1))
                continue
        if group == 1 or not groups:
            return unflatten(flat[None])
        group //= 2


def truncated_bisection(graph: Graph, sample: Data, simulate: Callable[[Data, Graph], Mapping[str, Any]]) -> str:
    """The first node that a backend gets wrong: it is given ever shorter beginnings of the graph, which it compiles and simulates.

    Empty when the backend refuses such a beginning: a mismatch that was found must not end as a refusal.
    """
    low, high = 0, len(graph.nodes) - 1
    while low < high:
        middle = (low + high) // 2
        beginning = graph.with_(outputs=(graph.nodes[middle].name,), nodes=graph.nodes[: middle + 1])
        try:
            wrong = differing(interpret.run(beginning, sample), simulate(sample, beginning)).any()
        except LoweringError:
            return ""
        if wrong:
            high = middle
        else:
            low = middle + 1
    return graph.nodes[low].name

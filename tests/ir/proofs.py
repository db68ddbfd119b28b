"""What every random graph must keep: formats that hold all its values, and passes that change none of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.ir import interpret, spec
from hgq.ir.graph import Graph
from hgq.passes import PIPELINE, optimize


def checked_trace(graph: Graph, samples: Any) -> dict[str, np.ndarray]:
    """All values of `graph`, after a check that they lie on and within their proven formats, and that no pass changes an output."""
    trace = interpret.run(graph, samples, trace=True)
    for name, fixed in graph.formats().items():
        if name in trace:
            scaled = np.ldexp(trace[name], np.broadcast_to(fixed.f, trace[name].shape))
            assert (scaled == np.rint(scaled)).all()
            assert (scaled >= fixed.low).all() and (scaled <= fixed.high).all()
    for step in (*PIPELINE, optimize):
        after = interpret.run(spec.check(step(graph)), samples)
        for name in graph.outputs:
            np.testing.assert_array_equal(after[name], trace[name])
    return trace

"""Run each representation and compare it with the golden model, bit for bit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgq import plugins
from hgq.backend import Backend, Options
from hgq.errors import LoweringError, ToolNotFound
from hgq.ir import interpret
from hgq.ir.graph import Graph
from hgq.output import writing
from hgq.verify.locate import differing, minimal_input, truncated_bisection
from hgq.verify.vectors import Data, corner_samples, join
from hgq.verify.verdict import Check, Divergence, Verdict

Outputs = Mapping[str, NDArray[Any]]
Simulate = Callable[[Data], Outputs]
Tell = Callable[[str], None]


class Reference(Protocol):
    """The model that the graph was frozen from."""

    def predict(self, graph: Graph, data: Data) -> Outputs:
        """Its outputs by the graph's output names."""
        ...

    def first_divergent(self, graph: Graph, data: Data) -> tuple[str, str]:
        """The first node whose value differs, and a note; either may be empty."""
        ...


def verify(
    graph: Graph,
    x: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    reference: Reference | None = None,
    backends: Sequence[str] = ("rtl", "hls4ml"),
    options: Mapping[str, Options] | None = None,
    samples: int | None = None,
    corners: int = 1000,
    workdir: str | Path | None = None,
    tell: Tell = lambda text: None,
) -> Verdict:
    """Compare every representation of a model with its golden model, with no tolerance.

    Args:
        graph: The frozen model.
        x: Real samples, as `hgq.ir.interpret.run` takes them; None feeds corner and random samples alone.
        reference: The Keras model, or None to leave it out.
        backends: Names of the backends whose emitted firmware is compiled and simulated.
        options: Options by backend name.
        samples: At most this many of `x`.
        corners: Random samples beside the corners; see `hgq.verify.vectors`.
        workdir: Where simulators are built; kept, so that a second run is fast. None uses a temporary directory.
        tell: Called with what is going on.

    Returns:
        The verdict. A missing tool is a skipped check, not an error.

    Raises:
        DataError: bad samples.
        OutputError: `workdir` cannot be written.
        ToolFailed: a compiler or simulator ended badly.
    """
    corner = corner_samples(graph, corners)
    parts = [corner]
    if x is not None:
        given = interpret.check_samples(graph, x)
        parts.insert(0, {name: _float32(value[:samples]) for name, value in given.items()})
    data = join(parts)
    corner_count = len(next(iter(corner.values())))
    tell("golden model …")
    golden = interpret.run(graph, data)
    checks = []
    if reference is not None:
        tell("Keras predict …")
        locate = reference.first_divergent
        checks.append(
            _check(graph, "keras", "model.predict", data, golden, lambda d: reference.predict(graph, d), lambda d: locate(graph, d))
        )
    with tempfile.TemporaryDirectory(prefix="hgq-verify-") as temporary:
        for name in backends:
            tell(f"{name}: compiling and simulating …")
            build = Path(workdir or temporary) / name
            checks.append(_check_backend(graph, name, (options or {}).get(name, Options()), data, golden, build))
    return Verdict(graph.digest(), len(next(iter(data.values()))) - corner_count, corner_count, tuple(checks))


def _float32(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keras sees float32; everybody shall see the same numbers."""
    return value.astype(np.float32).astype(np.float64)


def _check_backend(graph: Graph, name: str, options: Options, data: Data, golden: Outputs, build: Path) -> Check:
    try:
        backend: Backend = plugins.backend(name)
        with writing(build):
            build.mkdir(parents=True, exist_ok=True)

        def simulate(d: Data, g: Graph = graph) -> Outputs:
            return backend.simulate(g, options, d, build / g.digest()[:16])

        return _check(graph, name, backend.simulation, data, golden, simulate, lambda d: (truncated_bisection(graph, d, simulate), ""))
    except (ToolNotFound, LoweringError) as error:
        where = f" ({error.where})" if error.where else ""
        return Check(name, f"simulation of {name}", skipped=f"{error.what}{where}", fix=error.fix)


def _check(
    graph: Graph, name: str, what: str, data: Data, golden: Outputs, simulate: Simulate, locate: Callable[[Data], tuple[str, str]]
) -> Check:
    start = time.perf_counter()
    wrong = differing(golden, simulate(data))
    seconds = time.perf_counter() - start
    divergence = None
    if wrong.any():
        sample = {key: value[[int(np.argmax(wrong))]] for key, value in data.items()}
        small = minimal_input(graph, sample, simulate)
        divergence = _divergence(graph, small, simulate, locate)
    return Check(name, what, len(wrong), int(wrong.sum()), seconds, divergence=divergence)


def _divergence(graph: Graph, sample: Data, simulate: Simulate, locate: Callable[[Data], tuple[str, str]]) -> Divergence:
    node, note = locate(sample)
    found = {entry.name: entry for entry in graph.nodes}.get(node)
    golden, other = interpret.run(graph, sample), simulate(sample)
    return Divergence(
        node=node,
        layer=found.source if found else "",
        op=found.op if found else "",
        input={name: value[0].tolist() for name, value in sample.items()},
        expected={name: value[0].tolist() for name, value in golden.items()},
        received={name: np.asarray(other[name])[0].tolist() for name in golden},
        note=note,
    )

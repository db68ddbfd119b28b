"""From a graph to alkaid's adder graph: the functions of `hgq.ir.ops` run on alkaid's symbolic arrays.

alkaid is imported inside functions only, so that importing this package stays cheap.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import LoweringError
from hgq.ir import interpret
from hgq.ir.graph import Graph
from hgq.ir.ops import PARALLEL
from hgq.passes import optimize, probe

from .lower import ALKAID_ERRORS, flat, lower, refused

logger = logging.getLogger("hgq.rtl")

HARDWARE = (1, 65534, -1)
"""alkaid's ``HWConfig(adder_size, carry_size, cutoff)``: cost counted bit by bit, additions of any width cost one unit of delay and a
little for the carry. `hgq.estimate` is calibrated on it. The customary carry size of -1 means the same in places, but makes the delay of
a product of two values negative, and alkaid 0.8.2 then puts the product before its operands."""

ANY_CARRY = 1 << 16
"""Bits of a carry longer than any."""

CACHED = 8
"""Traced graphs kept in memory: estimate, export and verify of one model trace it once."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph and what became of it.

    Args:
        graph: The graph as given.
        lowered: After `hgq.passes.optimize`; same ports and outputs.
        inputs: alkaid's symbolic ports, flattened in graph order.
        values: alkaid's symbolic value of each port and node of `lowered`.
        comb: alkaid's optimised combinational program of the whole model.
        summaries: What `summary.summary` said of it, by how it was cut into stages: a budget, a latency and a report ask again and again.
    """

    graph: Graph
    lowered: Graph
    inputs: list[Any]
    values: dict[str, Any]
    comb: Any
    summaries: dict[Any, dict[str, Any]] = field(default_factory=dict)


_cache: OrderedDict[str, Traced] = OrderedDict()


def traced(graph: Graph) -> Traced:
    """The adder graph of `graph`, checked on samples against the golden model. Cached by digest.

    Raises:
        LoweringError: an op or constant that alkaid cannot take, or a result that differs from the golden model.
    """
    digest = graph.digest()
    if digest not in _cache:
        _cache[digest] = trace_anew(graph)
        while len(_cache) > CACHED:
            _cache.popitem(last=False)
    _cache.move_to_end(digest)
    return _cache[digest]


def trace_anew(graph: Graph) -> Traced:
    """`traced`, without remembering."""
    from alkaid.trace import FVArray, HWConfig, trace

    _mend_multipliers()
    if serial := [node.source or node.name for node in graph.nodes if node.attrs.get(PARALLEL) is not None]:
        logger.warning(
            "RTL computes all positions at once: the parallelization_factor of %s is without effect, and EBOPs count less than is built. "
            "hls4ml follows it.",
            ", ".join(dict.fromkeys(serial)),
        )
    lowered = optimize(graph)
    hardware = HWConfig(*HARDWARE)
    values: dict[str, Any] = {}
    for port in lowered.inputs:
        k, i, f = (part[None] for part in port.format.astuple())
        values[port.name] = FVArray.from_kif(k, i, f, hardware)
    for node in lowered.nodes:
        values[node.name] = lower(node, values, lowered)
    inputs = [variable for port in lowered.inputs for variable in flat(values[port.name])]
    outputs = [variable for name in lowered.outputs for variable in flat(values[name])]
    try:
        comb = _optimised(trace(inputs, outputs, optimize=False))
    except ALKAID_ERRORS as error:
        raise refused("the whole model", error) from error
    done = Traced(graph, lowered, inputs, values, comb)
    _check(done)
    return done


def _mend_multipliers() -> None:
    """In alkaid 0.8.2 a product of two values has a *negative* delay where the carry is as long as it likes (`HARDWARE`).

    Operations are ordered by delay, so that results came before their operands. A carry of finite but ample length means the same, and has
    the delay that it should have.
    """
    from alkaid.trace.passes import surrogate

    original = surrogate.cost_lat_mul
    if hasattr(original, "mended"):
        return

    def cost_lat_mul(qint0: Any, qint1: Any, n_add: int, n_accum: int) -> Any:
        return original(qint0, qint1, n_add, n_accum if n_accum > 0 else ANY_CARRY)

    cost_lat_mul.mended = True  # type: ignore[attr-defined]
    surrogate.cost_lat_mul = cost_lat_mul


def _optimised(comb: Any) -> Any:
    """What alkaid's ``optimize`` does, without two of its steps.

    ``canonicalize_msb_wraps`` of alkaid 0.8.2 drops the shift of a wrap that reads the *lowest* bit of its operand, which gives wrong
    results (`tests/converters/test_rtl.py` has the case). ``retrace`` made none of 104 graphs smaller, made them 12 % deeper on average,
    and takes three quarters of the time.
    """
    from alkaid.trace.passes import add_surrogate, canonical_sort, common_subexpr_elimin, dead_code_elimin, null_quant_elimin
    from alkaid.trace.passes.canon import canonicalize_outputs, const_propagation
    from alkaid.trace.passes.order import topo_bandwidth_sort

    for step in (const_propagation, canonicalize_outputs, dead_code_elimin, common_subexpr_elimin, dead_code_elimin):
        comb = step(comb)
    for step in (null_quant_elimin, dead_code_elimin, add_surrogate, canonical_sort, topo_bandwidth_sort):
        comb = step(comb)
    return comb


def predict(done: Traced, x: Any) -> dict[str, NDArray[np.float64]]:
    """Run alkaid's own bit-exact simulation of the combinational program on what the host's quantizers make of real numbers.

    Args:
        done: A traced graph.
        x: As for `hgq.ir.interpret.run`.
    """
    data = interpret.check_samples(done.graph, x)
    ports = interpret.quantize_inputs(done.graph, data)
    samples = len(next(iter(data.values())))
    flat = np.concatenate([ports[port.name].reals().reshape(samples, math.prod(port.shape)) for port in done.graph.inputs], axis=1)
    y = done.comb.predict(np.ascontiguousarray(flat), n_threads=1) if samples else np.zeros((0, done.comb.shape[1]))
    return split_outputs(done.graph, np.asarray(y, np.float64))


def split_outputs(graph: Graph, flat: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Columns of all outputs, in graph order, as one array for each."""
    shapes, start, outputs = graph.shapes(), 0, {}
    for name in graph.outputs:
        size = int(np.prod(shapes[name], dtype=np.int64))
        outputs[name] = flat[:, start : start + size].reshape(len(flat), *shapes[name])
        start += size
    return outputs


def _check(done: Traced) -> None:
    """Compare with the golden model on extreme and random samples, so that no bug of the lowering gets out unseen."""
    samples = probe(done.graph)
    golden = interpret.run(done.graph, samples)
    received = predict(done, samples)
    for name, value in golden.items():
        wrong = int((value != received[name]).reshape(len(value), -1).any(axis=1).sum())
        if wrong:
            raise LoweringError(
                "The adder graph does not compute what the golden model computes.",
                where=f"output {name}",
                received=f"{wrong} of {len(value)} samples differ",
                fix="This is a bug in hgqc or in alkaid: please report it with the .hgq file. Use --backend hls4ml meanwhile.",
            )

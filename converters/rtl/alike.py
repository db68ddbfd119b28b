"""What a large design with convolutions costs: positions that are alike are counted once.

Unrolled, a convolution is one window, over and over. `positions` cuts the graph into pieces and says which positions of a piece are alike;
one of each kind is traced, and stands for the others. What is not seen that way: bits of one piece that disappear in the next, and pairs
of bits that neighbouring windows both add. `tests/converters/test_alike.py` compares with designs counted bit by bit.

Stages are packed along the pieces as along the whole. alkaid may add in another order when it knows how late each element is, so the depth
of a piece, and with it the cycles, can differ by one. Registers are counted word by word: whole values, from where they are computed
to where they are read last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.ir.graph import Graph
from hgq.ir.show import declared_format
from hgq.passes import optimize

from .logic import FEATURES, SHIFT_REGISTER, logic
from .pipeline import depends_on_input, pipelined, program
from .positions import NEEDED, Needed, Piece, Window, hoisted, pieces
from .schedule import BISECTIONS, delays_of, pack
from .settings import Settings
from .stages import width_of
from .summary import per_node
from .trace import trace_anew

LARGE = 10_000
"""Products of data and weights that are not 0; with so many the whole graph takes some ten seconds."""
MOST_KINDS = 12
"""Kinds of positions of a piece that are traced; where there are more, that many spread over all of them stand for the rest."""
STAGE = 1e6
"""A time is ``stage * STAGE + additions since its beginning``: later is larger."""
Times = NDArray[np.float64]
Counts = dict[str, float]


@dataclass(eq=False)
class Kind:
    """Positions that are alike.

    Args:
        graph: One of them.
        weight: How many it stands for.
        windows: All of its positions; empty for a piece that is counted as a whole.
        logic, rows, cost: What it takes, as `summary.summary` says.
        comb: alkaid's program.
        delays: Of its operations.
        stage, end: What `pack` said last.
    """

    graph: Graph
    weight: float
    windows: list[Window]
    logic: Mapping[str, float]
    rows: list[dict[str, Any]]
    cost: float
    comb: Any
    delays: list[float]
    stage: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    end: Times = field(default_factory=lambda: np.zeros(0))


def is_large(graph: Graph) -> bool:
    """Whether a graph repeats something so often that it is better counted by kinds of positions."""
    shapes, products, repeated = graph.shapes(), 0, False
    for node in graph.nodes:
        if node.op in ("conv", "matmul") and node.inputs[1] in graph.consts:
            positions = prod(shapes[node.name][:-1])
            products += positions * int(np.count_nonzero(graph.consts[node.inputs[1]].mantissa))
            repeated |= positions > MOST_KINDS
    return repeated and products >= LARGE


def summary(graph: Graph, settings: Settings) -> dict[str, Any]:
    """The same keys as `summary.summary`, and ``alike``; ``carry_depth`` is None, since no paths are followed from piece to piece.

    That has ``positions``, how many of them were ``traced``, and the relative ``error`` of the cost because some stand for different ones.

    Raises:
        LoweringError: as for a graph that is traced as a whole.
    """
    graph = hoisted(optimize(graph))
    kinds, errors, seen, traced = list[Kind](), list[tuple[float, float]](), 0, 0
    needed = Needed(graph)
    for piece in reversed(pieces(graph)):  # who reads comes before what is read
        own, positions = _kinds(needed, piece, settings)
        kinds = own + kinds
        seen, traced = seen + positions, traced + len(own) * bool(positions)
        errors.append(_error(own))
    schedule = _Schedule(graph, kinds, needed)
    stages, longest = schedule.cut(settings.latency_cutoff, settings.stages)
    found: Counts = defaultdict(float)
    rows: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        for name, value in kind.logic.items():
            found[name] += kind.weight * value
        for row in kind.rows:
            total = rows.setdefault(row["node"], {**row, "lut_cost": 0.0, "delay": 0.0})
            total["lut_cost"] += kind.weight * row["lut_cost"]
            total["delay"] = max(total["delay"], row["delay"])
    registers = schedule.registers(stages) if stages else {}
    for name in ("registers", "waiting", "shift_registers"):
        found[name] = registers.get(name, 0.0)
    cost = sum(kind.weight * kind.cost for kind in kinds)
    return {
        "lut_cost": cost,
        "reg_bits": round(found["registers"] + found["waiting"]),
        "latency_cycles": stages + 1 if stages else 0,
        "ii": 1,
        "stages": max(stages, 1),
        "max_delay": schedule.depth,
        "stage_delay": longest,
        "carry_depth": None,
        "logic": {name: float(round(found[name])) for name in FEATURES},
        "per_node": list(rows.values()),
        "alike": {"positions": seen, "traced": traced, "error": float(np.hypot.reduce([own for _, own in errors]) / max(cost, 1.0))},
    }


def _kinds(needed: Needed, piece: Piece, settings: Settings) -> tuple[list[Kind], int]:
    """What is traced of a piece, and how many positions it has."""
    if not piece.grid:
        return ([kind] if (kind := _kind(needed.whole(piece), 1.0, [], settings)) else []), 0
    windows = needed.windows(piece)
    alike: dict[bytes, list[Window]] = {}
    for window in windows:
        alike.setdefault(window.key, []).append(window)
    if len(alike) > MOST_KINDS:
        shares = np.array_split(np.arange(len(windows)), MOST_KINDS)
        stands_for = {int(share[len(share) // 2]): [windows[at] for at in share] for share in shares}
        found = [_kind(windows[at].graph, float(len(own)), own, settings) for at, own in stands_for.items()]
    else:
        found = [_kind(own[0].graph, float(len(own)), own, settings) for own in alike.values()]
    return [kind for kind in found if kind is not None], len(windows)


def _kind(graph: Graph, weight: float, windows: list[Window], settings: Settings) -> Kind | None:
    """A part of the graph, traced; None if it is wires only, or nothing."""
    from dataclasses import replace

    traced = trace_anew(graph)
    if not depends_on_input(traced):
        return None
    comb = program(traced, settings)
    counted = logic(pipelined(traced, replace(settings, latency_cutoff=None, stages=0)))
    rows = per_node(traced, comb.cost)
    return Kind(traced.graph, weight, windows, counted, rows, float(comb.cost), comb, delays_of(comb))


def _error(kinds: list[Kind]) -> tuple[float, float]:
    """Cost of a piece, and two standard errors of it where some positions stand for others that are different."""
    costs, weights = np.array([kind.cost for kind in kinds]), np.array([kind.weight for kind in kinds])
    total = float(costs @ weights)
    if len(kinds) < MOST_KINDS:
        return total, 0.0
    return total, 2 * float(weights.sum() * costs.std(ddof=1) / np.sqrt(len(kinds)))


class _Schedule:
    """The pieces one behind the other, packed into stages."""

    def __init__(self, graph: Graph, kinds: list[Kind], needed: Needed) -> None:
        self.graph, self.kinds, self.needed = graph, kinds, needed
        self.shapes = graph.shapes()
        self.arrival: dict[str, Times] = {}
        """When each element of the values that cross between pieces is there."""
        self.depth = 0.0
        """From input to output, in additions; known after `cut`."""

    def pack(self, cutoff: float) -> None:
        """Place all operations."""
        self.arrival = {port.name: np.zeros(port.shape) for port in self.graph.inputs}
        for kind in self.kinds:
            arrivals = [(int(time // STAGE), float(time % STAGE)) for time in self._at(kind)]
            kind.stage, kind.end = pack(kind.comb, cutoff, kind.delays, arrivals)
            ready = kind.stage * STAGE + kind.end
            for name, indices in _outputs(kind):
                time = np.where(indices >= 0, ready[indices], 0.0)
                known = self.arrival.setdefault(name, np.zeros(self.shapes[name]))
                for place in [window.position for window in kind.windows] or [...]:
                    known[place] = time.reshape(known[place].shape)

    def _at(self, kind: Kind) -> list[float]:
        """When the elements of all ports are there; of positions that are alike, the latest of all."""
        found: list[float] = []
        for port in kind.graph.inputs:
            known = self.arrival.get(port.name, np.zeros(self.shapes[port.name]))
            read = [part for window in kind.windows if (part := known[window.read]).shape == port.shape]
            found += (np.maximum.reduce(read) if read else known).ravel().tolist()
        return found

    def cut(self, cutoff: float | None, stages: int | None) -> tuple[int, float]:
        """Stages, and the delay of the longest: as `schedule.pipeline` cuts. The operations are placed that way afterwards."""
        self.pack(np.inf)
        self.depth = self._longest()
        if stages == 0:
            return 0, self.depth
        if stages is None:
            self.pack(cutoff or 0.0)
            stages = self._count()
        low, high = self.depth / (stages + 1), max(self.depth, 1.0)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            self.pack(middle)
            low, high = (low, middle) if self._count() <= stages else (middle, high)
        self.pack(high)
        return max(stages, self._count()), self._longest()

    def _count(self) -> int:
        return 1 + max((int(kind.stage.max(initial=0)) for kind in self.kinds), default=0)

    def _longest(self) -> float:
        return max((float(kind.end.max(initial=0.0)) for kind in self.kinds), default=0.0)

    # ---- registers ----------------------------------------------------------------------------------------------------------------------

    def registers(self, stages: int) -> Counts:
        """Bits of registers between the stages and at both ends, and those of them that only wait."""
        found: Counts = defaultdict(float)
        last = {name: np.zeros(self.shapes[name], np.int64) for name in self.arrival}
        """The last stage in which an element is read."""
        for kind in self.kinds:
            readers = _readers(kind)
            read = np.zeros(sum(prod(port.shape) for port in kind.graph.inputs), np.int64)
            for index, op in enumerate(kind.comb.ops):
                if op.opcode == -1:
                    read[op.data[0]] = max(readers[index], default=0)
                else:
                    _wait(found, kind.weight * width_of(op), int(kind.stage[index]), readers[index])
            start = 0
            for port in kind.graph.inputs:
                own = read[start : start + prod(port.shape)].reshape(port.shape)
                start += own.size
                for place in [window.read for window in kind.windows] or [...]:
                    if last[port.name][place].shape == own.shape:
                        last[port.name][place] = np.maximum(last[port.name][place], own)
        for name in self.graph.outputs:
            last[name] = np.full(self.shapes[name], stages)  # one more, at the output
        ports = {port.name for port in self.graph.inputs}
        for name, read in last.items():
            width = np.where(self.needed.read.get(name, False), declared_format(self.graph, name).width, 0)
            made = self.arrival[name].astype(np.int64) // int(STAGE) - (name in ports)  # there is a register at the input
            for a, b in {*zip(made.ravel().tolist(), read.ravel().tolist(), strict=True)}:
                _wait(found, float(width[(made == a) & (read == b)].sum()), a, {b})
        return found


def _outputs(kind: Kind) -> list[tuple[str, NDArray[np.int64]]]:
    """The operation of each element of each output."""
    shapes, start, found = kind.graph.shapes(), 0, []
    for name in kind.graph.outputs:
        size = prod(shapes[name])
        found.append((name.removesuffix(NEEDED), np.array(kind.comb.out_idxs[start : start + size], np.int64)))
        start += size
    return found


def _readers(kind: Kind) -> list[set[int]]:
    """Stages in which each operation is read by others of its kind."""
    found: list[set[int]] = [set() for _ in kind.comb.ops]
    for index, op in enumerate(kind.comb.ops):
        for operand in op.addr:
            found[operand].add(int(kind.stage[index]))
    return found


def _wait(found: Counts, bits: float, made: int, read: set[int]) -> None:
    """Registers of a value between where it is made and where it is read."""
    for stage in sorted(read):
        length = stage - made
        if length >= SHIFT_REGISTER[0]:
            found["waiting"] += bits * length
            found["shift_registers"] += bits * -(-length // SHIFT_REGISTER[1])
        elif length > 0:
            found["registers"] += bits * length
        made = max(made, stage)

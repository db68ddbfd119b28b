"""What a backend says about the hardware it would write: plain counts, before any device is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hgq.errors import ConfigError


@dataclass(frozen=True)
class Structure:
    """An adder graph in numbers.

    Args:
        cost: Adder-graph cost: about one for each bit of each adder.
        register_bits: Bits of all pipeline registers.
        cycles: Clock cycles from input to output; 0 when combinational.
        interval: Cycles between two samples.
        depth: Delay from input to output, in additions.
        stage_depth: Delay of the longest stage, in additions.
        cost_of: Cost of each layer, by Keras layer path; adds up to `cost`, or is empty.
        depth_of: Depth that each layer adds, by Keras layer path; may be empty.
        counts: What decides how many LUTs come of it, by name; explained where the backend counts it; may be empty.
        carry_depth: Most carry cells, of two positions each, on a path between two registers; None where the backend does not say.
        alike: Where positions of convolutions stand for others: ``positions`` in all, ``traced`` of them, and the relative ``error`` of
            the cost where they are not quite alike; else empty.
    """

    cost: float
    register_bits: int
    cycles: int
    interval: int
    depth: float
    stage_depth: float
    cost_of: Mapping[str, float]
    depth_of: Mapping[str, float]
    counts: Mapping[str, float] = field(default_factory=dict)
    alike: Mapping[str, float] = field(default_factory=dict)
    carry_depth: float | None = None

    def in_turns(self, turns: Mapping[str, int]) -> Structure:
        """The same with layers whose positions take so many turns in one copy: about that much smaller."""
        cost_of = {layer: cost / turns.get(layer, 1) for layer, cost in self.cost_of.items()}
        return replace(self, cost=sum(cost_of.values()), cost_of=cost_of) if turns and cost_of else self

    @staticmethod
    def of(raw: Mapping[str, Any], backend: str) -> Structure:
        """From what `Backend.resources` returns: ``lut_cost``, ``reg_bits``, ``latency_cycles``, ``max_delay`` and optionally ``ii``,
        ``stages``, ``stage_delay``, ``carry_depth``, ``logic`` (counts), ``alike`` and ``per_node`` (rows with ``layer`` or ``source``,
        ``lut_cost`` and ``delay``).

        Raises:
            ConfigError: a key is missing.
        """
        try:
            cost, bits, cycles, depth = float(raw["lut_cost"]), int(raw["reg_bits"]), int(raw["latency_cycles"]), float(raw["max_delay"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"The backend {backend!r} does not say what it would build.",
                expected="a mapping with lut_cost, reg_bits, latency_cycles and max_delay",
                received=f"{type(error).__name__}: {error}",
            ) from error
        stages = max(int(raw.get("stages", cycles)), 1)
        cost_of: dict[str, float] = {}
        depth_of: dict[str, float] = {}
        for row in raw.get("per_node", ()):
            layer = str(row.get("layer", row.get("source", "")))
            cost_of[layer] = cost_of.get(layer, 0.0) + float(row.get("lut_cost", 0.0))
            depth_of[layer] = depth_of.get(layer, 0.0) + float(row.get("delay", 0.0))
        stage = float(raw.get("stage_delay", depth / stages))
        return Structure(
            cost,
            bits,
            cycles,
            int(raw.get("ii", 1)),
            depth,
            stage,
            cost_of,
            depth_of,
            raw.get("logic", {}),
            raw.get("alike", {}),
            raw.get("carry_depth"),
        )

"""`estimate`: what a graph will cost on a device, and how sure we are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hgq.backend import Options, check_extra
from hgq.errors import ConfigError
from hgq.estimate import hls, latency, resources
from hgq.estimate.devices import Device, device_of
from hgq.estimate.interval import Interval, total
from hgq.estimate.resources import Counts
from hgq.estimate.structure import Structure
from hgq.ir.graph import Graph
from hgq.plugins import backend as backend_named

TITLES = {"lut": "LUT", "ff": "FF", "period_ns": "period"}
STRATEGIES = ("latency", "resource", "resource_unrolled", "distributed_arithmetic")


@dataclass(frozen=True)
class LayerEstimate:
    """One Keras layer.

    Args:
        layer: Its path.
        ebops: Exact.
        counts: LUT, FF, DSP, BRAM; None where the backend does not attribute them.
        cycles: Its share of the latency, in clock cycles; None where unknown.
    """

    layer: str
    ebops: float
    counts: Counts | None
    cycles: float | None


@dataclass(frozen=True)
class Estimate:
    """A whole model on one device, by one backend.

    Args:
        model: Name of the graph.
        digest: Of the graph.
        backend: Name of the backend.
        strategy: ``adder_graph``, ``latency`` or ``distributed_arithmetic``.
        device: The part.
        clock_ns: Clock period asked for.
        ebops: Effective bit operations; exact.
        counts: LUT, FF, DSP, BRAM in all.
        timing: Cycles, II, period, nanoseconds.
        layers: By Keras layer path, in order.
        basis: Sentences: what the numbers are based on.
    """

    model: str
    digest: str
    backend: str
    strategy: str
    device: Device
    clock_ns: float
    ebops: float
    counts: Counts
    timing: latency.Latency
    layers: tuple[LayerEstimate, ...]
    basis: tuple[str, ...]

    @property
    def based_on(self) -> str:
        """One line for people."""
        return "; ".join(self.basis)

    def utilisation(self) -> dict[str, float]:
        """Share of the device that each resource takes, by the single guess; 1 is all of it."""
        used = {"lut": self.counts.lut, "ff": self.counts.ff, "dsp": self.counts.dsp, "bram18": self.counts.bram}
        return {key: value.value / self.device.available[key] for key, value in used.items() if value and self.device.available[key]}

    def to_dict(self) -> dict[str, Any]:
        """JSON values; every number with an error is ``{"low", "value", "high"}``."""
        timing = self.timing
        return {
            "model": self.model,
            "digest": self.digest,
            "backend": self.backend,
            "strategy": self.strategy,
            "part": self.device.part,
            "device": {"title": self.device.title, "available": dict(self.device.available), "source": self.device.source},
            "clock_ns": self.clock_ns,
            "ebops": self.ebops,
            **_counts(self.counts),
            "utilisation": {key: round(value, 6) for key, value in self.utilisation().items()},
            "latency_cycles": timing.cycles.to_dict(),
            "ii_cycles": timing.interval.to_dict(),
            "period_ns": _rounded(timing.period_ns),
            "latency_ns": _rounded(timing.ns),
            "meets_clock": timing.meets,
            "layers": [
                {"layer": row.layer, "ebops": row.ebops, "latency_cycles": row.cycles, **_counts(row.counts)} for row in self.layers
            ],
            "based_on": list(self.basis),
        }


def estimate(graph: Graph, part: str, clock_ns: float, backend: str = "rtl", options: Mapping[str, str] | None = None) -> Estimate:
    """What `graph` will cost; `prior`, corrected by what was learned from the user's own reports (`hgq.estimate.learning`).

    Args and errors are those of `prior`.
    """
    return _learned(prior(graph, part, clock_ns, backend, options))


def prior(graph: Graph, part: str, clock_ns: float, backend: str = "rtl", options: Mapping[str, str] | None = None) -> Estimate:
    """What `graph` will cost by our own calibration.

    Args:
        graph: A frozen model.
        part: Device; see `hgq.estimate.devices`.
        clock_ns: Clock period asked for.
        backend: Name of a backend.
        options: The backend's own options, as for ``hgq export``.

    Raises:
        ConfigError: unknown part, backend or option.
        ToolNotFound: a package that the backend needs is absent.
        LoweringError: the backend cannot take the graph, or has no estimate.
    """
    device = device_of(part)
    asked = Options(part=device.part, clock_ns=clock_ns, extra=options or {})
    ebops = resources.layer_ebops(graph)
    if backend == "hls4ml":
        strategy, structure, counts, timing, basis = _hls4ml(graph, device, asked, sum(ebops.values()))
    else:
        strategy, structure = "adder_graph", _structure(graph, backend, asked)
        counts, timing = from_structure(structure, device, clock_ns)
        fitted = device.family.fits if structure.counts else {}
        texts = {**device.family.basis, **{name: fit.basis for name, fit in fitted.items()}}
        cycles = "cycles and II: exact, from the pipeline that is written"
        if structure.alike:
            cycles = "cycles: of the pipeline of these positions; of the whole design they may be one more or less"
            basis = (_of_positions(structure),)
        else:
            basis = ()
        basis = (*basis, f"LUT: {texts['lut']}", f"FF: {texts['ff']}", cycles, texts["period"])
    chosen = hls.strategies(graph, asked.extra) if backend == "hls4ml" else {}
    if strategy != "distributed_arithmetic" and hls.takes_turns(chosen):
        by_layer = {layer: row.counts for layer, row in hls.by_layer(graph, chosen).items()}
    else:
        by_layer = resources.layer_counts(graph, structure, device, strategy)
    layers = _layers(ebops, structure, by_layer, timing)
    basis = ("EBOPs: exact, declared data bits x effective constant bits", *basis)
    digest = graph.digest()
    return Estimate(graph.name, digest, backend, strategy, device, clock_ns, sum(ebops.values()), counts, timing, layers, basis)


def _of_positions(structure: Structure) -> str:
    alike = structure.alike
    text = f"{alike['traced']:,.0f} of {alike['positions']:,.0f} positions of convolutions and poolings, for all that are alike"
    return f"counted: {text}" + (f"; {alike['error']:.1%} error where they are not" if alike["error"] else "")


def from_structure(structure: Structure, device: Device, clock_ns: float) -> tuple[Counts, latency.Latency]:
    """Counts and timing of an adder graph."""
    counts = resources.adder_graph(structure, device)
    return counts, latency.of_pipeline(structure, device, counts.lut, clock_ns)


def _learned(found: Estimate) -> Estimate:
    from hgq.estimate.learning import corrections

    counts, timing = found.counts, found.timing
    ranges = {"lut": counts.lut, "ff": counts.ff, "period_ns": timing.period_ns}
    factors = {key: part * (1 / part.value) for key, part in ranges.items() if part is not None and part.value > 0}
    learned = corrections(found.device, found.strategy, factors)
    if not learned:
        return found
    texts = [
        f"{TITLES[key]}: x {one.factor.value:.3f} after {one.measurements} of your own reports on this part (they say {one.mean:.3f})"
        for key, one in learned.items()
    ]
    layers = found.layers
    if lut := learned.get("lut"):
        counts = replace(counts, lut=lut.apply(counts.lut).rounded())
        layers = tuple(
            replace(row, counts=replace(row.counts, lut=lut.apply(row.counts.lut).rounded()) if row.counts else None) for row in layers
        )
    if (ff := learned.get("ff")) and counts.ff is not None:
        counts = replace(counts, ff=ff.apply(counts.ff).rounded())
    if period := learned.get("period_ns"):
        timing = latency.with_period(timing, period.apply(timing.period_ns), found.clock_ns)
    return replace(found, counts=counts, timing=timing, layers=layers, basis=(*found.basis, *texts))


def _hls4ml(
    graph: Graph, device: Device, asked: Options, ebops: float
) -> tuple[str, Structure | None, Counts, latency.Latency, tuple[str, ...]]:
    """hls4ml has no estimate of its own, and no open tool can synthesise its C++: published numbers stand in."""
    if device.family.vendor != "AMD":
        raise ConfigError("Vitis HLS does not target this part.", where=device.part, expected="an AMD part", fix="Use `--backend rtl`.")
    stems = {key.split(":")[0]: value for key, value in asked.extra.items()}
    check_extra(replace(asked, extra=stems), backend_named("hls4ml").options(), "hls4ml")
    chosen = hls.strategies(graph, asked.extra)
    named = {strategy for strategy, _ in chosen.values()} or {"latency"}
    strategy = named.pop() if len(named) == 1 else "mixed"
    if strategy not in (*STRATEGIES, "mixed") or (strategy == "mixed" and not named <= set(hls.UNROLLED)):
        raise ConfigError(
            "There is no estimate for this strategy.",
            where="strategy",
            expected=f"{', '.join(STRATEGIES)}; in one model only {', '.join(hls.UNROLLED)} together",
            received=", ".join(sorted({strategy for strategy, _ in chosen.values()})),
        )
    if strategy != "distributed_arithmetic" and hls.takes_turns(chosen):
        return _shared(graph, device, asked.clock_ns, strategy, hls.by_layer(graph, chosen))
    period_text = "achievable period: the clock asked for less 27 % HLS uncertainty, or what routing allows; a range, not a promise"
    if strategy == "latency":
        counts = resources.hls_latency(ebops, sum(resources.dsp_candidates(graph).values()))
        timing = latency.of_hls_latency(ebops, device, counts.lut, asked.clock_ns, list(resources.turns(graph).values()))
        return (
            strategy,
            None,
            counts,
            timing,
            (
                "LUT + 55 DSP: roughly EBOPs (HGQ paper), no calibration of ours: no open tool synthesises hls4ml's C++",
                "DSP: up to one for each product of 55 EBOPs or more",
                "FF and cycles: fitted to eight published jet models (HGQ, VU9P, 5 ns), rough elsewhere",
                period_text,
            ),
        )
    structure = _structure(graph, "rtl", Options(part=asked.part, clock_ns=asked.clock_ns))
    structure = structure.in_turns(resources.by_layer_turns(graph))
    counts = resources.hls_distributed_arithmetic(structure.cost, device)
    timing = latency.of_hls_additions(structure, device, counts.lut, asked.clock_ns, list(resources.turns(graph).values()))
    return (
        strategy,
        structure,
        counts,
        timing,
        (
            f"LUT: {device.family.basis['lut']}, widened since HLS shares less",
            "FF: 0.53 a LUT, median of 20 post-route designs at 2 ns",
            "cycles: depth of the adder graph over the clock less 27 % HLS uncertainty",
            period_text,
        ),
    )


def _shared(
    graph: Graph, device: Device, clock_ns: float, strategy: str, layers: Mapping[str, hls.LayerHLS]
) -> tuple[str, Structure | None, Counts, latency.Latency, tuple[str, ...]]:
    """Layers with multipliers that take turns."""
    counts = resources.summed([row.counts for row in layers.values()])
    interval = max((row.interval for row in layers.values()), key=lambda part: part.value)
    timing = latency.of_hls_turns(total(row.cycles for row in layers.values()), interval, device, counts.lut, clock_ns)
    basis = (
        "LUT, FF, DSP, BRAM: the structure of hls4ml's shared multipliers with the widest weight and value of each layer; no calibration: "
        "no open tool synthesises the C++, and no published design has both figures",
        "cycles: turns of each layer, its sums, and 2 to 10 cycles besides; II: the longest turns",
        "zeros and signed digits save nothing here: constants are data",
    )
    return strategy, None, counts, timing, basis


def _structure(graph: Graph, backend: str, asked: Options) -> Structure:
    return Structure.of(backend_named(backend).resources(graph, asked), backend)


def _layers(
    ebops: Mapping[str, float], structure: Structure | None, counts: Mapping[str, Counts], timing: latency.Latency
) -> tuple[LayerEstimate, ...]:
    depth_of = structure.depth_of if structure is not None else {}
    depth = sum(depth_of.values())
    rows = []
    for layer in dict.fromkeys([*ebops, *counts]):
        share = round(timing.cycles.value * depth_of.get(layer, 0.0) / depth, 2) if depth > 0 else None
        rows.append(LayerEstimate(layer, ebops.get(layer, 0), counts.get(layer), share))
    return tuple(rows)


def _counts(counts: Counts | None) -> dict[str, Any]:
    if counts is None:
        return {"lut": None, "ff": None, "dsp": None, "bram18": None}
    parts = {"lut": counts.lut, "ff": counts.ff, "dsp": counts.dsp, "bram18": counts.bram}
    return {key: part.to_dict() if part is not None else None for key, part in parts.items()}


def _rounded(interval: Interval) -> dict[str, float]:
    return {key: round(value, 2) for key, value in interval.to_dict().items()}

"""What ``hgq estimate --synth`` adds: a real synthesiser's answer beside the estimate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hgq.cli import _output

if TYPE_CHECKING:
    from hgq.estimate import Estimate, Interval
    from hgq.ir.graph import Graph
    from hgq.synth import Synthesis


def synthesise(graph: Graph, found: Estimate, options: Mapping[str, str], route: bool, timeout_s: float) -> dict[str, Any]:
    """Synthesise the whole and each layer.

    Args:
        graph: The model.
        found: Its estimate.
        options: Options of the rtl backend.
        route: Whether to place and route the whole.
        timeout_s: For each run of a program.

    Returns:
        JSON values: ``whole``, ``layers`` (LUTs of each alone, or None) and ``rows`` (estimate beside synthesis).

    Raises:
        ConfigError: the estimate is not of the rtl backend.
    """
    from hgq.errors import ConfigError
    from hgq.synth import synthesise, synthesise_layers

    if found.backend != "rtl":
        raise ConfigError(
            "Only what the rtl backend writes can be synthesised here.",
            where="--synth",
            expected="--backend rtl",
            received=found.backend,
            fix="No open tool compiles the C++ that hls4ml writes. Estimate it without --synth.",
        )
    arguments: dict[str, Any] = {"clock_ns": found.clock_ns, "timeout_s": timeout_s}
    with _clock() as tell:
        whole = synthesise(graph, found.device.part, options=options, route=route, tell=tell, **arguments)
        layers = synthesise_layers(graph, found.device.part, tell=tell, **arguments)
    return {
        "whole": whole.to_dict(),
        "layers": {layer: part.netlist.lut if part else 0 for layer, part in layers.items()},
        "rows": rows(found, whole),
    }


def rows(found: Estimate, whole: Synthesis) -> list[dict[str, Any]]:
    """Estimate beside synthesis, and whether the range held."""
    net, counts = whole.netlist, found.counts
    pairs: list[tuple[str, Interval | None, float]] = [
        ("LUT", counts.lut, net.lut),
        ("FF", counts.ff, net.ff),
        ("DSP", counts.dsp, net.dsp),
        ("BRAM (18 Kb)", counts.bram, net.bram),
        ("cycles", found.timing.cycles, whole.cycles),
    ]
    if whole.placed is not None and whole.placed.fmax_mhz:
        pairs.append(("shortest period, ns", found.timing.period_ns, round(1000 / whole.placed.fmax_mhz, 2)))
    return [
        {
            "resource": name,
            "synthesised": value,
            "estimated": round(guess.value, 2) if guess else None,
            "range": f"{guess.low:,.4g} – {guess.high:,.4g}" if guess else "–",
            "off by": f"{100 * (guess.value / value - 1):+.1f} %" if guess and value else "",
            "in range": guess.low <= value <= guess.high if guess else None,
        }
        for name, guess, value in pairs
    ]


def show(result: Mapping[str, Any]) -> None:
    """The result of `synthesise` as tables on stdout."""
    whole, layers = result["whole"], result["layers"]
    net = whole["netlist"]
    kept = ", kept from before" if whole["kept"] else f" in {whole['seconds']:.0f} s"
    _output.table(result["rows"], f"Synthesis for {whole['target']} by {whole['tool']}{kept}")
    sizes = ", ".join(f"{count:,} LUT{size}" for size, count in net["luts_by_size"].items())
    _output.result(
        f"{sizes}; {net['carry']:,} carry cells; at most {net['depth_lut']} LUTs and {net['depth_carry']} carry cells in a path."
    )
    if len(layers) > 1:
        total = sum(layers.values()) or 1
        _output.table(
            [{"layer": layer, "LUT": lut, "share": f"{lut / total:.1%}"} for layer, lut in layers.items()],
            "Each layer synthesised alone, without registers",
        )


@contextmanager
def _clock() -> Iterator[Callable[[str], None]]:
    """What is going on and for how long, on stderr; a line for each step where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _output.progress
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", start=True)

        def tell(text: str) -> None:
            bar.reset(task, description=text, start=True)

        start = time.monotonic()
        yield tell
    _output.done(f"synthesised in {time.monotonic() - start:.0f} s")

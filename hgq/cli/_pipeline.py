"""Which part, clock and pipeline a command is about: what the user says, else what the model was trained for, else the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgq.cli import _output

if TYPE_CHECKING:
    from hgq.ir.graph import Graph

DEFAULT_PART, DEFAULT_CLOCK = "xcvu13p-flga2577-2-e", 5.0
OF_THE_MODEL = "what the model was trained for, else "
CUTS = ("stages", "latency_cutoff")

Part = Annotated[
    str | None,
    typer.Option("--part", "-p", help="Device, as its vendor spells it, or a board (pynq-z2).", show_default=OF_THE_MODEL + DEFAULT_PART),
]
Clock = Annotated[
    float | None, typer.Option("--clock-ns", help="Clock period asked for, in ns.", show_default=f"{OF_THE_MODEL}{DEFAULT_CLOCK:g}")
]


def choose(
    graph: Graph, backend: str, part: str | None, clock_ns: float | None, options: dict[str, str], latency_ns: float | None = None
) -> tuple[str, float, dict[str, str]]:
    """Part, clock and options of the backend.

    Args:
        graph: A frozen model; one that `hgq train` made remembers part and clock of its recipe, and its pipeline if it has a latency.
        backend: Only the rtl backend has a pipeline to choose.
        part: As given, or None.
        clock_ns: As given, or None.
        options: As given.
        latency_ns: Nanoseconds from input to output that the pipeline must keep, or None.

    Raises:
        BudgetError: no pipeline of this graph is that fast.
        ConfigError: a latency that is none, for another backend, or with a pipeline that is given.
    """
    from hgq.errors import ConfigError
    from hgq.estimate.plan import plan, remembered

    kept, given = remembered(graph), [key for key in CUTS if key in options]
    usual_part = _noted(graph, "part", kept.part if kept else DEFAULT_PART)
    usual_clock = _noted(graph, "clock_ns", DEFAULT_CLOCK)
    if latency_ns is not None:
        if not latency_ns > 0:
            raise ConfigError(
                "This cannot be a latency.", where="--latency-ns", expected="nanoseconds, more than 0", received=f"{latency_ns:g}"
            )
        if backend != "rtl" or given:
            raise ConfigError(
                "The pipeline is not free to be cut for a latency.",
                where="--latency-ns",
                expected="--backend rtl, and neither --option stages nor --option latency_cutoff",
                received=f"--backend {backend}" + "".join(f" --option {key}={options[key]}" for key in given),
            )
        made, _ = plan(graph, part or usual_part, usual_clock if clock_ns is None else clock_ns, latency_ns, options)
        _output.progress(f"{latency_ns:g} ns: {made.cycles} cycles of {made.clock_ns:g} ns, option stages={made.stages}")
        return part or usual_part, made.clock_ns, {**options, **made.options}
    if kept is not None and backend == "rtl" and part in (None, kept.part) and clock_ns is None and not given:
        _output.progress(f"trained for {kept.wanted_ns:g} ns: {kept.part}, clock of {kept.clock_ns:g} ns, option stages={kept.stages}")
        return kept.part, kept.clock_ns, {**options, "stages": str(kept.stages)}
    return part or usual_part, usual_clock if clock_ns is None else clock_ns, options


def _noted(graph: Graph, key: str, default: Any) -> Any:
    """What the notes of a model say, if it is of the kind of `default`: a file may say anything."""
    said = graph.meta.get(key)
    return said if isinstance(said, type(default)) else default

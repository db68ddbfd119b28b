"""`hgq estimate`: what a frozen model will cost on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hgq.cli import _learning, _output, _synth
from hgq.cli._pipeline import Clock, Part, choose
from hgq.cli.export import parse_options

if TYPE_CHECKING:
    from hgq.estimate import Estimate, Interval


def command(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL.hgq", help="A frozen model.", show_default=False)] = None,
    part: Part = None,
    clock_ns: Clock = None,
    latency_ns: Annotated[
        float | None, typer.Option("--latency-ns", help="Cut the pipeline of the RTL so that it takes no longer.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", "-b", help="rtl, hls4ml, or one that you installed.")] = "rtl",
    option: Annotated[list[str] | None, typer.Option("--option", "-O", metavar="KEY=VALUE", help="An option of the backend.")] = None,
    synth: Annotated[bool, typer.Option("--synth", help="Check it: synthesise the RTL by Yosys, whole and layer by layer.")] = False,
    route: Annotated[bool, typer.Option("--route", help="With --synth: place and route too, for the real clock (ECP5).")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for each run of the synthesiser.")] = 1800.0,
    learn: Annotated[
        Path | None, typer.Option("--learn", help="Learn from the reports of your vendor's tool: a folder of exported projects with them.")
    ] = None,
    learned: Annotated[bool, typer.Option("--learned", help="List what was learned.")] = False,
    forget: Annotated[str | None, typer.Option("--forget", metavar="PART|all", help="Forget what was learned about a part.")] = None,
    as_json: _output.AsJson = False,
) -> None:
    """Estimate LUT, FF, DSP, block RAM, latency and II, per layer and in all, with ranges and their basis.

    With --synth a real synthesiser checks it here, without a vendor's tools; its answers are kept. With --learn the reports of your own
    Vivado, Vitis HLS or Quartus runs correct the estimates for their parts from then on.
    """
    if learn is not None or learned or forget is not None:
        _learning.run(learn, forget, as_json)
        if model is None or as_json:
            return
    if model is None:
        raise typer.BadParameter("Name the model to estimate.", param_hint="MODEL.hgq")
    from hgq.estimate import estimate
    from hgq.ir import file

    graph, options = file.load(model), parse_options(option or [])
    part, clock_ns, options = choose(graph, backend, part, clock_ns, options, latency_ns)
    found = estimate(graph, part, clock_ns, backend, options)
    checked = _synth.synthesise(graph, found, options, route, timeout_s) if synth or route else None
    if as_json:
        _output.json_result({**found.to_dict(), **({"synthesis": checked} if checked else {})})
        return
    show(found)
    if checked:
        _synth.show(checked)


def show(found: Estimate) -> None:
    """The estimate as tables on stdout."""
    title = f"{found.model} · {found.backend} ({found.strategy.replace('_', ' ')}) · {found.device.part} · {found.clock_ns:g} ns"
    _output.table(layer_rows(found), title)
    timing = found.timing
    _output.table(
        [
            {"timing": "latency", "guess": _text(timing.cycles), "range": _range(timing.cycles), "unit": "cycles"},
            {"timing": "initiation interval", "guess": _text(timing.interval), "range": _range(timing.interval), "unit": "cycles"},
            {"timing": "shortest period", "guess": _text(timing.period_ns), "range": _range(timing.period_ns), "unit": "ns"},
            {"timing": "latency", "guess": _text(timing.ns), "range": _range(timing.ns), "unit": "ns"},
            {"timing": f"{found.clock_ns:g} ns clock reached", "guess": timing.meets, "range": "", "unit": ""},
        ]
    )
    _output.result("Based on: " + "\n          ".join(found.basis))


def layer_rows(found: Estimate) -> list[dict[str, str]]:
    """One row for each layer, then the total and the share of the device."""
    rows = []
    for row in found.layers:
        counts = row.counts
        rows.append(
            {
                "layer": row.layer or "(model)",
                "EBOPs": f"{row.ebops:,}",
                "LUT": _both(counts.lut) if counts else "–",
                "FF": _both(counts.ff) if counts else "–",
                "DSP": _both(counts.dsp) if counts else "–",
                "BRAM": _both(counts.bram) if counts else "–",
                "cycles": f"{row.cycles:.1f}" if row.cycles is not None else "–",
            }
        )
    total, share = found.counts, found.utilisation()
    rows.append(
        {
            "layer": "total",
            "EBOPs": f"{found.ebops:,}",
            "LUT": _both(total.lut),
            "FF": _both(total.ff),
            "DSP": _both(total.dsp),
            "BRAM": _both(total.bram),
            "cycles": _both(found.timing.cycles),
        }
    )
    rows.append(
        {
            "layer": "of the device",
            "EBOPs": "",
            **{label: f"{share.get(key, 0):.2%}" for label, key in (("LUT", "lut"), ("FF", "ff"), ("DSP", "dsp"), ("BRAM", "bram18"))},
            "cycles": "",
        }
    )
    return rows


def _both(interval: Interval | None) -> str:
    """The guess, and its range in brackets where there is one."""
    if interval is None:
        return "–"
    return _text(interval) if interval.is_exact else f"{_text(interval)} ({_range(interval)})"


def _text(interval: Interval) -> str:
    return _number(interval.value)


def _range(interval: Interval) -> str:
    return "exact" if interval.is_exact else f"{_number(interval.low)} – {_number(interval.high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"

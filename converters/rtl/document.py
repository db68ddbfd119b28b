"""The README of a project, and the comment at the top of its top module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hgq.firmware_templates import one_line, render

from .layout import Slot
from .pipeline import Pipeline
from .settings import Settings

ROWS = 64
"""Elements of one port that the README lists; `ports.json` has them all."""


def readme(pipeline: Pipeline, settings: Settings, counts: Mapping[str, Any], sources: list[str], vectors: int) -> str:
    """What a person who gets the folder needs to know."""
    graph = pipeline.traced.graph
    ports = {port.name: port for port in graph.inputs}
    slots = []
    for slot in pipeline.layout_in.slots:
        port = ports[slot.name]
        text = f"Bits of `model_inp`; shape {_shape(slot)}. The host quantizes real numbers into it with rounding {port.rounding} and "
        slots.append(_described(slot, f"Input `{slot.name}`", text + f"overflow {port.overflow}."))
    for slot in pipeline.layout_out.slots:
        slots.append(_described(slot, f"Output `{slot.name}`", f"Bits of `model_out`; shape {_shape(slot)}."))
    return render(
        "rtl/README.md.j2",
        name=settings.name,
        model=one_line(graph.name),
        language={"verilog": "Verilog", "vhdl": "VHDL-2008"}[settings.flavor],
        suffix={"verilog": "v", "vhdl": "vhd"}[settings.flavor],
        part=settings.device.part,
        clock_ns=settings.clock_ns,
        clocked=pipeline.clocked,
        latency_cycles=pipeline.latency_cycles,
        stages=pipeline.stages,
        register_bits=pipeline.register_bits,
        stage_delay=counts["stage_delay"],
        max_delay=counts["max_delay"],
        cost=counts["lut_cost"],
        digest=graph.digest(),
        width_in=pipeline.layout_in.width,
        width_out=pipeline.layout_out.width,
        slots=slots,
        vectors=vectors,
        simulate=_simulate(settings, sources),
        synthesise=_synthesise(pipeline, settings),
        layers=_layers(pipeline, counts),
    )


def header(pipeline: Pipeline, settings: Settings, counts: Mapping[str, Any]) -> str:
    """Comment lines: what this is, and which layers it came from."""
    graph = pipeline.traced.graph
    lines = [
        f"{settings.name}: model {graph.name}, written by hgqc's rtl backend for {settings.device.part}",
        f"model digest {graph.digest()}",
        f"{pipeline.latency_cycles} clock cycles latency, one sample each cycle" if pipeline.clocked else "combinational",
        "layers, nodes and operations (adder-graph cost):",
        *(f"  {row['layer']}  {row['node']}  {row['op']}  ({row['cost']:.0f})" for row in _layers(pipeline, counts)),
        "ports: see README.md and ports.json",
    ]
    mark = "//" if settings.flavor == "verilog" else "--"
    return "".join(f"{mark} {one_line(line)}".rstrip() + "\n" for line in lines) + "\n"


def _shape(slot: Slot) -> str:
    return f"({', '.join(map(str, slot.shape))})" if slot.shape else "scalar"


def _described(slot: Slot, title: str, text: str) -> dict[str, Any]:
    rows = []
    for index in range(min(len(slot.offset), ROWS)):
        width, low = int(slot.format.width[index]), int(slot.offset[index])
        kif = {key: int(part[index]) if width else "–" for key, part in zip("kif", slot.format.astuple(), strict=True)}
        rows.append({"element": index, "bits": f"[{low + width - 1}:{low}]" if width else "–", **kif})
    return {"title": title, "text": text, "rows": rows, "more": max(len(slot.offset) - ROWS, 0)}


def _layers(pipeline: Pipeline, counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    shapes = pipeline.traced.lowered.shapes()
    rows = []
    for row in counts["per_node"]:
        elements = " x ".join(map(str, shapes[row["node"]])) or "1"
        rows.append({"layer": row["source"] or "–", "node": row["node"], "op": row["op"], "elements": elements, "cost": row["lut_cost"]})
    return rows


def _simulate(settings: Settings, sources: list[str]) -> str:
    if settings.flavor == "verilog":
        return "make -C sim check    # Verilator and g++"
    files = " ".join(f"../{path}" for path in sources)
    return (
        f"cd sim\nghdl -a --std=08 {files} testbench.vhd\n"
        "ghdl --elab-run --std=08 testbench --ieee-asserts=disable\ncmp results.hex expected.hex"
    )


def _synthesise(pipeline: Pipeline, settings: Settings) -> str:
    if settings.device.family.vendor == "AMD":
        return "`vivado -mode batch -source build.tcl` synthesises, places and routes out of context; its reports go to `build/`."
    constraints = f" `src/{settings.name}.sdc` holds the clock." if pipeline.clocked else ""
    return f"Give all files of `src/` and `src/static/` to your tool, with `{settings.name}` as top module.{constraints}"

"""From a pipeline to a `FirmwareProject`: alkaid's sources, and what a person needs beside them."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hgq.firmware_templates import render

from hgq import __version__
from hgq.ir import interpret
from hgq.passes import probe
from hgq.project import FirmwareProject

from .document import header, readme
from .layout import Layout, mantissas, to_hex
from .pipeline import Pipeline, lowering, pipelined
from .settings import Settings
from .summary import summary
from .trace import Traced

SUFFIX = {"verilog": "v", "vhdl": "vhd"}
VECTORS = 256
"""Golden vectors in the project."""


@dataclass(frozen=True, eq=False)
class Sources:
    """The HDL files of a project by path, in an order that every tool can compile."""

    files: Mapping[str, str]
    constraints: Mapping[str, str]


def emit(traced: Traced, settings: Settings) -> FirmwareProject:
    """The whole project; the same graph and settings give the same bytes.

    Raises:
        LoweringError: there is no hardware to write, or alkaid cannot write it.
    """
    pipeline = pipelined(traced, settings)
    counts = summary(pipeline)
    sources = _sources(pipeline, settings, counts)
    stimuli, expected = golden_vectors(pipeline)
    facts = {
        "name": settings.name,
        "clocked": pipeline.clocked,
        "latency_cycles": pipeline.latency_cycles,
        "width_in": pipeline.layout_in.width,
        "width_out": pipeline.layout_out.width,
        "bytes_in": pipeline.layout_in.row_bytes,
        "bytes_out": pipeline.layout_out.row_bytes,
    }
    files: dict[str, str | bytes] = {**sources.files, **sources.constraints}
    files["sim/stimuli.hex"], files["sim/expected.hex"] = stimuli, expected
    if settings.flavor == "verilog":
        paths = [f"../{path}" for path in sources.files]
        files["sim/testbench.cc"] = render("rtl/testbench.cc.j2", **facts)
        files["sim/Makefile"] = render("rtl/Makefile.j2", name=settings.name, sources=paths, vectors=stimuli.count("\n"))
    else:
        files["sim/testbench.vhd"] = render("rtl/testbench.vhd.j2", **facts)
    if settings.device.family.vendor == "AMD":
        files["build.tcl"] = render(
            "vivado/build.tcl.j2",
            name=settings.name,
            part=settings.device.part,
            flavor=settings.flavor,
            sources=list(sources.files),
            constraints=next((path for path in sources.constraints if path.endswith(".xdc")), None),
        )
    files["ports.json"] = ports_json(pipeline, settings, list(sources.files))
    files["README.md"] = readme(pipeline, settings, counts, list(sources.files), stimuli.count("\n"))
    return FirmwareProject(settings.name, files, _meta(pipeline, settings, counts))


def _meta(pipeline: Pipeline, settings: Settings, counts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "backend": "rtl",
        "hgqc": __version__,
        "graph": pipeline.traced.graph.digest(),
        "model": pipeline.traced.graph.name,
        "part": settings.device.part,
        "clock_ns": settings.clock_ns,
        "flavor": settings.flavor,
        "latency_cutoff": settings.latency_cutoff,
        "ternary_fuse": settings.ternary_fuse,
        **{key: value for key, value in counts.items() if key != "per_node"},
    }


def _sources(pipeline: Pipeline, settings: Settings, counts: Mapping[str, Any]) -> Sources:
    """What alkaid writes, less its own scripts, simulator and metadata: those hold random identifiers and times."""
    from alkaid.codegen import RTLModel

    suffix, name = SUFFIX[settings.flavor], settings.name
    with lowering(pipeline.traced), tempfile.TemporaryDirectory(prefix="hgq-rtl-") as temporary:
        folder = Path(temporary) / name
        RTLModel(
            pipeline.fsm,
            folder,
            prj_name=name,
            flavor=settings.flavor,
            print_latency=False,
            part_name=settings.device.part,
            clock_period=settings.clock_ns,
            ternary_fuse=False,  # done already
        ).write()
        hdl = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.glob(f"src/**/*.{suffix}")}
        wanted = "xdc" if settings.device.family.vendor == "AMD" else "sdc"
        constraints = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.glob(f"src/*.{wanted}")}
    if settings.flavor == "verilog":  # alkaid's needs a third operand where a subtrahend reaches below the minuend: up to twice the LUTs
        hdl["src/static/shift_adder.v"] = render("rtl/shift_adder.v.j2")
    hdl = {_prefixed(path, name): _prefixed(text, name) for path, text in hdl.items()}
    top, wrapper = f"src/{name}.{suffix}", f"src/{name}_wrapper.{suffix}"
    hdl[top] = header(pipeline, settings, counts) + hdl[top]

    def order(path: str) -> tuple[int, str]:
        kinds = (path.startswith("src/static/"), path.endswith(f"_tables.{suffix}"), path not in (top, wrapper), path == top)
        return (kinds.index(True) if True in kinds else len(kinds)), path

    return Sources({path: hdl[path] for path in sorted(hdl, key=order)}, constraints)


def _prefixed(text: str, name: str) -> str:
    """Alkaid calls the stages ``logic0``, ``logic1`` … in every project; two models in one design must not share names."""
    return re.sub(r"\blogic(\d+)\b", rf"{name}_logic\1", text)


def golden_vectors(pipeline: Pipeline) -> tuple[str, str]:
    """Samples and what the golden model makes of them, as hexadecimal lines."""
    graph = pipeline.traced.graph
    samples = probe(graph, VECTORS)
    golden = interpret.run(graph, samples)
    stimuli = to_hex(packed_inputs(pipeline, samples))
    flat = np.concatenate([golden[name].reshape(VECTORS, -1) for name in graph.outputs], axis=1)
    layout = pipeline.layout_out
    return stimuli, to_hex(layout.pack(mantissas(flat, layout.format.f), layout.format.f))


def packed_inputs(pipeline: Pipeline, x: Any) -> np.ndarray:
    """Bytes of ``model_inp`` for real numbers by input name, shape (samples, bytes)."""
    graph = pipeline.traced.graph
    data = interpret.check_samples(graph, x)
    samples = len(next(iter(data.values())))
    flat, f = [], []
    for port in graph.inputs:
        flat.append(port.format.quantize(data[port.name], port.rounding, port.overflow).reshape(samples, math.prod(port.shape)))
        f.append(port.format.f.ravel())
    return pipeline.layout_in.pack(np.concatenate(flat, axis=1), np.concatenate(f))


def ports_json(pipeline: Pipeline, settings: Settings, sources: list[str]) -> str:
    """The port layout for programs: per element, in C order, ``lsb`` (null where it has no bits), ``width``, ``k``, ``i``, ``f``.

    Also ``sources``: the HDL files in an order that every tool can compile.
    """
    graph = pipeline.traced.graph
    modes = {port.name: {"rounding": port.rounding, "overflow": port.overflow} for port in graph.inputs}
    content = {
        "top": settings.name,
        "clock": "clk" if pipeline.clocked else None,
        "latency_cycles": pipeline.latency_cycles,
        "initiation_interval": 1 if pipeline.clocked else 0,
        "value": "two's complement integer of the element's bits, times 2**-f",
        "sources": sources,
        "inputs": _port(pipeline.layout_in, "model_inp", modes),
        "outputs": _port(pipeline.layout_out, "model_out", {}),
    }
    return json.dumps(content, indent=1) + "\n"


def _port(layout: Layout, signal: str, modes: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    values = [{**slot.describe(), **modes.get(slot.name, {})} for slot in layout.slots]
    return {"signal": signal, "width": layout.width, "values": values}

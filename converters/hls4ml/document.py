"""What the project says about itself: `ports.json` for programs, `README.md` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from hgq.backend import Options
from hgq.numerics import Fixed

from .dialect import Dialect
from .lower import Program
from .settings import Settings
from .vendors import Vendor

INTERFACES = {
    "io_parallel": "Tensors are flat arrays in C order, each element on wires of its own.",
    "io_stream": "Tensors are streams of `nnet::array` packets: one packet for each index of all axes but the last, in C order.",
}
"""What a tensor is in C++."""

OPTIONS = {"Vitis": "; `csim`, `synth`, `cosim`, `export` and `vsynth` are switched by `build_opt.tcl`"}
"""What the sentence about running the project adds."""


def ports_json(program: Program, argument: Mapping[str, str], dialect: Dialect) -> str:
    """Ports with their exact formats, flattened in C order, and the C++ argument that carries each.

    Args:
        program: What was lowered.
        argument: C++ argument by layer name.
        dialect: How types are spelled.
    """
    formats = program.graph.formats()
    inputs = [
        {
            "name": port.name,
            "argument": argument[program.inputs[port.name]],
            "type": dialect.type(program.types[program.inputs[port.name]]["result"]),
            "shape": list(port.shape),
            **_kif(port.format),
            "rounding": port.rounding,
            "overflow": port.overflow,
        }
        for port in program.graph.inputs
    ]
    outputs = [
        {
            "name": name,
            "argument": argument[layer],
            "type": dialect.type(program.types[layer]["result"]),
            "shape": list(formats[name].shape),
            **_kif(formats[name]),
        }
        for name, layer in program.outputs.items()
    ]
    return json.dumps({"inputs": inputs, "outputs": outputs}, indent=1) + "\n"


def _kif(fixed: Fixed) -> dict[str, list[int]]:
    return {key: part.ravel().tolist() for key, part in zip("kif", fixed.canonical().astuple(), strict=True)}


def readme(
    program: Program, argument: Mapping[str, str], options: Options, settings: Settings, chosen: Sequence[tuple[str, str, str, int]]
) -> str:
    """How to run the project, what its ports are, and which layer of the model each line of C++ came from."""
    top, vendor = options.name, settings.vendor
    ports = json.loads(ports_json(program, argument, settings.dialect))
    products = [f"| `{name}` | {source} | {strategy} | {reuse} | {settings.reuse_of(source)} |" for name, source, strategy, reuse in chosen]
    rows = [
        f"| {direction} | `{port['name']}` | `{port['argument']}` | `{port['type']}` | {tuple(port['shape'])} | {_bits(port)} |"
        for direction in ("inputs", "outputs")
        for port in ports[direction]
    ]
    sources = [f"| `{name}` | {source} |" for name, source in program.sources.items() if source]
    qualified = f"{settings.namespace}::{top}" if settings.namespace else top
    return f"""# {top}

The graph `{program.graph.name}` as a project for {vendor.compiler}, written by hgqc with hls4ml's back end {vendor.name}.

- part `{options.part}`, clock {options.clock_ns:g} ns
- {settings.io_type}, strategy `{settings.strategy}`, initiation interval {settings.reuse_factor} (asked for)
- graph digest `{program.graph.digest()}`

## Run it

In {vendor.compiler}, from this folder{OPTIONS.get(vendor.name, "")}:

{chr(10).join(f"    {line.replace('@top@', top)}" for line in vendor.run)}

{_without_tools(vendor)}

## Interface

The top function is `{qualified}` in `{vendor.folder}/{top}.cpp`. {INTERFACES[settings.io_type]}

| | port | argument | type of every element | shape | bits used |
|---|---|---|---|---|---|
{chr(10).join(rows)}

HLS gives all elements of a tensor one type; the bits that an element really uses are in `ports.json` (`k` sign, `i` integer, `f` fractional
bits of each element). Real numbers must be rounded and overflowed into those formats by whoever drives the ports, as `ports.json` says:
the hardware takes bits as they are.

## Products

hls4ml takes a reuse factor only if it divides the layer's products in a certain way, and else the nearest that does.

| layer | layer of the model | strategy | reuse factor | asked for |
|---|---|---|---|---|
{chr(10).join(products)}

## Where the layers came from

| layer in `{vendor.folder}/{top}.cpp` | layer of the model |
|---|---|
{chr(10).join(sources)}
"""


def _without_tools(vendor: Vendor) -> str:
    if vendor.sycl:
        return "Without the vendor's tools: `hgq verify --backend hls4ml` compiles the layers with g++; headers of hgqc stand for SYCL's."
    does = "what `hgq verify --backend hls4ml` does, faster, by itself"
    return f"Without the vendor's tools, as a library for g++: `bash build_lib.sh` ({does})."


def _bits(port: Mapping[str, list[int]]) -> int:
    return sum(max(k + i + f, 0) for k, i, f in zip(port["k"], port["i"], port["f"], strict=True))

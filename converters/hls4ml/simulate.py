"""hls4ml's C simulation: g++ compiles the project together with a small driver; the driver runs as a process of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgq import tools
from hgq.errors import ConfigError, ToolFailed
from hgq.ir import interpret
from hgq.project import FirmwareProject

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hgq.ir.graph import Graph

log = logging.getLogger("hgq.converters.hls4ml")

FLAGS = ("-std=c++17", "-O1", "-w")
"""Measured on a 16-64-32-32-5 MLP: -O0 compiles in 7.2 s and runs 10,000 samples in 30 s; -O1 takes 7.8 s and 1.5 s; more gains nothing."""

COMPILE_TIMEOUT_S = 1800.0
RUN_TIMEOUT_S = 1800.0

DRIVER = """// Reads samples as doubles (all inputs of a sample, in order), writes the outputs alike. Written by hgqc.
#include "firmware/@top@.cpp"
#include <cstdio>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    FILE *in = std::fopen(argv[1], "rb"), *out = std::fopen(argv[2], "wb");
    if (!in || !out) return 3;
    static double x[@n_in@], y[@n_out@];
@arrays@
    while (std::fread(x, sizeof(double), @n_in@, in) == @n_in@) {
@load@
        @call@;
@store@
        if (std::fwrite(y, sizeof(double), @n_out@, out) != @n_out@) return 4;
    }
    return std::fclose(out) == 0 ? 0 : 5;
}
"""

STREAM = {
    "inputs": """        for (int i = 0; i < {size}; i += {pack}) {{
            nnet::array<{type}, {pack}> packet;
            for (int j = 0; j < {pack}; j++) packet[j] = x[{start} + i + j];
            {name}.write(packet);
        }}""",
    "outputs": """        for (int i = 0; i < {size}; i += {pack}) {{
            if ({name}.empty()) return 6;
            auto packet = {name}.read();
            for (int j = 0; j < {pack}; j++) y[{start} + i + j] = packet[j].to_double();
        }}
        if (!{name}.empty()) return 7;""",
}
"""How the driver feeds and empties a stream: one packet for each pixel."""


def simulate(
    project: FirmwareProject, graph: Graph, x: ArrayLike | Mapping[str, ArrayLike], workdir: Path, simulator: str | None
) -> dict[str, NDArray[Any]]:
    """Outputs of the compiled project; see `HLS4ML.simulate`."""
    if simulator not in (None, "csim"):
        raise ConfigError("The hls4ml backend has no such simulator.", expected="csim", received=repr(simulator))
    data = interpret.check_samples(graph, x)
    golden = interpret.quantize_inputs(graph, data)
    samples = len(next(iter(data.values())))
    ports = json.loads(project.files["ports.json"])
    values = np.concatenate([golden[port["name"]].reals().reshape(samples, -1) for port in ports["inputs"]], axis=1)
    binary = compile_project(project, workdir)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        source, target = Path(folder) / "in.bin", Path(folder) / "out.bin"
        source.write_bytes(np.ascontiguousarray(values, "<f8").tobytes())
        done = tools.run([binary, source, target], timeout_s=RUN_TIMEOUT_S, log=binary.parent / "run.log")
        flat = np.frombuffer(target.read_bytes(), "<f8")
    log.debug("hls4ml C simulation: %d samples in %.1f s", samples, done.wall_s)
    width = sum(len(port["k"]) for port in ports["outputs"])
    if flat.size != samples * width:
        raise ToolFailed(
            "The C simulation stopped early.", where=str(binary.parent), expected=f"{samples} samples", received=f"{flat.size // width}"
        )
    parts = np.split(flat.reshape(samples, width), np.cumsum([len(port["k"]) for port in ports["outputs"]])[:-1], axis=1)
    return {port["name"]: part.reshape(samples, *port["shape"]) for port, part in zip(ports["outputs"], parts, strict=True)}


def compile_project(project: FirmwareProject, workdir: Path) -> Path:
    """The project's compiled driver in `workdir`; compiled once per project.

    Raises:
        ToolNotFound: no g++.
        ToolFailed: the compiler ended with an error or ran out of time.
    """
    compiler = tools.require("g++")
    driver = _driver(project)
    key = hashlib.sha256("\n".join([project.digest(), driver, *FLAGS]).encode()).hexdigest()[:16]
    folder = workdir.resolve() / f"csim-{key}"
    binary = folder / "csim"
    if binary.is_file():
        return binary
    project.write(folder / "project", force=True)
    (folder / "project" / "hgq_driver.cpp").write_text(driver)
    unfinished = folder / "csim.unfinished"
    done = tools.run(
        [compiler, *FLAGS, "-Ifirmware/ap_types", f'-DWEIGHTS_DIR="{folder}/project/firmware/weights"', "hgq_driver.cpp", "-o", unfinished],
        cwd=folder / "project",
        timeout_s=COMPILE_TIMEOUT_S,
        log=folder / "compile.log",
    )
    os.replace(unfinished, binary)
    log.debug("hls4ml C simulation compiled in %.1f s", done.wall_s)
    return binary


def _driver(project: FirmwareProject) -> str:
    ports = json.loads(project.files["ports.json"])
    namespace = project.meta["options"]["namespace"]
    stream = project.meta["options"]["io_type"] == "io_stream"
    scope = f"{namespace}::" if namespace else ""
    arrays, load, store, arguments = [], [], [], []
    at = {"inputs": 0, "outputs": 0}
    for kind in ("inputs", "outputs"):
        for number, port in enumerate(ports[kind]):
            size, name, start = len(port["k"]), f"{kind}{number}", at[kind]
            at[kind] += size
            arguments.append(name)
            if stream:
                pack = port["shape"][-1]
                arrays.append(f"    hls::stream<nnet::array<{port['type']}, {pack}>> {name};")
                (load if kind == "inputs" else store).append(
                    STREAM[kind].format(name=name, size=size, pack=pack, start=start, type=port["type"])
                )
                continue
            arrays.append(f"    static {port['type']} {name}[{size}];")
            if kind == "inputs":
                load.append(f"        for (int j = 0; j < {size}; j++) {name}[j] = x[{start} + j];")
            else:
                store.append(f"        for (int j = 0; j < {size}; j++) y[{start} + j] = {name}[j].to_double();")
    pieces = {
        "top": project.name,
        "n_in": str(at["inputs"]),
        "n_out": str(at["outputs"]),
        "arrays": "\n".join(arrays),
        "load": "\n".join(load),
        "store": "\n".join(store),
        "call": f"{scope}{project.name}({', '.join(arguments)})",
    }
    text = DRIVER
    for key, piece in pieces.items():
        text = text.replace(f"@{key}@", piece)
    return text

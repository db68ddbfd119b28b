"""The program around a project's C++ that the C simulation runs: numbers in, the top function, numbers out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hgq.project import FirmwareProject

from .vendors import Vendor

DRIVER = """// Reads samples as doubles (all inputs of a sample, in order), writes the outputs alike. Written by hgqc.
#include "@source@"
#include <cstdio>
@definitions@
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
            {empty}auto packet = {name}.read();
            for (int j = 0; j < {pack}; j++) y[{start} + i + j] = packet[j].to_double();
        }}
        {left}""",
}
"""How the driver feeds and empties a stream: one packet for each pixel."""


@dataclass(frozen=True)
class Stream:
    """How a dialect's streams are declared, and asked whether they are empty (not at all: empty text)."""

    type: str
    empty: str


STREAMS = {
    "ap": Stream("hls::stream<@>", "@.empty()"),
    "quartus": Stream("nnet::stream<@>", ""),  # has no such question
    "catapult": Stream("ac_channel<@>", "@.debug_size() == 0"),
}


def driver(project: FirmwareProject, vendor: Vendor) -> str:
    """The text of the program, for a project as `write` made it."""
    ports = json.loads(project.files["ports.json"])
    settings = project.meta["options"]
    if settings["board"]:
        return _filled(project, vendor, ports, *_accelerator(project, ports))
    if vendor.sycl:
        return _filled(project, vendor, ports, *_pipes(project, vendor, ports))
    if settings["io_type"] == "io_stream":
        return _filled(project, vendor, ports, *_streams(project, vendor, ports))
    if vendor.dialect == "quartus":
        return _filled(project, vendor, ports, *_structs(project, ports))
    return _filled(project, vendor, ports, *_arrays(project, ports))


Pieces = tuple[list[str], list[str], list[str], str]
"""Declarations, statements that feed, statements that empty, the call."""


def _arrays(project: FirmwareProject, ports: Mapping[str, Any]) -> Pieces:
    """Each port is a C array, an argument of its own."""
    arrays, load, store, arguments = [], [], [], []
    for kind, number, port, start in _ports(ports):
        size, name = len(port["k"]), f"{kind}{number}"
        arguments.append(name)
        arrays.append(f"    static {port['type']} {name}[{size}];")
        if kind == "inputs":
            load.append(f"        for (int j = 0; j < {size}; j++) {name}[j] = x[{start} + j];")
        else:
            store.append(f"        for (int j = 0; j < {size}; j++) y[{start} + j] = {name}[j].to_double();")
    return arrays, load, store, f"{_scope(project)}{project.name}({', '.join(arguments)})"


def _streams(project: FirmwareProject, vendor: Vendor, ports: Mapping[str, Any]) -> Pieces:
    arrays, load, store, arguments = [], [], [], []
    stream = STREAMS[vendor.dialect]
    for kind, number, port, start in _ports(ports):
        name, pack = f"{kind}{number}", port["shape"][-1]
        arguments.append(name)
        arrays.append(_declared(stream, port, name))
        question = stream.empty.replace("@", name)
        text = STREAM[kind].format(
            name=name,
            size=len(port["k"]),
            pack=pack,
            start=start,
            type=port["type"],
            empty=f"if ({question}) return 6;\n            " if question else "",
            left=f"if (!({question})) return 7;" if question else "",
        )
        (load if kind == "inputs" else store).append(text)
    return arrays, load, store, f"{_scope(project)}{project.name}({', '.join(arguments)})"


def _declared(stream: Stream, port: Mapping[str, Any], name: str) -> str:
    packet = f"nnet::array<{port['type']}, {port['shape'][-1]}>"
    return f"    {stream.type.replace('@', packet)} {name};"


def _structs(project: FirmwareProject, ports: Mapping[str, Any]) -> Pieces:
    """Intel's compiler takes all inputs as one struct, and returns another."""
    load, store = [], []
    for kind, _, port, start in _ports(ports):
        size, member = len(port["k"]), port["argument"].rpartition(".")[2]
        if kind == "inputs":
            load.append(f"        for (int j = 0; j < {size}; j++) given.{member}[j] = x[{start} + j];")
        else:
            store.append(f"        for (int j = 0; j < {size}; j++) y[{start} + j] = taken.{member}[j].to_double();")
    return ["    static input_data given;", "    static output_data taken;"], load, store, f"taken = {project.name}(given)"


def _pipes(project: FirmwareProject, vendor: Vendor, ports: Mapping[str, Any]) -> Pieces:
    """SYCL's pipes are types; a stream passes the last axis at once, else a packet is the whole tensor."""
    header = str(project.files[f"{vendor.folder}/{project.name}.h"])
    kernel = re.findall(r"^struct (\w+) \{", header, re.MULTILINE)[0]
    pipes = dict(zip(("inputs", "outputs"), re.split(r"insert outputs", header), strict=True))
    names = {kind: re.findall(r"^using (\w+) = sycl::ext::intel::experimental::pipe<", text, re.MULTILINE) for kind, text in pipes.items()}
    load, store = [], []
    for kind, number, port, start in _ports(ports):
        pipe = names[kind][number]
        pack = port["shape"][-1] if project.meta["options"]["io_type"] == "io_stream" else len(port["k"])
        head = f"        for (int i = 0; i < {len(port['k'])}; i += {pack}) {{\n"
        each = f"            for (int j = 0; j < {pack}; j++)"
        if kind == "inputs":
            packet = f"            nnet::ExtractPipeType<{pipe}>::value_type packet;\n"
            load.append(f"{head}{packet}{each} packet[j] = x[{start} + i + j];\n            {pipe}::write(packet);\n        }}")
        else:
            store.append(f"{head}            auto packet = {pipe}::read();\n{each} y[{start} + i + j] = packet[j].to_double();\n        }}")
    store.append("        if (hgq::waiting) return 7;")
    return [], load, store, f"{kernel}()()"


def _accelerator(project: FirmwareProject, ports: Mapping[str, Any]) -> Pieces:
    """The AXI wrapper takes floating-point numbers and rounds by truncation; what it gets here is exact."""
    (port,), (result,) = ports["inputs"], ports["outputs"]
    n_in, n_out = len(port["k"]), len(result["k"])
    arrays = [f"    static input_axi_t given[{n_in}];", f"    static output_axi_t taken[{n_out}];"]
    load = [f"        for (int j = 0; j < {n_in}; j++) given[j] = input_axi_t(T_in(x[j]), j == {n_in - 1});"]
    store = [
        f"        for (int j = 0; j < {n_out}; j++) y[j] = taken[j].data;",
        f"        if (taken[{n_out - 1}].last != 1) return 8;",
    ]
    return arrays, load, store, f"{project.name}_axi(given, taken)"


def _left_out(project: FirmwareProject, vendor: Vendor) -> list[str]:
    """Arrays of weights that the project only declares: Catapult's leave them to the test bench, which reads them from text."""
    headers = [str(project.files[path]) for path in project.files if path.startswith(f"{vendor.folder}/weights/") and path.endswith(".h")]
    return [found for text in headers for found in re.findall(r"^extern ([^;]+);", text, re.MULTILINE)]


def _ports(ports: Mapping[str, Any]) -> list[tuple[str, int, Mapping[str, Any], int]]:
    """Direction, number, port, and its first element in the line of all elements of that direction."""
    found = []
    for kind in ("inputs", "outputs"):
        start = 0
        for number, port in enumerate(ports[kind]):
            found.append((kind, number, port, start))
            start += len(port["k"])
    return found


def _scope(project: FirmwareProject) -> str:
    namespace = project.meta["options"]["namespace"]
    return f"{namespace}::" if namespace else ""


def _filled(
    project: FirmwareProject, vendor: Vendor, ports: Mapping[str, Any], arrays: list[str], load: list[str], store: list[str], call: str
) -> str:
    source = f"{vendor.folder}/{project.name}.cpp"
    pieces = {
        "source": source + (f'"\n#include "{vendor.folder}/{project.name}_axi.cpp' if project.meta["options"]["board"] else ""),
        **{key: str(sum(len(port["k"]) for port in ports[kind])) for key, kind in (("n_in", "inputs"), ("n_out", "outputs"))},
        "definitions": "".join(f"{text};\n" for text in _left_out(project, vendor)),
        "arrays": "\n".join(arrays),
        "load": "\n".join(load),
        "store": "\n".join(store),
        "call": call,
    }
    text = DRIVER
    for key, piece in pieces.items():
        text = text.replace(f"@{key}@", piece)
    return text

"""A board's project around the core: AXI4-Streams, registers on AXI4-Lite, test benches, and the scripts of a tool.

What has to be computed is computed here; the text is in `firmware_templates/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hgq.firmware_templates import render

from hgq.errors import ConfigError
from hgq.estimate import estimate
from hgq.project import FirmwareProject
from hgq.synth.place import nextpnr_part

from .boards import Board
from .pipeline import Pipeline
from .settings import Settings

TEMPLATES = ("axis",)
MAGIC = 0x48475143  # "HGQC"
CONTROL = 0x0C


@dataclass(frozen=True)
class Stream:
    """How samples and results pass as frames of beats.

    Args:
        bits: Of a beat.
        width_in: Bits of a sample.
        width_out: Bits of a result.
        core_latency: Clock edges from a sample on the core's port to its result.
    """

    bits: int
    width_in: int
    width_out: int
    core_latency: int

    @property
    def beats_in(self) -> int:
        """Beats of a sample."""
        return max(-(-self.width_in // self.bits), 1)

    @property
    def beats_out(self) -> int:
        """Beats of a result."""
        return max(-(-self.width_out // self.bits), 1)

    @property
    def interval(self) -> int:
        """Clock edges between two frames."""
        return max(self.beats_in, self.beats_out)

    @property
    def latency_cycles(self) -> int:
        """Clock edges from the one that takes the last beat of a sample to the one after which its result is valid."""
        return self.core_latency + 1

    @property
    def depth(self) -> int:
        """Places of the buffer, a power of two: all frames that are inside at full speed, so that waiting for room costs no time."""
        held = self.core_latency + 2 + self.beats_out  # edges from taking a place to giving it back
        return 1 << (-(-held // self.interval) + 1).bit_length()

    def facts(self) -> dict[str, Any]:
        """For the templates."""
        return {
            "stream_bits": self.bits,
            "shift_bits": self.bits.bit_length() - 1,
            "width_in": self.width_in,
            "width_out": self.width_out,
            "beats_in": self.beats_in,
            "beats_out": self.beats_out,
            "beat_in_bits": max((self.beats_in - 1).bit_length(), 1),
            "beat_out_bits": max((self.beats_out - 1).bit_length(), 1),
            "core_latency": self.core_latency,
            "latency_cycles": self.latency_cycles,
            "interval": self.interval,
            "depth": self.depth,
            "address_bits": self.depth.bit_length() - 1,
        }


def wrapped(core: FirmwareProject, pipeline: Pipeline, settings: Settings) -> FirmwareProject:
    """The project of a core with a board's files around it.

    Raises:
        ConfigError: a core without a clock, or in VHDL.
    """
    board = settings.board
    if board is None or settings.flavor != "verilog" or not pipeline.clocked:
        raise ConfigError(
            "A template goes around a pipelined Verilog core.",
            where=f"--template {settings.template}",
            expected="--board, flavor=verilog, and at least one stage",
            received=f"board {board.name if board else None}, flavor {settings.flavor}, {pipeline.stages} stages",
        )
    stream = Stream(board.stream_bits, pipeline.layout_in.width, pipeline.layout_out.width, pipeline.latency_cycles)
    graph, name = pipeline.traced.graph, settings.name
    ports = json.loads(core.files["ports.json"])
    facts = {
        **stream.facts(),
        "name": name,
        "model": graph.name,
        "digest": graph.digest(),
        "board": board,
        "part": board.part,
        "clock_ns": settings.clock_ns,
        "sources": ports["sources"],
        "shell": [f"src/{name}_axis.v", f"src/{name}_axil.v", f"src/{name}_axi.v"],
        "vectors": str(core.files["sim/stimuli.hex"]).count("\n"),
        "registers": registers(stream, graph.digest()),
        "control": CONTROL,
        "ecp5": dict(zip(("size", "package", "speed"), nextpnr_part(board.part), strict=True)) if board.flow == "ecp5" else {},
        "divisor": round(1e9 / settings.clock_ns / board.baud) if board.baud else None,
    }
    files: dict[str, str | bytes] = {path: text for path, text in core.files.items() if path not in ("README.md", "build.tcl")}
    files |= {path: render(template, **facts) for path, template in _files(name, board)}
    files["core.md"] = core.files["README.md"]
    files["estimate.json"] = _estimate(pipeline, settings)
    if board.flow == "zynq":
        files["driver.json"] = _driver(pipeline, stream, ports)
    ports["stream"] = {key: value for key, value in stream.facts().items() if not key.endswith("_bits") or key == "stream_bits"}
    files["ports.json"] = json.dumps(ports, indent=1) + "\n"
    return FirmwareProject(core.name, files, {**core.meta, "template": settings.template, "board": board.name})


def _files(name: str, board: Board) -> list[tuple[str, str]]:
    """Path in the project and template of every file that is rendered."""
    common = [
        (f"src/{name}_axis.v", "axis/axis.v.j2"),
        (f"src/{name}_axil.v", "axis/axil.v.j2"),
        (f"src/{name}_axi.v", "axis/axi.v.j2"),
        ("sim/axis_testbench.cc", "axis/testbench.cc.j2"),
        ("sim/test_axis.py", "axis/test_axis.py.j2"),
        ("sim/Makefile", "axis/Makefile.j2"),
        ("sim/lint.vlt", "axis/lint.vlt.j2"),
        ("registers.md", "axis/registers.md.j2"),
        ("README.md", "axis/README.md.j2"),
    ]
    flows = {
        "ecp5": [
            (f"src/{name}_top.v", "yosys/top.v.j2"),
            ("synth.ys", "yosys/synth.ys.j2"),
            ("board.lpf", "yosys/board.lpf.j2"),
            ("Makefile", "yosys/Makefile.j2"),
            ("report.py", "yosys/report.py.j2"),
            ("host.py", "yosys/host.py.j2"),
            ("sim/serial_testbench.cc", "yosys/testbench.cc.j2"),
        ],
        "zynq": [("build.tcl", "zynq/build.tcl.j2"), ("Makefile", "zynq/Makefile.j2"), (f"{name}_overlay.py", "zynq/overlay.py.j2")],
        "ooc": [("build.tcl", "vivado/axis.tcl.j2"), ("package_ip.tcl", "vivado/package_ip.tcl.j2"), ("axis.xdc", "vivado/axis.xdc.j2")],
        "vitis": [
            ("package_kernel.tcl", "vitis/package_kernel.tcl.j2"),
            ("link.cfg", "vitis/link.cfg.j2"),
            ("mover.cpp", "vitis/mover.cpp.j2"),
            ("Makefile", "vitis/Makefile.j2"),
        ],
        "quartus": [("build.tcl", "quartus/build.tcl.j2"), ("axis.sdc", "quartus/axis.sdc.j2")],
    }
    return common + flows[board.flow]


def registers(stream: Stream, digest: str) -> list[dict[str, Any]]:
    """The register map: address, name, access, what is read as Verilog, and its meaning."""
    rows = [
        (0x00, "MAGIC", "r", f"32'h{MAGIC:08x}", "0x48475143, HGQC in ASCII: this is such a core"),
        (0x04, "VERSION", "r", "32'd1", "version of this map"),
        (0x08, "DIGEST", "r", f"32'h{digest[:8]}", "first 32 bits of the model's digest"),
        (
            CONTROL,
            "CONTROL",
            "rw",
            "{31'd0, enable}",
            "bit 0: take frames (1 after reset); bit 1: clear the counters; bit 2: reset the stream",
        ),
        (0x10, "STATUS", "r", "{31'd0, busy}", "bit 0: a frame is inside"),
        (0x14, "FRAMES_IN", "r", "frames_in", "frames taken"),
        (0x18, "FRAMES_OUT", "r", "frames_out", "results handed over"),
        (0x1C, "FRAME_ERRORS", "r", "frame_errors", "frames dropped: tlast inside of a frame"),
        (0x20, "STALLS_IN", "r", "stalls_in", "clock cycles in which the sender had to wait"),
        (0x24, "STALLS_OUT", "r", "stalls_out", "clock cycles in which the receiver kept a result waiting"),
        (0x28, "CYCLES", "r", "cycles", "clock cycles since the counters were cleared"),
        (0x2C, "LATENCY", "r", f"32'd{stream.latency_cycles}", "clock edges from the last beat of a frame to its result"),
        (0x30, "INTERVAL", "r", f"32'd{stream.interval}", "clock edges between frames"),
        (0x34, "BITS_IN", "r", f"32'd{stream.width_in}", "bits of a sample"),
        (0x38, "BITS_OUT", "r", f"32'd{stream.width_out}", "bits of a result"),
    ]
    return [dict(zip(("address", "name", "access", "verilog", "meaning"), row, strict=True)) for row in rows]


def _driver(pipeline: Pipeline, stream: Stream, ports: dict[str, Any]) -> str:
    """What the host needs to pack samples and to unpack results: the model's own formats, and the bits that the hardware has."""
    given = {port.name: port for port in pipeline.traced.graph.inputs}
    inputs = []
    for value in ports["inputs"]["values"]:
        kif = {key: part.ravel().tolist() for key, part in zip("kif", given[value["name"]].format.astuple(), strict=True)}
        inputs.append({**value, **kif, "slot_f": value["f"]})
    content = {
        "beat_bytes": stream.bits // 8,
        "beats_in": stream.beats_in,
        "beats_out": stream.beats_out,
        "inputs": inputs,
        "outputs": ports["outputs"]["values"],
    }
    return json.dumps(content, indent=1) + "\n"


def _estimate(pipeline: Pipeline, settings: Settings) -> str:
    """What `hgq estimate` says about the core, to stand beside what the tools find."""
    extra: dict[str, str] = {}
    if settings.stages is not None:
        extra["stages"] = str(settings.stages)
    elif settings.latency_cutoff is not None:
        extra["latency_cutoff"] = f"{settings.latency_cutoff:g}"
    found = estimate(pipeline.traced.graph, settings.device.part, settings.clock_ns, "rtl", extra)
    return json.dumps(found.to_dict(), indent=1) + "\n"

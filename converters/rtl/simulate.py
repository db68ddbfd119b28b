"""Compile the emitted project with Verilator and g++ (or GHDL) and run it on samples.

Processor time for a jet MLP of 4,200 EBOPs: Verilator 4 s; g++ 2 s with ``-O0``, 54 s with ``-O1`` and 121 s with ``-O2`` for the largest
of its files; 10,000 samples then run in 0.2 s with ``-O0``. Hence ``-O0``, few translation units (each reads 1.3 s of headers), and
Verilator's own library (6 s) compiled once for each user and kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq import cache, tools
from hgq.errors import ConfigError, MismatchError, ToolFailed
from hgq.project import FirmwareProject

from .emit import emit, packed_inputs
from .layout import from_hex, to_hex
from .pipeline import Pipeline, pipelined
from .settings import Settings
from .trace import Traced, split_outputs

logger = logging.getLogger("hgq.rtl")

TIMEOUT_S = 1800
"""For each program that is run."""

HELD = 64
"""Samples that are also held on the input until their result is out."""

OLDEST_VERILATOR = 5.048
"""Older ones miscompile some of alkaid's RTL (https://github.com/verilator/verilator/pull/7012)."""

FLAVOR = {"verilator": "verilog", "ghdl": "vhdl"}
JOBS = 2
FLAGS = ("-std=c++17", "-O0", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0")


def simulate(traced: Traced, settings: Settings, x: Any, workdir: Path, simulator: str | None) -> dict[str, NDArray[np.float64]]:
    """See `RTL.simulate`."""
    simulator = simulator or {flavor: name for name, flavor in FLAVOR.items()}[settings.flavor]
    if FLAVOR.get(simulator) != settings.flavor:
        raise ConfigError(
            f"This simulator does not read {settings.flavor}.",
            where="simulator",
            expected=" or ".join(f"{name} for {flavor}" for name, flavor in FLAVOR.items()),
            received=repr(simulator),
            fix=f"--option flavor={FLAVOR[simulator]}" if simulator in FLAVOR else None,
        )
    pipeline = pipelined(traced, settings)
    project = emit(traced, settings)
    folder = workdir / f"{settings.name}-{project.digest()[:16]}"
    stimuli = packed_inputs(pipeline, x)
    start = time.perf_counter()
    run = (_verilated if simulator == "verilator" else _ghdl)(project, folder)
    built = time.perf_counter() - start
    streamed = _run(run, pipeline, folder, stimuli, "stream")
    report = {
        "simulator": simulator,
        "samples": len(stimuli),
        "build_s": round(built, 2),
        "run_s": round(time.perf_counter() - start - built, 2),
        "latency_cycles": pipeline.latency_cycles,
        "initiation_interval": 1 if pipeline.clocked else 0,
    }
    if pipeline.clocked and simulator == "verilator":
        report["observed_latency_cycles"] = _compare_held(run, pipeline, folder, stimuli[:HELD], streamed)
    (folder / "simulation.json").write_text(json.dumps(report, indent=1) + "\n")
    logger.info("%s: %s", folder.name, report)
    return split_outputs(traced.graph, pipeline.layout_out.unpack(streamed))


def _compare_held(run: Any, pipeline: Pipeline, folder: Path, stimuli: NDArray[np.uint8], streamed: NDArray[np.uint8]) -> int:
    held = _run(run, pipeline, folder, stimuli, "hold")
    wrong = np.flatnonzero((held != streamed[: len(held)]).any(axis=1))
    if len(wrong):
        raise MismatchError(
            "A sample gives another result when new samples follow on every cycle than when it stays on the input.",
            where=f"sample {wrong[0]}, in {folder}",
            expected=bytes(held[wrong[0]][::-1]).hex(),
            received=bytes(streamed[wrong[0]][::-1]).hex(),
            fix="This is a bug in hgqc or in alkaid: please report it with the .hgq file.",
        )
    found = re.search(r"after (\d+) cycles", (folder / "hold.log").read_text(errors="replace"))
    return int(found.group(1)) if found else 0


def _run(run: Any, pipeline: Pipeline, folder: Path, stimuli: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """Bytes of ``model_out`` for bytes of ``model_inp``."""
    row = pipeline.layout_out.row_bytes
    if not len(stimuli):
        return np.zeros((0, row), np.uint8)
    source, sink = folder / f"{mode}.stimuli.hex", folder / f"{mode}.results.hex"
    source.write_text(to_hex(stimuli))
    with suppress(FileNotFoundError):
        sink.unlink()
    run(source, sink, mode)
    results = from_hex(sink.read_text(), row) if sink.is_file() else np.zeros((0, row), np.uint8)
    if len(results) != len(stimuli):
        raise ToolFailed(
            "The simulation gave another number of results than it was given samples.",
            where=str(folder),
            expected=str(len(stimuli)),
            received=str(len(results)),
        )
    return results


def _placed(project: FirmwareProject, folder: Path) -> None:
    """Write the project, in place of one that was left half built."""
    project.write(folder, force=True)


def _verilated(project: FirmwareProject, folder: Path) -> Any:
    """Runs the compiled project; compiles it first if `folder` does not hold it yet."""
    binary = folder / "build" / "testbench"
    if not binary.is_file():
        verilator, compiler = tools.require("verilator"), tools.require("g++")
        _warn_of_old(verilator)
        _placed(project, folder)
        _compile(project, folder, verilator, compiler, binary)

    def run(source: Path, sink: Path, mode: str) -> None:
        tools.run([binary, source, sink, mode], timeout_s=TIMEOUT_S, log=folder / f"{mode}.log")

    return run


def _warn_of_old(verilator: tools.Tool) -> None:
    number = re.match(r"\d+\.\d+", verilator.version)
    if number and float(number.group()) < OLDEST_VERILATOR:
        logger.warning(
            "Verilator %s may miscompile this RTL: a mismatch may be its fault. Use %s or newer.", verilator.version, OLDEST_VERILATOR
        )


def _compile(project: FirmwareProject, folder: Path, verilator: tools.Tool, compiler: tools.Tool, binary: Path) -> None:
    build = binary.parent
    build.mkdir(exist_ok=True)
    sources = [folder / path for path in project.files if path.startswith("src/") and path.endswith(".v")]
    quiet = ("-Wno-lint", "-Wno-style", "-Wno-fatal")
    command = [verilator, "--cc", "--top-module", project.name, "--prefix", "Vdut", *quiet, "--Mdir", build, *sources]
    tools.run(command, timeout_s=TIMEOUT_S, log=folder / "verilator.log")
    include = _include(verilator)
    flags = [*FLAGS, f"-I{include}", f"-I{include / 'vltstd'}", f"-I{build}"]
    units = []
    for number, group in enumerate(_groups(sorted(build.glob("Vdut*.cpp")), JOBS)):
        paths = [folder / "sim" / "testbench.cc", *group] if number == 0 else group
        unit = build / f"unit{number}.cc"
        unit.write_text("".join(f'#include "{path.resolve()}"\n' for path in paths))
        units.append(unit)

    def compiled(unit: Path) -> Path:
        done = unit.with_suffix(".o")
        tools.run([compiler, *flags, "-c", unit, "-o", done], timeout_s=TIMEOUT_S, log=folder / f"{unit.stem}.log")
        return done

    with ThreadPoolExecutor(JOBS) as pool:
        library = pool.submit(_library, compiler, include, build)
        objects = [*pool.map(compiled, units), library.result()]
    linked = binary.with_name(f"testbench.{secrets.token_hex(4)}")
    tools.run([compiler, "-o", linked, *objects, "-pthread"], timeout_s=TIMEOUT_S, log=folder / "link.log")
    linked.replace(binary)


def _groups(paths: Sequence[Path], count: int) -> list[list[Path]]:
    """At most `count` groups of about equal size."""
    groups: list[list[Path]] = [[] for _ in range(count)]
    sizes = [0] * count
    for path in sorted(paths, key=lambda path: (-path.stat().st_size, path.name)):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(path)
        sizes[smallest] += path.stat().st_size
    return [group for group in groups if group]


def _include(verilator: tools.Tool) -> Path:
    root = verilator.env.get("VERILATOR_ROOT") or os.environ.get("VERILATOR_ROOT")
    if not root:
        root = tools.run([verilator, "--getenv", "VERILATOR_ROOT"], timeout_s=60).output.strip().splitlines()[-1]
    return Path(root) / "include"


def _library(compiler: tools.Tool, include: Path, build: Path) -> Path:
    """Object file of Verilator's run-time library, kept in the user's cache folder if that can be written."""
    names = ("verilated.cpp", "verilated_threads.cpp")
    unit = "".join(f'#include "{include / name}"\n' for name in names)
    key = hashlib.sha256("\0".join([unit, *FLAGS, compiler.version, str(compiler.path)]).encode())
    for name in (*names, "verilated.h", "verilated_config.h"):
        if (include / name).is_file():
            key.update((include / name).read_bytes())
    kept = cache.folder() / f"verilated-{key.hexdigest()[:24]}.o"
    if kept.is_file():
        return kept
    source, done = build / "library.cc", build / "library.o"
    source.write_text(unit)
    command = [compiler, *FLAGS, f"-I{include}", f"-I{include / 'vltstd'}", "-c", source, "-o", done]
    tools.run(command, timeout_s=TIMEOUT_S, log=build / "library.log")
    temporary = kept.with_name(f"{kept.name}.{secrets.token_hex(4)}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(done.read_bytes())
        temporary.replace(kept)
    except OSError as error:
        logger.debug("Verilator's library is not kept: %s", error)
        with suppress(OSError):
            temporary.unlink()
        return done
    return kept


def _ghdl(project: FirmwareProject, folder: Path) -> Any:
    """Runs the project in GHDL; analyses it first if `folder` does not hold it yet."""
    ghdl = tools.require("ghdl")
    build = folder / "build"
    ready = build / "analysed"
    if not ready.is_file():
        _placed(project, folder)
        build.mkdir(exist_ok=True)
        order = json.loads(project.files["ports.json"])["sources"]
        sources = [folder / path for path in (*order, "sim/testbench.vhd")]
        tools.run([ghdl, "-a", "--std=08", f"--workdir={build}", *sources], cwd=build, timeout_s=TIMEOUT_S, log=folder / "ghdl.log")
        tools.run([ghdl, "-e", "--std=08", f"--workdir={build}", "testbench"], cwd=build, timeout_s=TIMEOUT_S, log=folder / "elaborate.log")
        ready.touch()

    def run(source: Path, sink: Path, mode: str) -> None:
        files = (f"-gstimuli={source}", f"-gresults={sink}")
        command = [ghdl, "-r", "--std=08", f"--workdir={build}", "testbench", "--ieee-asserts=disable", *files]
        tools.run(command, cwd=build, timeout_s=TIMEOUT_S, log=folder / f"{mode}.log")

    return run

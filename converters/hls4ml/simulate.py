"""hls4ml's C simulation: g++ compiles the project together with a small driver; the driver runs as a process of its own.

The program is compiled once for the same project and compiler and kept in the user's cache. Distributed arithmetic is most of the work
where there is any (64-32-32-5: two minutes); its functions are compiled in units of their own, side by side.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgq import cache, tools
from hgq.errors import ConfigError, ToolFailed
from hgq.ir import interpret
from hgq.project import FirmwareProject

from . import sycl
from .driver import driver
from .vendors import VENDORS, Vendor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hgq.ir.graph import Graph

log = logging.getLogger("hgq.converters.hls4ml")

FLAGS = ("-std=c++17", "-O1", "-w")
"""Measured on a 16-64-32-32-5 MLP: -O0 compiles in 7.2 s and runs 10,000 samples in 30 s; -O1 takes 7.8 s and 1.5 s; more gains nothing."""

COMPILE_TIMEOUT_S = 1800.0
RUN_TIMEOUT_S = 1800.0

KEPT = 64
"""Compiled simulations in the cache; the ones not used for the longest time go."""

WORTH_BYTES = 100_000
"""Generated code that is worth compiling in units of its own: each reads 5 s of headers."""

WEIGHTS = "weights"
"""Folder of the weights as text, beside the program: where it is started it finds them."""


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
    with tempfile.TemporaryDirectory(prefix="hgq-csim-") as folder:
        source, target, text = Path(folder) / "in.bin", Path(folder) / "out.bin", Path(folder) / "run.log"
        source.write_bytes(np.ascontiguousarray(values, "<f8").tobytes())
        done = tools.run([binary, source, target], cwd=binary.parent, timeout_s=RUN_TIMEOUT_S, log=text)
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
    """The project's compiled driver, from the user's cache or built in `workdir` and kept there.

    Raises:
        ToolNotFound: no g++.
        ToolFailed: the compiler ended with an error or ran out of time.
    """
    vendor = VENDORS[project.meta["options"]["backend"]]
    compiler = tools.require("g++")
    text = driver(project, vendor)
    host = sycl.TEXT if vendor.sycl else ""
    key = hashlib.sha256("\n".join([project.digest(), text, *FLAGS, compiler.version, host]).encode()).hexdigest()[:24]
    kept = cache.folder("csim", key) / "csim"
    here = workdir.resolve() / f"csim-{key}"
    for binary in (kept, here / "run" / "csim"):
        if binary.is_file():
            with suppress(OSError):
                os.utime(binary.parent)
            return binary
    project.write(here / "project", force=True)
    if vendor.sycl:
        sycl.prepare(here / "project", vendor.folder)
    (here / "run").mkdir(parents=True, exist_ok=True)
    (here / "project" / "hgq_driver.cpp").write_text(text)
    unfinished = here / "csim.unfinished"
    _compile(project, vendor, compiler, here, unfinished)
    weights = here / "project" / vendor.folder / WEIGHTS
    if weights.is_dir():
        shutil.copytree(weights, here / "run" / WEIGHTS, dirs_exist_ok=True)
    os.replace(unfinished, here / "run" / "csim")
    return _keep(here / "run", kept.parent) / "csim"


def _compile(project: FirmwareProject, vendor: Vendor, compiler: tools.Tool, here: Path, target: Path) -> None:
    folder = here / "project"
    flags = [*FLAGS, *(f"-I{path}" for path in vendor.libraries), f'-DWEIGHTS_DIR="{WEIGHTS}"']
    units = {folder / "hgq_driver.cpp": (folder / "hgq_driver.cpp").read_text()}
    generated, jobs = f"{vendor.folder}/nnet_utils/nnet_code_gen.h", os.cpu_count() or 1
    calls = _distributed_calls(project, vendor)
    if len(calls) > 1 and jobs > 1 and len(project.data(generated)) > WORTH_BYTES:
        head = f'#include "{vendor.folder}/defines.h"\n#include "{generated}"\n'
        for number in range(min(jobs, len(calls))):
            lines = [f"{_instance(call)};\n" for call in calls[number::jobs]]
            units[folder / f"hgq_unit{number}.cpp"] = head + "".join(lines)
        units[folder / "hgq_driver.cpp"] = (
            head + "".join(f"extern {_instance(call)};\n" for call in calls) + units[folder / "hgq_driver.cpp"]
        )
    for path, text in units.items():
        path.write_text(text)

    def compiled(path: Path) -> Path:
        done = tools.run(
            [compiler, *flags, "-c", path.name, "-o", here / f"{path.stem}.o"],
            cwd=folder,
            timeout_s=COMPILE_TIMEOUT_S,
            log=here / f"{path.stem}.log",
        )
        log.debug("hls4ml C simulation: %s compiled in %.1f s", path.name, done.wall_s)
        return here / f"{path.stem}.o"

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compiled, units))
    tools.run([compiler, *objects, "-o", target], timeout_s=COMPILE_TIMEOUT_S, log=here / "link.log")


def _distributed_calls(project: FirmwareProject, vendor: Vendor) -> list[tuple[str, str, str, str]]:
    """Namespace, name and both types of each function of da4ml that the project calls."""
    if vendor.dialect != "ap":
        return []
    text = "".join(str(project.files[f"{vendor.folder}/{name}"]) for name in ("parameters.h", f"{project.name}.cpp"))
    return list(dict.fromkeys(re.findall(r"(\w+)::(dense_da_\d+)<(\w+), (\w+)>", text)))


def _instance(call: tuple[str, str, str, str]) -> str:
    namespace, name, inputs, outputs = call
    return f"template void {namespace}::{name}<{inputs}, {outputs}>({inputs} *, {outputs} *)"


def _keep(built: Path, kept: Path) -> Path:
    """Put a finished simulation into the cache; where that cannot be written it stays where it is."""
    temporary = kept.with_name(f".{kept.name}.{secrets.token_hex(4)}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(built, temporary)
        with suppress(OSError):  # another process was faster
            temporary.rename(kept)
        old = sorted((path for path in kept.parent.iterdir() if not path.name.startswith(".")), key=lambda path: path.stat().st_mtime)
        for path in old[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        log.debug("the C simulation is not kept: %s", error)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return kept if (kept / "csim").is_file() else built

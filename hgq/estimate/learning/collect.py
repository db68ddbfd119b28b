"""Which reports belong to which design: a folder of firmware projects that hgqc wrote and a vendor's tool worked on.

A project says in its manifest what it is of: part, clock, backend, and of RTL all counts that the estimate starts from. So a report below a
project's folder is a measurement of a known design. For projects of hls4ml the frozen model must lie somewhere in the folder too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hgq.errors import ConfigError, DataError, HGQError
from hgq.estimate.devices import Device, device_of
from hgq.estimate.learning.reports import STATES, Report, read
from hgq.ir import file
from hgq.ir.graph import Graph
from hgq.project import MANIFEST, FirmwareProject

log = logging.getLogger("hgq")

SUFFIXES = (".rpt", ".xml", ".summary", ".txt", ".log")
LARGEST = 50_000_000
"""Bytes of a file that is looked into."""
MEASURED = ("lut", "ff", "dsp", "bram18", "period_ns", "cycles", "interval")
OF_SYNTHESIS = frozenset({"lut", "ff", "dsp", "bram18"})


@dataclass(frozen=True)
class Observation:
    """One design that a vendor's tool built.

    Args:
        key: Of design, part and tool: a later report of the same replaces this.
        part: Device.
        die: Of the part.
        backend: ``rtl`` or ``hls4ml``.
        strategy: As `hgq.estimate.Estimate` calls it.
        clock_ns: Asked for.
        tool: Who measured.
        state: How far the design was, of `hgq.estimate.learning.reports.STATES`.
        measured: What was measured.
        predicted: What `hgq estimate` said, without anything learned.
        path: Project, for people.
    """

    key: str
    part: str
    die: str
    backend: str
    strategy: str
    clock_ns: float
    tool: str
    state: str
    measured: Mapping[str, float]
    predicted: Mapping[str, float]
    path: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass
class Collected:
    """What a folder held.

    Args:
        observations: What can be learned.
        skipped: Path and why, of what cannot.
    """

    observations: list[Observation] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def collect(folder: Path) -> Collected:
    """Every project with reports in a folder.

    Raises:
        ConfigError: there is no such folder.
        DataError: there is no project in it that was written by hgqc.
    """
    if not folder.is_dir():
        received = "a file" if folder.exists() else "nothing there"
        raise ConfigError(
            "There is no such folder.", where=str(folder), expected="a folder of projects from `hgq export`", received=received
        )
    projects = sorted(path.parent for path in folder.rglob(MANIFEST))
    if not projects:
        raise DataError(
            "No project of hgqc is in this folder.",
            where=str(folder),
            expected=f"folders that `hgq export` wrote ({MANIFEST} in them), with the reports of your tool somewhere below",
            fix="Export with hgqc, run your vendor's tool there (`vivado -mode batch -source build.tcl`), then learn.",
        )
    graphs = _graphs(folder)
    found = Collected()
    for project in projects:
        try:
            observation = _observe(project, graphs, projects)
        except HGQError as error:
            found.skipped.append((str(project), error.what + (f" {error.fix}" if error.fix else "")))
            continue
        if observation is None:
            found.skipped.append((str(project), "No report of a vendor's tool is below it."))
        else:
            found.observations.append(observation)
    return found


def _graphs(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.rglob("*.hgq")):
        try:
            found[file.load(path).digest()] = path
        except HGQError as error:
            log.warning("%s is left out: %s", path, error.what)
    return found


def _observe(project: Path, graphs: Mapping[str, Path], projects: list[Path]) -> Observation | None:
    meta = FirmwareProject.from_directory(project).meta
    reports = list(_reports(project, projects))
    if not reports:
        return None
    try:
        backend, part, clock, digest = meta["backend"], str(meta["part"]), float(meta["clock_ns"]), str(meta["graph"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("The manifest does not say what was exported.", where=str(project), received=repr(error)) from error
    device = device_of(part)
    strangers = [report.device for report in reports if not _same_die(report.device, device)]
    if strangers:
        raise DataError(f"Its reports are of another part: {strangers[0]}, but it was exported for {part}.")
    predicted, strategy = _predicted(meta, backend, device, clock, graphs.get(digest))
    measured = _merged(reports)
    tool = next(report.tool for report in reports)
    key = hashlib.sha256(
        f"{digest} {part} {clock} {backend} {dict(meta.get('options', {}))} {meta.get('stages')} {tool}".encode()
    ).hexdigest()
    state = max((report.state or STATES[0] for report in reports), key=STATES.index)
    return Observation(key[:32], part, device.die, backend, strategy, clock, tool, state, measured, predicted, str(project))


def _reports(project: Path, projects: list[Path]) -> Iterator[Report]:
    inner = [other for other in projects if other != project and project in other.parents]
    for path in sorted(project.rglob("*")):
        if path.suffix not in SUFFIXES or not path.is_file() or path.stat().st_size > LARGEST or any(o in path.parents for o in inner):
            continue
        report = read(path.read_text(encoding="utf-8", errors="replace"))
        if report is not None:
            yield report


def _merged(reports: list[Report]) -> dict[str, float]:
    """Of each figure, the one of the furthest state."""
    found: dict[str, float] = {}
    for report in sorted(reports, key=lambda report: STATES.index(report.state or STATES[0])):
        found.update({key: value for key, value in report.found.items() if key in MEASURED})
    return found


def _same_die(device: str, wanted: Device) -> bool:
    """Tools spell ``xc7z020clg484-1`` as ``7z020clg484-1`` too; a report without a device is believed."""

    def plain(text: str) -> str:
        return text.lower().replace("-", "").removeprefix("xc")

    return not device or plain(device).startswith(plain(wanted.die)) or plain(wanted.part).startswith(plain(device))


def _predicted(meta: Mapping[str, Any], backend: str, device: Device, clock: float, path: Path | None) -> tuple[dict[str, float], str]:
    from hgq.estimate.model import from_structure, prior
    from hgq.estimate.structure import Structure

    if backend == "rtl":
        return _figures(*from_structure(Structure.of(meta, "rtl"), device, clock)), "adder_graph"
    if path is None:
        raise DataError("The frozen model of this project is not in the folder.", fix="Put its .hgq file there.")
    graph: Graph = file.load(path)
    options = {key: str(value) for key, value in dict(meta.get("options", {})).items() if key in ("strategy", "reuse_factor")}
    found = prior(graph, device.part, clock, backend, options)
    return _figures(found.counts, found.timing), found.strategy


def _figures(counts: Any, timing: Any) -> dict[str, float]:
    parts = {
        "lut": counts.lut,
        "ff": counts.ff,
        "dsp": counts.dsp,
        "bram18": counts.bram,
        "period_ns": timing.period_ns,
        "cycles": timing.cycles,
    }
    return {key: float(part.value) for key, part in parts.items() if part is not None}

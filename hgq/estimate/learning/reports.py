"""Reports of vendors' tools, as they write them.

Each reader takes the text of a file and returns what it says, or None where the file is something else. Formats: Vivado's
``report_utilization`` and ``report_timing_summary`` (UG906), ``csynth.xml`` of Vitis HLS and Vivado HLS (UG1399), ``.fit.summary`` and
``.sta.summary`` of Quartus Prime.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field

STATES = ("csynth", "synthesised", "placed", "routed")
"""How far a design was when it was counted, from guess to truth."""
ALM = 2
"""LUTs of an adaptive logic module: it has two."""


@dataclass(frozen=True)
class Report:
    """What one file says.

    Args:
        tool: Who wrote it.
        device: The part, as that tool spells it; empty where the file does not say.
        state: One of `STATES`; empty where the file does not say.
        found: ``lut``, ``ff``, ``dsp``, ``bram18``, ``period_ns`` (reached), ``clock_ns`` (asked for), ``cycles``, ``interval``.
    """

    tool: str
    device: str
    state: str
    found: Mapping[str, float] = field(default_factory=dict)


def read(text: str) -> Report | None:
    """The report in a text; None if it is none that is known."""
    for reader in (vivado_utilization, vivado_timing, csynth, quartus_fit, quartus_timing):
        report = reader(text)
        if report is not None:
            return report
    return None


# ---- Vivado ----------------------------------------

_SITES = {
    "lut": ("CLB LUTs", "Slice LUTs"),
    "ff": ("CLB Registers", "Slice Registers"),
    "dsp": ("DSPs", "DSP Slices"),
    "bram18": ("Block RAM Tile",),
}
_VIVADO_STATES = (("rout", "routed"), ("physopt", "placed"), ("plac", "placed"), ("synth", "synthesised"), ("optimized", "synthesised"))


def vivado_utilization(text: str) -> Report | None:
    """``report_utilization``: the totals of section 1 to 3; a RAM tile is two blocks of 18 Kb. Hierarchical reports are not read."""
    head = _vivado_head(text)
    if head is None or "report_utilization" not in head.get("Command", "report_utilization"):
        return None
    found: dict[str, float] = {}
    for cells in (re.split(r"\s*\|\s*", line.strip().strip("|").strip()) for line in text.splitlines() if line.lstrip().startswith("|")):
        for key, names in _SITES.items():
            if cells[0].rstrip("*") in names and key not in found and len(cells) > 2 and re.fullmatch(r"[\d.,]+", cells[1]):
                found[key] = _number(cells[1]) * (2 if key == "bram18" else 1)
    if "lut" not in found:
        return None
    return Report(head.get("Tool Version", "Vivado"), head.get("Device", ""), _vivado_state(head), found)


def vivado_timing(text: str) -> Report | None:
    """``report_timing_summary``: the period that the slowest clock reaches, its period less the worst slack of setup."""
    head = _vivado_head(text)
    table = re.search(r"^\s*WNS\(ns\)\s+TNS\(ns\).*\n[\s-]+\n\s*(-?[\d.]+)\s", text, re.MULTILINE)
    clocks = re.search(r"^Clock\s+Waveform\(ns\)\s+Period\(ns\)\s+Frequency\(MHz\)\s*\n[\s-]+\n((?:.*\{.*\n?)+)", text, re.MULTILINE)
    if head is None or table is None or clocks is None:
        return None
    periods = [float(period) for period in re.findall(r"\}\s+([\d.]+)\s", clocks[1])]
    if not periods:
        return None
    asked = min(periods)
    found = {"clock_ns": asked, "period_ns": asked - float(table[1])}
    return Report(head.get("Tool Version", "Vivado"), head.get("Device", ""), _vivado_state(head), found)


def _vivado_head(text: str) -> dict[str, str] | None:
    if not re.search(r"^\|\s*Tool Version\s*:\s*Vivado", text[:2000], re.MULTILINE):
        return None
    rows = re.findall(r"^\|\s*([A-Z][A-Za-z ]+?)\s*:\s*(.*?)\s*$", text[:4000], re.MULTILINE)
    return dict(rows)


def _vivado_state(head: Mapping[str, str]) -> str:
    stated = head.get("Design State", "").lower()
    return next((state for word, state in _VIVADO_STATES if word in stated), "")


# ---- Vitis HLS ----------------------------------------


def csynth(text: str) -> Report | None:
    """``csynth.xml``: cycles and interval, worst case; DSP and RAM. Its LUT and FF are guesses far above what synthesis needs: left out."""
    if "<profile>" not in text[:2000] or "<!" in text:  # no tool writes entities, and none are expanded
        return None
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return None
    names = {
        "cycles": "PerformanceEstimates/SummaryOfOverallLatency/Worst-caseLatency",
        "interval": "PerformanceEstimates/SummaryOfOverallLatency/Interval-max",
        "clock_ns": "UserAssignments/TargetClockPeriod",
        "dsp": "AreaEstimates/Resources/DSP",
        "bram18": "AreaEstimates/Resources/BRAM_18K",
    }
    found = {key: _number(text) for key, path in names.items() if re.fullmatch(r"[\d.]+", text := (root.findtext(path) or "").strip())}
    if "dsp" not in found and (old := root.findtext("AreaEstimates/Resources/DSP48E")):
        found["dsp"] = _number(old)
    if "cycles" not in found:
        return None
    version = root.findtext("ReportVersion/Version") or ""
    return Report(f"Vitis HLS {version}".strip(), (root.findtext("UserAssignments/Part") or "").strip(), "csynth", found)


# ---- Quartus ----------------------------------------


def quartus_fit(text: str) -> Report | None:
    """``.fit.summary``, or the same table in ``.fit.rpt``: an ALM counts as two LUTs."""
    rows = _quartus_rows(text)
    if "Fitter Status" not in rows or "Logic utilization (in ALMs)" not in rows:
        return None
    found = {"lut": ALM * _number(rows["Logic utilization (in ALMs)"])}
    for key, name in (("ff", "Total registers"), ("ff", "Total dedicated logic registers"), ("dsp", "Total DSP Blocks")):
        if name in rows and key not in found:
            found[key] = _number(rows[name])
    return Report(f"Quartus {rows.get('Quartus Prime Version', '')}".strip(), rows.get("Device", ""), "routed", found)


def quartus_timing(text: str) -> Report | None:
    """``.sta.rpt``: the lowest Fmax of the slow models; says nothing of the device."""
    if "Timing Analyzer" not in text[:4000] and "TimeQuest" not in text[:4000]:
        return None
    clocks: list[float] = []
    for part in re.findall(r"Slow[^\n]*Fmax Summary[^\n]*\n((?:[+;].*\n?)+)", text):
        clocks += [float(value) for value in re.findall(r"^;\s*([\d.]+) MHz\s*;", part, re.MULTILINE)]
    return Report("Quartus Timing Analyzer", "", "routed", {"period_ns": round(1000 / min(clocks), 4)}) if clocks else None


def _quartus_rows(text: str) -> dict[str, str]:
    """``name : value`` lines, or ``; name ; value ;`` rows."""
    pairs = re.findall(r"^(?:;\s*)?([A-Z][A-Za-z /()-]+?)\s*[:;]\s*(.*?)\s*;?\s*$", text[:20000], re.MULTILINE)
    rows: dict[str, str] = {}
    for name, value in pairs:
        rows.setdefault(name, value)
    return rows


def _number(text: str) -> float:
    """The first number of a text such as ``25,644 / 41,910 ( 61 % )``."""
    match = re.search(r"\d[\d,]*(?:\.\d+)?", text)
    return float(match[0].replace(",", "")) if match else 0.0

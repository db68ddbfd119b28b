"""The user's file of measurements: ``$XDG_CONFIG_HOME/hgqc/learned.json``, else ``~/.config/hgqc/learned.json``.

It holds what was measured and predicted, no coefficients: a better prior of a later version is corrected by the same measurements.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hgq.errors import FileFormatError
from hgq.estimate.devices import Device
from hgq.estimate.interval import Interval
from hgq.estimate.learning.collect import Observation
from hgq.estimate.learning.shrink import Correction, shrink
from hgq.output import write_file_atomically

log = logging.getLogger("hgq")

VERSION = 1
CORRECTED = ("lut", "ff", "period_ns")
"""Figures that are corrected by a factor. Cycles of RTL are exact; those of HLS and DSPs are whole numbers too small for a factor."""
SMALLEST = {"lut": 20.0, "ff": 20.0, "period_ns": 0.1}
"""Designs with less say nothing about a ratio."""


class Store:
    """Measurements by key.

    Args:
        path: The file; None: the user's.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _user_file()

    def observations(self) -> list[Observation]:
        """All of them, in order of part and path; none where there is no file.

        Raises:
            FileFormatError: the file is damaged.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FileFormatError("The file of what was learned cannot be read.", where=str(self.path), received=str(error)) from None
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}")
            return [Observation(**row) for row in content["observations"]]
        except (ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                "The file of what was learned is damaged.",
                where=str(self.path),
                received=f"{type(error).__name__}: {error}",
                fix="Delete it, and learn again: `hgq estimate --learn DIR`.",
            ) from None

    def add(self, new: Iterable[Observation]) -> int:
        """Keep measurements, in place of older ones of the same design; returns how many there are now."""
        rows = {row.key: row for row in self.observations()} | {row.key: row for row in new}
        self._write(rows.values())
        return len(rows)

    def forget(self, part: str | None = None) -> int:
        """Drop the measurements of one die (any spelling of a part of it), or all; returns how many went."""
        rows = self.observations()
        name = part.lower() if part else None
        kept = [row for row in rows if name is not None and name not in (row.part.lower(), row.die)]
        if kept:
            self._write(kept)
        elif rows:
            self.path.unlink(missing_ok=True)
        return len(rows) - len(kept)

    def _write(self, rows: Iterable[Observation]) -> None:
        ordered = sorted(rows, key=lambda row: (row.part, row.path, row.key))
        content = {"version": VERSION, "observations": [row.to_dict() for row in ordered]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(self.path, json.dumps(content, indent=1, sort_keys=True) + "\n", force=True)


def corrections(device: Device, strategy: str, prior: Mapping[str, Interval], store: Store | None = None) -> dict[str, Correction]:
    """What was learned about a part, by figure; empty where nothing was.

    Args:
        device: The part; measurements of its die count.
        strategy: As `hgq.estimate.Estimate` calls it: different structures are corrected apart.
        prior: Ranges of the figures, as factors around their guess.
        store: None: the user's. A damaged file is told of, and corrects nothing.
    """
    try:
        rows = (store or Store()).observations()
    except FileFormatError as error:
        log.warning("%s (%s)", error.what, error.where)
        return {}
    rows = [row for row in rows if row.die == device.die and row.strategy == strategy]
    found = {}
    for figure in CORRECTED:
        smallest = SMALLEST[figure]
        pairs = [(row.measured.get(figure, 0.0), row.predicted.get(figure, 0.0)) for row in rows]
        ratios = [measured / predicted for measured, predicted in pairs if min(measured, predicted) >= smallest]
        if ratios and figure in prior:
            found[figure] = shrink(ratios, prior[figure])
    return found


def as_rows(observations: Iterable[Observation]) -> list[dict[str, Any]]:
    """For people: one row a design."""
    rows = []
    for one in observations:
        row: dict[str, Any] = {
            "part": one.part,
            "backend": one.backend,
            "strategy": one.strategy,
            "clock ns": one.clock_ns,
            "state": one.state,
        }
        for figure in ("lut", "ff", "period_ns"):
            if figure in one.measured and one.predicted.get(figure):
                row[figure] = f"{one.measured[figure]:,.5g} ({one.measured[figure] / one.predicted[figure] - 1:+.1%})"
        rows.append({**row, "tool": one.tool, "project": one.path})
    return rows


def _user_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "hgqc" / "learned.json"

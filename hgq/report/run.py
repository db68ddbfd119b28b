"""`report`: a run directory as one page."""

from __future__ import annotations

import csv
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from hgq.errors import DataError, FileFormatError
from hgq.ir import file
from hgq.output import write_file_atomically
from hgq.report.page import render

ESTIMATE_RANGES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii_cycles", "period_ns", "latency_ns")
ESTIMATE_KEYS = frozenset(
    (*ESTIMATE_RANGES, "part", "clock_ns", "backend", "strategy", "ebops", "utilisation", "meets_clock", "layers", "based_on")
)
VERIFY_KEYS = frozenset(("ok", "samples", "corners", "checks"))
RESULT_KEYS = frozenset(("points", "main", "metric"))
POINT_KEYS = frozenset(("budget", "ebops", "val", "test", "test_samples", "within", "hgq_file"))
HEALTH_KEYS = frozenset(("epoch", "layer", "scheme", "underflow", "clipped", "snr_db", "kernel_snr_db"))
"""What the page needs of ``estimate.json``, ``verify.json``, ``result.json`` and ``gradients.csv``."""


def report(run_dir: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a run directory, from what is there; only ``model.hgq`` is required.

    Reads ``model.hgq``, ``recipe.toml`` (budgets), ``result.json`` (the models delivered), ``history.csv``, ``gradients.csv``,
    ``pareto/pareto.json``, ``estimate.json`` and ``verify.json``.

    Raises:
        DataError: not a run directory.
        FileFormatError: one of the files is damaged.
        OutputError: the page cannot be written.
    """
    folder = Path(run_dir)
    model = folder / "model.hgq"
    if not model.is_file():
        raise DataError(
            "This is not a run directory.",
            where=str(folder),
            expected="a directory with model.hgq",
            received="no model.hgq in it" if folder.is_dir() else "no directory",
            fix="Name the directory that `hgq train` or `hgq demo` wrote.",
        )
    page = render(
        file.load(model),
        _history(folder / "history.csv"),
        _points(folder / "pareto" / "pareto.json"),
        _mapping(folder / "estimate.json", ESTIMATE_KEYS, ESTIMATE_RANGES),
        _mapping(folder / "verify.json", VERIFY_KEYS),
        budgets=_budgets(folder / "recipe.toml"),
        result=_result(folder / "result.json"),
        gradients=_health(folder / "gradients.csv"),
    )
    return write_file_atomically(folder / "report.html", page, force=True)


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError("A file of the run is damaged.", where=str(path), expected="JSON", received=str(error)) from error


def _history(path: Path) -> list[dict[str, str]] | None:
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise FileFormatError("A file of the run is damaged.", where=str(path), expected="CSV", received=str(error)) from error


def _health(path: Path) -> list[dict[str, str]] | None:
    """Rows of `hgq.training.GradientHealth`."""
    rows = _history(path)
    if rows and not set(rows[0]) >= HEALTH_KEYS:
        received = f"nothing for {', '.join(sorted(HEALTH_KEYS - set(rows[0])))}"
        raise FileFormatError("A file of the run is damaged.", where=str(path), expected=", ".join(sorted(HEALTH_KEYS)), received=received)
    return rows


def _mapping(path: Path, keys: frozenset[str], ranges: tuple[str, ...] = ()) -> Any:
    """A JSON object that has at least `keys`, of which `ranges` have a low, a value and a high."""
    content = _json(path)
    if content is None:
        return None
    received = type(content).__name__
    if isinstance(content, dict):
        received = ", ".join(sorted(keys - set(content))) and f"nothing for {', '.join(sorted(keys - set(content)))}"
        if not received and all(isinstance(content[key], dict) and {"low", "value", "high"} <= set(content[key]) for key in ranges):
            return content
    expected = f"an object with {', '.join(sorted(keys))}"
    raise FileFormatError(
        "A file of the run is damaged.", where=str(path), expected=expected, received=received or "numbers without a range"
    )


def _result(path: Path) -> Any:
    """The models that were delivered, each with what the page shows of it."""
    content = _mapping(path, RESULT_KEYS)
    if content is None:
        return None
    points, main = content["points"], content["main"]
    whole = isinstance(points, list) and all(isinstance(point, dict) and set(point) >= POINT_KEYS for point in points)
    if not whole or not isinstance(main, int) or not 0 <= main < len(points):
        expected = f"points with {', '.join(sorted(POINT_KEYS))}, and main, the index of one"
        raise FileFormatError("A file of the run is damaged.", where=str(path), expected=expected, received=f"main {main!r}")
    return content


def _points(path: Path) -> list[Any] | None:
    """The list of points, bare or under ``points``."""
    content = _json(path)
    points = content.get("points") if isinstance(content, dict) else content
    if points is None and content is None:
        return None
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise FileFormatError(
            "A file of the run is damaged.", where=str(path), expected="a list of points", received=type(content).__name__
        )
    return points


def _budgets(path: Path) -> list[float]:
    if not path.is_file():
        return []
    try:
        asked = tomllib.loads(path.read_text(encoding="utf-8")).get("budget", {}).get("ebops", [])  # the charts' axis is EBOPs
        return [float(b) for b in (asked if isinstance(asked, list) else [asked])]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise FileFormatError("A file of the run is damaged.", where=str(path), expected="a recipe in TOML", received=str(error)) from error

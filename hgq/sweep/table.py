"""What came of the trials of a sweep: rows, a CSV file, and which models no other one beats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hgq.errors import FileFormatError
from hgq.report.charts import front
from hgq.sweep.trial import Trial

Row = dict[str, Any]
FILE = "sweep.csv"


def rows_of(trials: Sequence[Trial], out: Path, failures: Mapping[str, str]) -> list[Row]:
    """One row for each model that a trial delivered, and one for each trial that has none (yet).

    Keys: ``trial``, the fields that the sweep changes, by their paths, ``state`` (``done``, ``begun``, ``new``, ``failed``), ``resource``
    and ``budget`` asked for, ``within`` (whether it was met), ``ebops``, ``lut`` and ``latency_ns`` (of its RTL by `hgq estimate`, where
    known), ``metric``, ``val``, ``test``, ``epochs``, ``seconds``, ``verified`` (bit by bit; None where the recipe skips it), ``front``
    (whether no other model has no more EBOPs and a better ``val``), ``model`` (the .hgq file in the sweep directory).

    Raises:
        FileFormatError: a file of a finished trial is damaged.
    """
    rows = [row for trial in trials for row in _rows(trial, out, failures)]
    finished = [row for row in rows if row["state"] == "done"]
    if finished:
        rises = finished[0]["metric"] == "accuracy"
        best = set(front([(row["ebops"], row["val"]) for row in finished], higher_is_better=rises))
        for row in finished:
            row["front"] = (row["ebops"], row["val"]) in best
    return rows


def _rows(trial: Trial, out: Path, failures: Mapping[str, str]) -> list[Row]:
    swept = {path: _told(value) for path, value in trial.changes.items()}
    state = trial.state(out)
    head = {"trial": trial.name, **swept, "state": "failed" if state != "done" and trial.name in failures else state}
    if state != "done":
        return [head]
    directory = trial.directory(out)
    result, estimate, verdict = (_json(directory / name) for name in ("result.json", "estimate.json", "verify.json"))
    made = []
    try:
        for number, point in enumerate(result["points"]):
            main = number == result["main"]
            lut = point["lut"] if point["lut"] is not None else round(estimate["lut"]["value"]) if main and estimate else None
            latency = point["latency_ns"] or (estimate["latency_ns"]["value"] if main and estimate else None)
            made.append(
                {
                    **head,
                    "resource": point["resource"],
                    "budget": point["budget"],
                    "within": point["within"],
                    "ebops": point["ebops"],
                    "lut": lut,
                    "latency_ns": latency,
                    "metric": result["metric"],
                    "val": point["val"],
                    "test": point["test"],
                    "epochs": result["epochs"],
                    "seconds": result["seconds"],
                    "verified": verdict["ok"] if main and verdict else None,
                    "front": False,
                    "model": (directory / point["hgq_file"]).relative_to(out).as_posix(),
                }
            )
    except (KeyError, TypeError) as error:
        raise _damaged(directory, str(error)) from None
    return made


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV text; what a row lacks is empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def _told(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else json.dumps(value)


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, received: str) -> FileFormatError:
    return FileFormatError("The result of a trial is damaged.", where=str(path), received=received, fix="Delete the trial and resume.")

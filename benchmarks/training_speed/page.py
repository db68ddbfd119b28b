"""The store, and docs/performance.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.training_speed.plan import CASES

BENCHMARKS = Path(__file__).parents[1]
PAGE = BENCHMARKS.parent / "docs" / "performance.md"
DATA = BENCHMARKS / "data" / "training.json"
TITLES = {"mlp": "Jet MLP 16-64-32-32-5", "conv": "SVHN-like net (16, 16, 24 of 3x3; 42, 64, 10)"}
SHARED = {"element": "bits for each activation", "channel": "bits for each channel of activations"}


def read() -> dict[str, Any]:
    return json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {}


def store(case: str, measured: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add a case, or contenders to one that is there: each measurement has its own float32 beside it."""
    seen = read()
    cases = {**seen.get("cases", {}), case: {"machine": facts, "contenders": measured}}
    DATA.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")


def render(data: dict[str, Any]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(BENCHMARKS), undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    seen = data.get("cases", {})
    cases = {}
    for case in CASES:
        if case.name in seen:
            title = f"{TITLES[case.network]}, batch {case.batch:,}, {SHARED[case.granularity]}"
            cases[case.name] = {"title": title, "table": table(seen[case.name]["contenders"]), "machine": seen[case.name]["machine"]}
    return environment.get_template("training.md.j2").render(cases=cases)


def table(contenders: dict[str, Any]) -> str:
    lines = ["| | CPU ms a step | of float32 | first step, CPU s | peak memory, MB |", "|---|---|---|---|---|"]
    for name, row in contenders.items():
        low, middle, high = row["ratio"]
        ratio = "1" if (low, high) == (1, 1) else f"{middle:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {name} | {row['ms'][1]:.1f} | {ratio} | {row['first_cpu_s']:.1f} | {row['peak_mb']:,} |")
    return "\n".join(lines)

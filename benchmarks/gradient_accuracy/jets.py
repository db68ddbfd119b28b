"""The main job, `hgq train` on jets, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gradient_accuracy.plan import JETS, JETS_EPOCHS, Run
from hgq.errors import HGQError

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "recipes" / "jets.toml"


def command(run: Run, out: Path) -> list[str]:
    """The command line of one run."""
    method = JETS[run.method]
    options = ["--epochs", str(JETS_EPOCHS), "--seed", str(run.seed + 1), "--gradients", method.gradients, "--out", str(out), "--json"]
    if method.step != "none":
        options += ["--step", method.step]
    if method.finetune:
        options += ["--finetune", str(method.finetune)]
    return [sys.executable, "-c", "from hgq.cli import main; main()", "train", str(RECIPE), *options]


def outcome(run: Run) -> dict[str, Any]:
    """Train to the budgets of the recipe, freeze, and verify the middle model.

    Raises:
        HGQError: the run failed.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "run", time.perf_counter()
        done = subprocess.run(command(run, out), env=environment, capture_output=True, text=True)
        if done.returncode not in (0, 1) or not (out / "verify.json").is_file():
            raise HGQError("The main job failed.", where=run.key, received=done.stderr[-2000:])
        result, verdict = (json.loads((out / name).read_text(encoding="utf-8")) for name in ("result.json", "verify.json"))
    return {
        "points": [{name: point[name] for name in ("budget", "ebops", "test", "within")} for point in result["points"]],
        "checks": [
            {name: check[name] for name in ("name", "samples", "mismatches")} for check in verdict["checks"] if check["skipped"] is None
        ],
        "seconds": round(time.perf_counter() - start, 1),
    }

"""The main job on jets: what `hgq train --gradients …` does, in this process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gradient_accuracy.plan import JETS, JETS_OPTIONS, Run
from hgq.config import Recipe
from hgq.training import train
from hgq.workflow import finish

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "jets.toml"


def recipe(run: Run) -> Recipe:
    """What `hgq train` makes of the recipe and its options."""
    method = JETS[run.method]
    changes: dict[str, Any] = {"epochs": JETS_OPTIONS["epochs"], "seed": run.seed + 1}
    changes |= {name: getattr(method, name) for name in ("gradients", "step") if getattr(method, name) != "none"}
    if method.finetune:
        changes["finetune"] = method.finetune
    given = Recipe.from_toml(RECIPE)
    if not method.ends:  # the first rule that matches counts: that of all layers again, before it, for the two ends
        ends = f"^qdense_(0|{len(given.model.widths)})$"
        given = given.model_copy(update={"rules": [given.rules[0].model_copy(update={"match": ends, "gradients": "none"}), *given.rules]})
    return given.changed(train=changes, budget={"ebops": JETS_OPTIONS["ebops"]}, export={"backends": JETS_OPTIONS["backends"]})


def outcome(run: Run) -> dict[str, Any]:
    """Train to the budget, freeze, and verify the model on the recipe's number of test samples.

    Raises:
        HGQError: the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "run", time.perf_counter()
        result = train(recipe(run), out, progress=False)
        verdict = finish(out).verdict
    checks = [] if verdict is None else [check for check in verdict.checks if check.skipped is None]
    return {
        "accuracy": round(result.point.test, 5),
        "ebops": result.point.ebops,
        "within": result.point.within,
        "checks": {check.name: [check.mismatches, check.samples] for check in checks},
        "seconds": round(time.perf_counter() - start, 1),
    }

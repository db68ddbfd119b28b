"""A model at the end of a run: exact ranges, frozen, saved, measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hgq.estimate.ebops import ebops_of
from hgq.estimate.plan import fastest_cut
from hgq.freeze import freeze
from hgq.ir import file as hgq_file
from hgq.output import writing
from hgq.training.loop import score
from hgq.training.result import Point

if TYPE_CHECKING:
    from hgq.training.run import Run


def deliver_one(run: Run, target: float | None, epoch: int, folder: str) -> Point:
    """Calibrate, freeze and save the model that the variables of a run hold; what it is.

    Args:
        run: In whose directory the files go.
        target: The budget that it was chosen for.
        epoch: Its variables are of.
        folder: Below the run directory, ending in a slash; "" for itself.
    """
    run.calibrate()
    graph = freeze(run.model)
    ebops = int(ebops_of(graph))
    key = "accuracy" if run.metric == "accuracy" else "loss"
    val = run.validate()[f"val_{key}"]
    test = score(run.loop.predict(run.data.x_test), run.data.y_test, run.recipe.train.loss)[key]
    export = run.recipe.export
    notes: dict[str, Any] = {"part": export.part, "clock_ns": export.clock_ns}
    notes |= {"data": run.data.name, "epoch": epoch, f"test_{run.metric}": round(test, 6), "test_samples": len(run.data.y_test)}
    plan = run.firmware.plan(graph)
    if plan is not None:
        notes["pipeline"] = asdict(plan)
    if target is not None:
        notes[f"budget_{run.recipe.resource}"] = target
    place = run.directory / folder
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        run.model.save(place / "model.keras")
    hgq_file.save(graph.with_(meta={**graph.meta, **notes}), place / "model.hgq", force=True)
    tolerance = run.recipe.budget.tolerance if run.recipe.budget else 0.0
    lut = round(run.firmware.luts(graph)) if run.recipe.resource == "lut" else None
    spent = ebops if lut is None else lut
    wanted = export.latency_ns
    within = (target is None or (1 - tolerance) * target <= spent <= target) and (wanted is None or plan is not None)
    cut = plan or (None if wanted is None else fastest_cut(graph, run.recipe.export.part, run.recipe.export.clock_ns))
    timing = (wanted, cut.ns if cut else None, cut.cycles if cut else None, plan.clock_ns if plan else None)
    files = (f"{folder}model.keras", f"{folder}model.hgq")
    return Point(target, ebops, epoch, val, test, len(run.data.y_test), *files, within, run.recipe.resource, lut, *timing)

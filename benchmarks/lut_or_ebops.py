"""Charging LUTs in the loss against charging EBOPs, at equal accuracy; writes benchmarks/data/lut_or_ebops*.json and their page in docs/.

    python benchmarks/lut_or_ebops.py             every run and synthesis that the store lacks; three minutes each on an idle core
    python benchmarks/lut_or_ebops.py --task letter
    python benchmarks/lut_or_ebops.py --list      what is there
    python benchmarks/lut_or_ebops.py --render    docs/lut-or-ebops.md again, nothing is run

Both sides have one recipe (`hgq train` as users run it); only the key under ``[budget]`` differs. Each run goes
through the same budgets from large to small; each model that it delivers is synthesised by Yosys. Interrupt at will: finished runs and
single syntheses are kept, and a run with other settings than now is made again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DATA = ROOT / "benchmarks" / "data"
PAGE = ROOT / "docs" / "lut-or-ebops.md"
SHARED = next((folder for folder in (ROOT.parent / "shared" / "data", Path("/work/shared/data")) if folder.is_dir()), Path("shared/data"))
PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0
Store = dict[str, dict[str, Any]]


class Task(NamedTuple):
    """What is trained, and where its page looks.

    Args:
        store: Where results are kept.
        seeds: Of the runs of each side.
        budgets: Of LUTs, and of EBOPs: one EBOP is about a LUT.
        epochs: Of each budget.
        changes: The rest of the recipe, as far as it is no default; a data set's path is below `SHARED`.
        accuracies, luts: At which the two sides are compared.
    """

    store: Path
    seeds: Sequence[int]
    budgets: Sequence[int]
    epochs: int
    changes: dict[str, dict[str, Any]]
    accuracies: Sequence[float]
    luts: Sequence[int]


JETS = Task(
    DATA / "lut_or_ebops.json",
    range(3),
    [2000, 1000, 500, 300, 180, 110],
    50,
    {},
    (0.700, 0.690, 0.680, 0.670, 0.660, 0.650),
    (900, 700, 500, 350, 250, 180, 130),
)
LETTER = Task(
    DATA / "lut_or_ebops_letter.json",
    range(5),
    [8000, 4000, 2000, 1000],
    40,
    {
        "data": {"path": "uci_keel.npz", **{key: f"letter_{key}" for key in ("x_train", "y_train", "x_test", "y_test")}},
        "train": {"batch_size": 256, "jit_compile": False},
    },
    (0.74, 0.72, 0.70, 0.68, 0.66, 0.64, 0.62, 0.60, 0.58, 0.56, 0.54, 0.52, 0.50),
    (8000, 6000, 4000, 3000, 2000, 1500, 1000),
)
TASKS = {"jets": JETS, "letter": LETTER}
STORE = JETS.store


def settings(resource: str, seed: int, task: Task = JETS) -> dict[str, Any]:
    """The recipe of a run, as far as it is no default."""
    return {
        **task.changes,
        "train": {**task.changes.get("train", {}), "epochs": task.epochs, "seed": seed},
        "budget": {resource: list(task.budgets)},
        "export": {"part": PART, "clock_ns": CLOCK_NS},
    }


def runs(task: Task = JETS) -> list[tuple[str, int]]:
    return [(resource, seed) for seed in task.seeds for resource in ("lut", "ebops")]


def key_of(resource: str, seed: int) -> str:
    return f"{resource}/{seed}"


def read(path: Path = STORE) -> Store:
    return json.loads(path.read_text()) if path.is_file() else {}


def write(store: Store, path: Path) -> None:
    from hgq.output import write_file_atomically

    write_file_atomically(path, json.dumps(dict(sorted(store.items())), indent=1) + "\n", force=True)


def folder_of(resource: str, seed: int, task: Task = JETS) -> Path:
    """Where the models of a run are kept, for their synthesis."""
    from hgq import cache

    return cache.folder("benchmarks", task.store.stem, f"{resource}_{seed}")


def trained(resource: str, seed: int, task: Task = JETS) -> dict[str, Any]:
    """One run: its settings, and what it delivered for each budget."""
    from hgq.config import Recipe
    from hgq.training import train

    folder, asked = folder_of(resource, seed, task), settings(resource, seed, task)
    shutil.rmtree(folder, ignore_errors=True)
    data = {"data": {**asked["data"], "path": str(SHARED / asked["data"]["path"])}} if "data" in asked else {}
    result = train(Recipe.from_dict({**asked, **data}), folder, progress=False)
    points = [
        {"budget": point.budget, "within": point.within, "val": point.val, "test": point.test, "test_samples": point.test_samples,
         **described(folder / point.keras_file, folder / point.hgq_file)}
        for point in result.points
    ]  # fmt: skip
    return {"settings": asked, "epochs": result.epochs, "seconds": result.seconds, "points": points}


def described(keras_file: Path, hgq_file: Path) -> dict[str, Any]:
    """What a model costs by every formula that needs no synthesis."""
    import keras
    from lut_price import layers_of

    from hgq.estimate import estimate
    from hgq.estimate.ebops import ebops_of
    from hgq.ir import file
    from hgq.layers import set_resource, total_cost

    graph, model = file.load(hgq_file), keras.models.load_model(keras_file, compile=False)
    set_resource(model, "lut")
    counts = estimate(graph, PART, CLOCK_NS, "rtl").counts.lut
    return {
        "ebops": int(ebops_of(graph)),
        "price": round(float(total_cost(model, "lut")), 1),
        "estimate": [round(counts.low), round(counts.value), round(counts.high)],
        "layers": [[round(value, 2) for value in one[1:]] for one in layers_of(graph, "")],  # for `lut_price.py`
    }


def synthesised(resource: str, seed: int, budget: float, task: Task = JETS) -> dict[str, Any]:
    """What Yosys makes of one delivered model."""
    from hgq.ir import file
    from hgq.synth import synthesise

    found = synthesise(file.load(folder_of(resource, seed, task) / "budgets" / f"{budget:.0f}" / "model.hgq"), PART, CLOCK_NS)
    net = found.netlist
    return {"lut": net.lut, "ff": net.ff, "carry": net.carry, "cycles": found.cycles, "tool": found.tool}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, help="one alone (default: both)")
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--render", action="store_true", help="write the page, run nothing")
    parser.add_argument("--no-synth", dest="synth", action="store_false", help="train alone")
    options = parser.parse_args()
    for name in [] if options.render else [options.task] if options.task else TASKS:
        if options.list:
            show(name)
        else:
            complete(TASKS[name], options.synth)
    if not options.list:
        from benchmarks.lut_or_ebops_page import page

        PAGE.write_text(page(read(JETS.store), read(LETTER.store)), encoding="utf-8")
    return 0


def missing(task: Task, store: Store) -> list[tuple[str, int]]:
    return [run for run in runs(task) if store.get(key_of(*run), {}).get("settings") != settings(*run, task)]


def show(name: str) -> None:
    store = read(TASKS[name].store)
    for run in runs(TASKS[name]):
        points = store.get(key_of(*run), {}).get("points", [])
        synthesised = f"{sum('lut' in point for point in points)} of {len(points)} models synthesised"
        print(f"{name:<7} {key_of(*run):<10} {'missing' if run in missing(TASKS[name], store) else synthesised}")


def complete(task: Task, synth: bool) -> None:
    """Do what the store lacks."""
    store = read(task.store)
    for run in runs(task):
        if run in missing(task, store):
            start = time.process_time()
            store[key_of(*run)] = trained(*run, task)
            write(store, task.store)
            print(f"{key_of(*run)}: {time.process_time() - start:.0f} s CPU", flush=True)
        for point in store[key_of(*run)]["points"] if synth else []:
            if "lut" not in point:
                point |= synthesised(*run, point["budget"], task)
                write(store, task.store)
                print(f"{key_of(*run)} {point['budget']:.0f}: {point['lut']} LUT", flush=True)


if __name__ == "__main__":
    sys.exit(main())

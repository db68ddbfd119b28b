"""What a step of many jets models costs over a step of one; writes benchmarks/data/sweep.json and a section of docs/sweeps.md.

    python benchmarks/sweep.py                         16 models, batches of 128 to 2,048; some minutes
    python benchmarks/sweep.py --models 4 --batches 128,1024
    python benchmarks/sweep.py --whole 30              besides: whole commands of 30 epochs, `hgq train` and `hgq sweep --vectorize`
    python benchmarks/sweep.py --dry                   show, keep nothing
    python benchmarks/sweep.py --render                the section again, nothing is run

One model (as `hgq train` trains it with jit_compile = false) and the stack of all run in turns, an epoch each; a ratio is that of two
neighbours, and the median of the ratios is kept, so that whoever else uses the machine slows both sides down.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STORE = ROOT / "benchmarks" / "data" / "sweep.json"
PAGE = ROOT / "docs" / "sweeps.md"
RECIPE = ROOT / "examples" / "recipes" / "jets.toml"
BEGIN, END = "<!-- Written by benchmarks/sweep.py: do not edit. -->\n", "<!-- End of what benchmarks/sweep.py writes. -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=16, help="of the stack (default: %(default)s)")
    parser.add_argument("--batches", default="128,512,1024,2048", help="batch sizes (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default: %(default)s)")
    parser.add_argument("--whole", type=int, default=0, metavar="EPOCHS", help="measure whole commands, of so many epochs, too")
    parser.add_argument("--dry", action="store_true", help="show, keep nothing")
    parser.add_argument("--render", action="store_true", help="write the section, run nothing")
    options = parser.parse_args()
    if not options.render:
        kept = json.loads(STORE.read_text()) if STORE.is_file() else {}
        kept["steps"] = [step(options.models, int(batch), options.rounds) for batch in options.batches.split(",")]
        kept["facts"] = facts()
        if options.whole:
            kept["whole"] = whole(options.models, options.whole)
        print(json.dumps(kept, indent=1))
        if options.dry:
            return 0
        STORE.write_text(json.dumps(kept, indent=1) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    text = section(json.loads(STORE.read_text()))
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: BEGIN + text + END, page, flags=re.DOTALL), encoding="utf-8")
    return 0


def facts() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    load = round(os.getloadavg()[0], 1)
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "tensorflow": metadata.version("tensorflow"),
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "load": load,
    }


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def step(models: int, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step of one and of all, CPU and wall, and the medians of their ratios; and whether model 0 came out the same."""
    import keras
    import numpy as np

    from hgq.config import Recipe
    from hgq.sweep.stack import Stack
    from hgq.sweep.stack.stack import state_of
    from hgq.training import load_data
    from hgq.training.build import build_model
    from hgq.training.loop import Loop, order

    recipe = Recipe.from_toml(RECIPE).changed(train={"jit_compile": False, "batch_size": batch})
    data = load_data(recipe)

    def built(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return build_model(recipe, data)

    alone, many = built(0), [built(seed) for seed in range(models)]
    loop = Loop(alone, data.x_train, data.y_train, batch_size=batch, seed=0, jit_compile=False)
    start = cpu_seconds()
    stack = Stack(many, [(data.x_train, data.y_train)] * models, batch_size=batch)
    stack.run_epoch([(seed, 0) for seed in range(models)])
    first = cpu_seconds() - start
    loop.run_epoch(0)
    one, all_ = [], []
    for epoch in range(1, rounds + 1):
        for work, times in (
            (lambda epoch=epoch: loop.run_epoch(epoch), one),
            (lambda epoch=epoch: stack.run_epoch([(seed, epoch) for seed in range(models)]), all_),
        ):
            wall, cpu = time.perf_counter(), cpu_seconds()
            work()
            times.append((cpu_seconds() - cpu, time.perf_counter() - wall))
    stack.pull()
    steps = len(order(0, 0, stack.samples, batch))
    same = all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(state_of(alone), state_of(many[0]), strict=True))
    found: dict[str, Any] = {"models": models, "batch": batch, "same_bits": same, "first_cpu_s": round(first, 1)}
    for index, clock in enumerate(("cpu", "wall")):
        found[f"{clock}_one_ms"] = round(1e3 * statistics.median(times[index] for times in one) / steps, 2)
        found[f"{clock}_all_ms"] = round(1e3 * statistics.median(times[index] for times in all_) / steps, 2)
        found[f"{clock}_ratio"] = round(statistics.median(b[index] / a[index] for a, b in zip(one, all_, strict=True)), 2)
    return found


def whole(models: int, epochs: int) -> dict[str, Any]:
    """CPU and wall seconds of whole commands: everything from the start of Python to the last report."""
    found: dict[str, Any] = {"models": models, "epochs": epochs}
    text = (
        RECIPE.read_text(encoding="utf-8")
        .replace("ebops = [20000, 5000, 1500]", "ebops = 5000")
        .replace("seed = 1", "seed = 1\njit_compile = false")
    )
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / "jets.toml"
        recipe.write_text(text, encoding="utf-8")
        common = [str(recipe), "--epochs", str(epochs), "--samples", "0"]
        commands = {"one": ["train", *common, "--out", f"{place}/one"]}
        commands["all"] = ["sweep", *common, "--seeds", f"0:{models}", "--vectorize", "--out", f"{place}/all"]
        for name, arguments in commands.items():
            wall, cpu = time.perf_counter(), cpu_seconds(resource.RUSAGE_CHILDREN)
            done = subprocess.run([sys.executable, "-c", "from hgq.cli import main; main()", *arguments], capture_output=True, text=True)
            if done.returncode not in (0, 1):  # 1: a budget missed by so few epochs
                raise SystemExit(done.stderr)
            found[f"cpu_{name}_s"] = round(cpu_seconds(resource.RUSAGE_CHILDREN) - cpu, 1)
            found[f"wall_{name}_s"] = round(time.perf_counter() - wall, 1)
    return found


def section(kept: dict[str, Any]) -> str:
    facts = kept["facts"]
    rows = "".join(
        f"| {row['batch']:,} | {row['cpu_one_ms']} | {row['cpu_all_ms']} | {row['cpu_ratio']} | {row['wall_ratio']} | "
        f"{'yes' if row['same_bits'] else 'NO'} |\n"
        for row in kept["steps"]
    )
    models = kept["steps"][0]["models"]
    text = (
        f"\n| batch | CPU ms a step, one model | {models} in one step | ratio of CPU time | ratio of wall time | same bits |\n"
        "|---|---|---|---|---|---|\n"
        f"{rows}\nJet MLP 16-64-32-32-5, bits for each activation; {facts['cpu']}, TensorFlow {facts['tensorflow']}, {facts['date']}, "
        f"{facts['commit']}; medians of\npairs, load average {facts['load']} (above the number of cores, wall time says little).\n"
    )
    if found := kept.get("whole"):
        ratios = [found[f"{clock}_all_s"] / found[f"{clock}_one_s"] for clock in ("cpu", "wall")]
        text += (
            f"\nWhole commands of {found['epochs']} epochs, from the start of Python to the reports: `hgq train` took "
            f"{found['cpu_one_s']} s\nof CPU time, `hgq sweep --vectorize` of {found['models']} seeds {found['cpu_all_s']} s, "
            f"{ratios[0]:.1f} times as much; of wall time {found['wall_one_s']} s and {found['wall_all_s']} s, {ratios[1]:.1f} times.\n"
        )
    return text + "\n"


if __name__ == "__main__":
    sys.exit(main())

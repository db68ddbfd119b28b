"""What gradients on few bits cost in accuracy, measured on real data; writes docs/gradients.md.

    python benchmarks/gradients.py                     every run that the store lacks; about two hours on one core
    python benchmarks/gradients.py --only '^mlp/luq'   those whose name (task/method/seed) matches
    python benchmarks/gradients.py --part 1/2          every second method; with --part 2/2 beside it, two cores work
    python benchmarks/gradients.py --list              the runs, and which are there
    python benchmarks/gradients.py --render            docs/gradients.md again, nothing is run

benchmarks/data/gradients.json keeps each run with its settings: an interrupted benchmark goes on where it was, a run whose settings have
changed since is run again, and so is everything with --again. tests/gradients/test_page.py checks that the page is what the store says.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.gradient_accuracy import page, store  # noqa: E402
from benchmarks.gradient_accuracy.plan import Run, runs  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
if not DATA.is_dir():
    DATA = Path("/work/shared/data")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="REGEX", help="runs whose task/method/seed matches, in this order")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N parts of the methods")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of mnist.npz and cifar10_10k.npz (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="run also what is there already")
    parser.add_argument("--list", action="store_true", help="list the runs")
    parser.add_argument("--render", action="store_true", help="write the page, run nothing")
    options = parser.parse_args()
    if options.render:
        page.PAGE.write_text(page.render(store.read()), encoding="utf-8")
        return 0
    seen = store.read()
    chosen = list(dict.fromkeys(run for regex in options.only for run in runs() if re.search(regex, run.key)))
    if options.list:
        for run in chosen:
            entry = seen.get(run.key)
            print(f"{run.key:<32} {'missing' if entry is None else 'there' if store.matches(entry, run.settings()) else 'outdated'}")
        return 0
    missing = [run for run in chosen if options.again or not store.matches(seen.get(run.key), run.settings())]
    groups = [list(group) for _, group in groupby(missing, lambda run: (run.task, run.method))]
    first, of = map(int, options.part.split("/"))
    return measure(groups[first - 1 :: of], options.data)


def measure(groups: list[list[Run]], folder: Path) -> int:
    """Run groups of seeds, each of one method; returns how many failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from benchmarks.gradient_accuracy.measure import outcomes
    from hgq.errors import HGQError

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    failed, console = 0, Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=sum(map(len, groups)))
        for group in groups:
            progress.update(bar, description=f"{group[0].task}/{group[0].method}")
            try:
                for run, outcome in outcomes(group, folder):
                    store.add(run.key, {**outcome, "commit": commit, "settings": run.settings()})
                    console.print(run.key, *(f"{name} {value}" for name, value in outcome.items()))
                    progress.advance(bar)
            except HGQError as error:  # the other methods can still be measured
                failed += 1
                console.print(f"[red]{group[0].task}/{group[0].method}: {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main())

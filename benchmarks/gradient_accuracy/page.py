"""docs/gradients.md from its template and the store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import chain, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import jinja2

from benchmarks.gradient_accuracy import plan
from benchmarks.gradient_accuracy.plan import JETS, METHODS, TARGETS, Target
from benchmarks.gradient_accuracy.store import Store, matches
from benchmarks.gradient_memory import MODES, NETWORKS, SCHEMES

BENCHMARKS = Path(__file__).parents[1]
PAGE = BENCHMARKS.parent / "docs" / "gradients.md"
TEMPLATE = "gradients.md.j2"
SPEED, MEMORY = (BENCHMARKS / "data" / f"gradient_{what}.json" for what in ("speed", "memory"))
NOT_MEASURED = "–"


def render(store: Store) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(BENCHMARKS), undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    measured = Measured(store)
    speed, memory = (json.loads(path.read_text(encoding="utf-8")) if path.exists() else None for path in (SPEED, MEMORY))
    return environment.get_template(TEMPLATE).render(measured=measured, plan=plan, speed=speed, memory=memory and memory_table(memory))


def memory_table(memory: dict[str, dict[str, Any]]) -> str:
    """Peaks of training steps: a row for each network and mode, a column for each way to compute gradients."""
    schemes = [scheme for scheme in SCHEMES if any(key.endswith(f"/{scheme}") for key in memory)]
    rows = []
    for network, mode in product(NETWORKS, MODES):
        found = [memory.get(f"{network}/{mode}/{scheme}") for scheme in schemes]
        if any(found):
            cells = [NOT_MEASURED if entry is None else str(entry["megabytes"]) for entry in found]
            rows.append([NETWORKS[network], MODES[mode], *cells])
    return table(["MiB", "in", *("float32" if scheme == "none" else f"`{scheme}`" for scheme in schemes)], rows)


class Measured:
    """The store as tables. Entries of runs that the plan does not have, or has with other settings, do not count.

    Args:
        store: What `gradient_accuracy.store.read` returned.
    """

    def __init__(self, store: Store) -> None:
        self.entries: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        self.missing: list[str] = []
        for run in plan.runs():
            entry = store.get(run.key)
            if matches(entry, run.settings()):
                self.entries.setdefault((run.task, run.method), {})[run.seed] = entry  # type: ignore[assignment]
            else:
                self.missing.append(run.key)

    def values(self, task: str, method: str, what: str) -> dict[int, float]:
        """A measured number, by seed."""
        return {seed: entry[what] for seed, entry in self.entries.get((task, method), {}).items()}

    # ---- tables ----------------------------------------

    def schemes(self, *names: Iterable[str], tasks: dict[str, str] | None = None) -> str:
        """Accuracy and final training loss, of methods by name; without those that were not measured.

        Args:
            *names: Of methods.
            tasks: Names of tasks, and what their columns are called.
        """
        tasks = tasks or {"mlp": "MNIST", "conv": "CIFAR-10"}
        rows = []
        for name in chain(*names):
            if not any((task, name) in self.entries for task in tasks):
                continue
            method = next(METHODS[task][name] for task in tasks if name in METHODS[task])
            cells = []
            for task in tasks:
                cells += [percent(self.values(task, name, "accuracy")), spread(self.values(task, name, "loss"), 3)]
            rows.append([method.title, *cells])
        return table(["gradients", *chain(*([f"{title}, %", "loss"] for title in tasks.values()))], rows)

    def look_ahead(self, task: str) -> str:
        """Accuracy, loss and changes of sign of kernels, of methods that were measured."""
        rows = []
        for name, method in METHODS[task].items():
            if (task, name) not in self.entries:
                continue
            numbers = [self.values(task, name, what) for what in ("accuracy", "loss", "flips")]
            rows.append([method.title, percent(numbers[0]), spread(numbers[1], 3), spread(numbers[2], 2)])
        return table(["", "accuracy, %", "loss", "changes of sign"], rows)

    def targets(self) -> str:
        """Each promise, what was measured, and whether it held."""
        rows = []
        for target in TARGETS:
            found = self.difference(target)
            task = plan.TASKS[target.task].title
            if found is None:
                rows.append([target.title, task, NOT_MEASURED, NOT_MEASURED, "not measured"])
                continue
            points, error = found
            seeds = str(len(self.differences(target)))
            rows.append([target.title, task, f"{points:+.2f} ± {error:.2f}", seeds, target.verdict(points, error)])
        return table(["aim", "on", "measured, points", "seeds", ""], rows)

    def differences(self, target: Target) -> list[float]:
        """Points of accuracy by which the first is better, of each seed that both have."""
        first, second = (self.values(target.task, name, "accuracy") for name in (target.better, target.worse))
        return [100 * (first[seed] - second[seed]) for seed in sorted(first.keys() & second.keys())]

    def difference(self, target: Target) -> tuple[float, float] | None:
        """Their mean, and its standard error; None with fewer than three seeds."""
        differences = self.differences(target)
        if len(differences) < 3:
            return None
        return fmean(differences), stdev(differences) / math.sqrt(len(differences))

    def to_do(self) -> str:
        """Methods of the plan without any run, by task; empty if there is none."""
        lacking: dict[str, list[str]] = {}
        for task, methods in {**METHODS, "jets": JETS}.items():
            for name in methods:
                if (task, name) not in self.entries:
                    lacking.setdefault(task, []).append(f"`{name}`")
        return "; ".join(f"{task}: {', '.join(names)}" for task, names in lacking.items())

    def jets(self) -> str:
        """Accuracy, EBOPs, and what verification found."""
        rows = []
        for name, method in JETS.items():
            entries = self.entries.get(("jets", name), {})
            if not entries:
                continue
            checks = [check for entry in entries.values() for check in entry["checks"].values()]
            wrong, samples = (sum(check[n] for check in checks) for n in (0, 1))
            ebops = spread({seed: entry["ebops"] for seed, entry in entries.items()}, 0)
            if not all(entry["within"] for entry in entries.values()):
                ebops += ", **budget missed**"
            rows.append([method.title, str(len(entries)), percent(self.values("jets", name, "accuracy")), ebops, f"{wrong} of {samples:,}"])
        return table(["gradients", "seeds", "accuracy, %", "EBOPs", "mismatches"], rows)


def percent(values: dict[int, float]) -> str:
    """Mean and standard deviation of accuracies, in per cent."""
    return spread({seed: 100 * value for seed, value in values.items()}, 2)


def spread(values: dict[int, float], digits: int) -> str:
    """Mean and, of more than one, standard deviation."""
    if not values:
        return NOT_MEASURED
    mean = f"{fmean(values.values()):.{digits}f}"
    return f"{mean} ± {stdev(values.values()):.{digits}f}" if len(values) > 1 else mean


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""What came of charging LUTs and of charging EBOPs: docs/lut-or-ebops.md from the stores of `lut_or_ebops.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.lut_or_ebops import JETS, LETTER, PART, Store, Task, key_of


class Front(NamedTuple):
    """Accuracy over log(LUT) of one run, made monotone: a model that another beats in both is of no use."""

    log_lut: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @staticmethod
    def of(points: list[dict[str, Any]]) -> Front:
        best, kept = -1.0, []
        for point in sorted((point for point in points if "lut" in point), key=lambda point: (point["lut"], -point["test"])):
            if point["test"] > best:
                best = point["test"]
                kept.append((np.log(point["lut"]), best))
        log_lut, accuracy = np.array(kept, np.float64).reshape(-1, 2).T
        return Front(log_lut, accuracy)

    def lut(self, accuracy: float) -> float:
        """LUTs for an accuracy, between two models; nan outside."""
        return float(np.exp(np.interp(accuracy, self.accuracy, self.log_lut, left=np.nan, right=np.nan)))

    def accuracy_of(self, lut: float) -> float:
        """Accuracy at so many LUTs; nan outside."""
        return float(np.interp(np.log(lut), self.log_lut, self.accuracy, left=np.nan, right=np.nan))


def fronts(store: Store) -> dict[int, tuple[Front, Front]]:
    """By seed: charging LUTs, and charging EBOPs."""
    seeds = sorted({int(key.split("/")[1]) for key in store})
    lut, ebops = ({seed: store.get(key_of(name, seed)) for seed in seeds} for name in ("lut", "ebops"))
    return {seed: (Front.of(a["points"]), Front.of(b["points"])) for seed in seeds if (a := lut[seed]) and (b := ebops[seed])}


def ratios(store: Store, accuracy: float) -> list[float]:
    """LUTs when charging LUTs over LUTs when charging EBOPs, at this accuracy, of each seed; nan where one does not have it."""
    return [lut.lut(accuracy) / ebops.lut(accuracy) for lut, ebops in fronts(store).values()]


def gains(store: Store, lut: float) -> list[float]:
    """Accuracy when charging LUTs less accuracy when charging EBOPs, at so many LUTs."""
    return [a.accuracy_of(lut) - b.accuracy_of(lut) for a, b in fronts(store).values()]


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    known = np.array([value for value in values if value == value])
    if len(known) < 2:
        return float("nan"), float("nan")
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))


LARGE = 500
"""LUTs from which on a model of jets is large."""


HOW = """\
## How the charge came to be

The *value* has been near what is built from the start; what changed twice is the *gradient*.

1. That of the count (until 2026-11-22): an output's first digit was free, so were biases, and networks ended with many outputs of a weight
   or two. On jets, seeds 0 and 1, it took 1.28 times the LUTs that charging EBOPs did (1.09 to 1.51).
2. What a weight saves when it goes, in proportion to its bits: on letters 0.98 times (0.88 to 1.08, seeds 0 to 4), on jets 1.20 times (0.93
   to 1.54, seeds 0 to 2). Bits of weights then were as dear, against the weight itself, as with EBOPs. Both sides ended with powers of two
   alone: of the weights that were left, 82 to 96 % had a single bit to be chosen.
3. Now (2026-11-23) a bit saves the signed digits that it stands for on average (`hgq.resources.lut.digits_of_a_bit`): the last one the
   whole weight, each one above it a third of a digit, while EBOPs take all of them for alike.

The third was reasoned from the second's models, and is the only one that was tried after it. It was chosen on validation letters, with
seeds of which none is on this page (100 to 105), without synthesis: LUTs are the charge's own count, which is a few percent off, for both
sides. The best validation accuracy of any epoch with at most so many LUTs, in points:

| LUT | 20,000 | 14,000 | 10,000 | 8,000 | 6,000 | 4,000 | 3,000 | 2,000 |
|---|---|---|---|---|---|---|---|---|
| more than with EBOPs | -0.7 | +0.5 | -2.9 | +1.6 | +1.1 | +2.0 | +4.3 | +2.9 |
| one standard error, 6 seeds | 0.2 | 0.5 | 0.3 | 0.6 | 0.5 | 0.6 | 1.7 | 0.9 |

At equal accuracy between 62 and 74 % that was 0.78 times the LUTs (0.74 to 0.81; below 1 with each seed). Down to 10,000 LUTs both sides
are on their way to the first budget, and pass in a few epochs.

The tables of letters above are the check of that: other seeds, other samples, LUTs that were built. They are the second check. The first
were three runs (seeds 0 to 2) whose budgets ended at 2,000: 1.05 (0.91 to 1.20) between 62 and 74 %, with gaps at the accuracies for
which charging LUTs took fewer than its smallest budget. So 1,000 was added for both sides, before any model of 1,000 was there; the
accuracies below 62 % were added when most of them were. From 62 to 74 % alone the ratio is 0.85 (0.80 to 0.91). A run is chaotic: the
same seeds with another last budget, and estimates of a later fit, gave models that differ by up to nine points. Were the three first runs
added to the five, as if they had seeds of their own, the ratio would be 0.92 instead of 0.88, between 0.81 (at 62 %) and 1.05 (at 50 %):
still fewer, by less.

On jets three seeds tell no difference, with any of the charges: from 500 LUTs up accuracy hardly depends on LUTs (charging them is 0.3
points behind there), and below 250 a run may lose a class for good, on either side.""".splitlines()


def page(store: Store, letter: Store) -> str:
    """docs/lut-or-ebops.md: the stores of both tasks."""
    points = _points_of(store)
    tools = sorted({point["tool"] for one in (store, letter) for _, _, point in _points_of(one) if "tool" in point})
    samples, others = points[0][2]["test_samples"], _points_of(letter)[0][2]["test_samples"]
    out = [
        "# Charging LUTs or EBOPs",
        "",
        "Written by `benchmarks/lut_or_ebops.py`. `hgq train` with `budget.lut`, or with `budget.ebops` and the recipe otherwise the",
        f"same, on two tasks. Each model that is delivered is synthesised for {PART}",
        f"by {', '.join(tools)}. Accuracies are those of test samples, with which nothing was chosen; both sides see the same.",
        "",
        f"**Letters** (UCI, 16 numbers of each image, 26 classes; a network of 16-64-32-32-26, {LETTER.epochs} epochs for each",
        f"budget): every LUT counts, since accuracy rises with them all the way. {others:,} test samples: one standard error of",
        f"an accuracy is {_error(0.7, others):.1f} points, which are worth some 5 % of the LUTs.",
        "",
        f"**Jets** of the package (16-64-32-32-5, {JETS.epochs} epochs for each budget): small networks, and hardly more accuracy",
        f"from 500 LUTs up. {samples:,} test samples: one standard error is {_error(0.7, samples):.1f} points.",
        "",
        "## Letters",
        "",
        *_compared(letter, LETTER),
        "",
        "## Jets",
        "",
        *_compared(store, JETS),
        "",
        "## What was charged, and what was built",
        "",
        *_prices(points),
        "",
        *HOW,
        "",
        "## Every model",
        "",
        *_models(letter, "Letters"),
        "",
        *_models(store, "Jets"),
    ]
    return "\n".join(out) + "\n"


def _points_of(store: Store) -> list[tuple[str, int, dict[str, Any]]]:
    both = [(name, seed) for seed in fronts(store) for name in ("lut", "ebops")]
    return [(name, seed, point) for name, seed in both for point in store[key_of(name, seed)]["points"]]


def _error(share: float, samples: int) -> float:
    """One standard error of an accuracy, in points."""
    return 100 * float(np.sqrt(share * (1 - share) / samples))


def _compared(store: Store, task: Task) -> list[str]:
    """The two sides at equal accuracy, and at equal LUTs."""
    seeds = list(fronts(store))
    out = [
        "At equal accuracy, LUTs when LUTs are charged over LUTs when EBOPs are: on the line between neighbouring models of a run, without",
        "those that another one beats in both. Below 1, charging LUTs is better.",
        "",
        f"| accuracy | {' | '.join(f'seed {seed}' for seed in seeds)} | geometric mean |",
        f"|---|{'---|' * len(seeds)}---|",
    ]
    for accuracy in task.accuracies:
        found = ratios(store, accuracy)
        out.append(f"| {accuracy:.1%} | {' | '.join(map(_ratio, found))} | {_ratio(_geometric(found))} |")
    by_seed = [_geometric([ratios(store, accuracy)[at] for accuracy in task.accuracies]) for at in range(len(seeds))]
    centre, error = mean(np.log(by_seed).tolist())  # the accuracies of a seed go together, so its mean is one value
    out += [
        "",
        f"Over all of them: **{np.exp(centre):.2f}**. With one standard error, from the scatter of the {len(by_seed)} seeds,",
        f"{np.exp(centre - error):.2f} to {np.exp(centre + error):.2f}: {_verdict(centre, error)}.",
        "",
        "At equal LUTs, accuracy when LUTs are charged less accuracy when EBOPs are, in points:",
        "",
        f"| LUT | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |",
        f"|---|{'---|' * len(seeds)}---|",
    ]
    for lut in task.luts:
        found = gains(store, lut)
        centre, error = mean(found)
        out.append(
            f"| {lut:,} | {' | '.join(map(_points, found))} | {_points(centre)}{'' if error != error else f' ± {100 * error:.2f}'} |"
        )
    return out


def _models(store: Store, title: str) -> list[str]:
    out = [f"| {title}: charged | seed | budget | LUT | EBOPs | charged as LUT | test accuracy |", "|---|---|---|---|---|---|---|"]
    for resource, seed, point in _points_of(store):
        lut = f"{point['lut']:,}" if "lut" in point else "–"
        missed = "" if point["within"] else " (missed)"
        budget = f"{point['budget']:,.0f}{missed}"
        row = [resource, seed, budget, lut, f"{point['ebops']:,}", f"{point['price']:,.0f}", f"{point['test']:.2%}"]
        out.append(f"| {' | '.join(map(str, row))} |")
    return out


def _verdict(centre: float, error: float) -> str:
    if abs(centre) < 2 * error:
        return "no difference that this many seeds can tell"
    return "charging LUTs takes fewer" if centre < 0 else "charging LUTs takes **more**, not fewer"


def _prices(points: list[tuple[str, int, dict[str, Any]]]) -> list[str]:
    """How far the charge is off, by side and size."""
    out = [
        "The charge of `hgq.resources.lut` for the whole model over its synthesised LUTs, and EBOPs over LUTs; medians. A charge that is",
        "off by the same factor everywhere would be of no consequence, since `--lut` steers beta by what `hgq estimate` counts.",
        "",
        "| charged | models | charge / LUT | EBOPs / LUT |",
        "|---|---|---|---|",
    ]
    for name in ("lut", "ebops"):
        for title, low, high in ((f"{LARGE} LUTs and more", LARGE, np.inf), ("fewer", 0, LARGE)):
            own = [point for resource, _, point in points if resource == name and low <= point.get("lut", -1) < high]
            charge, ebops = (np.median([point[key] / point["lut"] for point in own]) for key in ("price", "ebops"))
            out.append(f"| {name} | {len(own)} of {title} | {charge:.2f} | {ebops:.2f} |")
    return out


def _geometric(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.exp(np.mean(np.log(known)))) if known else float("nan")


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value == value else "–"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}" if value == value else "–"

"""Charging LUTs in the loss against charging EBOPs, at equal accuracy; writes benchmarks/data/lut_or_ebops.json and its page in docs/.

    python benchmarks/lut_or_ebops.py             every run and synthesis that the store lacks; three minutes each on an idle core
    python benchmarks/lut_or_ebops.py --list      what is there
    python benchmarks/lut_or_ebops.py --render    docs/lut-or-ebops.md again, nothing is run

Both sides have one recipe (the jets of the package, `hgq train` as users run it); only the key under ``[budget]`` differs. Each run goes
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

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STORE = ROOT / "benchmarks" / "data" / "lut_or_ebops.json"
PAGE = ROOT / "docs" / "lut-or-ebops.md"
BUDGETS = [2000, 1000, 500, 300, 180, 110]
"""Of LUTs, and of EBOPs: one EBOP is about a LUT."""
EPOCHS = 50
"""Of each budget."""
SEEDS = (0, 1, 2)
PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0
Store = dict[str, dict[str, Any]]


def settings(resource: str, seed: int) -> dict[str, Any]:
    """The recipe of a run, as far as it is no default."""
    return {
        "train": {"epochs": EPOCHS, "seed": seed},
        "budget": {resource: BUDGETS},
        "export": {"part": PART, "clock_ns": CLOCK_NS},
    }


def runs() -> list[tuple[str, int]]:
    return [(resource, seed) for seed in SEEDS for resource in ("lut", "ebops")]


def key_of(resource: str, seed: int) -> str:
    return f"{resource}/{seed}"


def read(path: Path = STORE) -> Store:
    return json.loads(path.read_text()) if path.is_file() else {}


def write(store: Store, path: Path) -> None:
    from hgq.output import write_file_atomically

    write_file_atomically(path, json.dumps(dict(sorted(store.items())), indent=1) + "\n", force=True)


def folder_of(resource: str, seed: int) -> Path:
    """Where the models of a run are kept, for their synthesis."""
    from hgq import cache

    return cache.folder("benchmarks", "lut_or_ebops", f"{resource}_{seed}")


def trained(resource: str, seed: int) -> dict[str, Any]:
    """One run: its settings, and what it delivered for each budget."""
    from hgq.config import Recipe
    from hgq.training import train

    folder = folder_of(resource, seed)
    shutil.rmtree(folder, ignore_errors=True)
    result = train(Recipe.from_dict(settings(resource, seed)), folder, progress=False)
    points = [
        {"budget": point.budget, "within": point.within, "val": point.val, "test": point.test, "test_samples": point.test_samples,
         **described(folder / point.keras_file, folder / point.hgq_file)}
        for point in result.points
    ]  # fmt: skip
    return {"settings": settings(resource, seed), "epochs": result.epochs, "seconds": result.seconds, "points": points}


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


def synthesised(resource: str, seed: int, budget: float) -> dict[str, Any]:
    """What Yosys makes of one delivered model."""
    from hgq.ir import file
    from hgq.synth import synthesise

    found = synthesise(file.load(folder_of(resource, seed) / "budgets" / f"{budget:.0f}" / "model.hgq"), PART, CLOCK_NS)
    net = found.netlist
    return {"lut": net.lut, "ff": net.ff, "carry": net.carry, "cycles": found.cycles, "tool": found.tool}


# ---- what came of it --------------------------------------------------------------------------------------------------------------------


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
    lut, ebops = ({seed: store.get(key_of(name, seed)) for seed in SEEDS} for name in ("lut", "ebops"))
    return {seed: (Front.of(a["points"]), Front.of(b["points"])) for seed in SEEDS if (a := lut[seed]) and (b := ebops[seed])}


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


ACCURACIES = (0.700, 0.690, 0.680, 0.670, 0.660, 0.650)
LUTS = (900, 700, 500, 350, 250, 180, 130)
LARGE = 500
"""LUTs from which on a model is large here."""


HOW = """\
## How the charge came to be

Until 2026-11-22 the gradient of the charge was that of the count: the first digit of an output was free, so were biases, and activations
were only paid for by a share of the data's bits. Seeds 0 and 1 gave a ratio of 1.28 (1.09 to 1.51). The models showed why that charge was
wrong. With 300 LUTs, seed 0 had 29 outputs, most of one to four digits, each with an activation of its own and a bias of some bits;
without biases it would have taken 48 LUTs fewer. A model of 213 LUTs that was trained with EBOPs had 18 outputs, and biases of one digit
that took 6 LUTs. Nearly all weights of both are powers of two, so LUTs are saved by having fewer of them, not by cheaper ones.

Now the value of the charge counts biases and activations too, and its gradient is what a weight or a bit *saves* when it goes
(`hgq.resources.lut.savings`). That was reasoned from these models; it is the only new charge that was trained to its end, and the test
jets took no part in it. Against the old charge, on the validation jets of seeds 0 and 1, it is 1.2 points better at 500 LUTs, 0.3 to 0.8
worse at 1,000 and 2,000, and neither below: a draw, but for the value, which is now near what is built.

What the models say of the rest: at 180 LUTs both sides lose a class or two now and then, after which a run does not recover, and that
decides the rows below 69 %. Models trained with EBOPs then have four or five neurons a layer and first layers of 12 weights, those trained
with LUTs five to eight, and 15 to 18. EBOPs press harder on the bits of data, whose end is a neuron's: a bit of data pays for the
bits of all its weights. The LUTs of its own activation, about 0.7 a bit, are in the value of the charge, but a gradient to
the bits of *its* data, not of the data before, is not: a layer does not know whether its data come from an activation. That is
the next thing to try.""".splitlines()


def page(store: Store) -> str:
    """docs/lut-or-ebops.md."""
    seeds = list(fronts(store))
    points = [(name, seed, point) for name, seed in runs() if seed in seeds for point in store[key_of(name, seed)]["points"]]
    tools = sorted({point["tool"] for _, _, point in points if "tool" in point})
    samples = points[0][2]["test_samples"]
    error = 100 * np.sqrt(0.7 * 0.3 / samples)
    out = [
        "# Charging LUTs or EBOPs",
        "",
        "Written by `benchmarks/lut_or_ebops.py`. The jets of the package and a network of 16-64-32-32-5: `hgq train` with",
        f"`budget.lut`, or with `budget.ebops` and the recipe otherwise the same; {EPOCHS} epochs for each budget, seeds",
        f"{', '.join(map(str, seeds))}. Each model that is delivered is synthesised for {PART} by {', '.join(tools)}.",
        f"Accuracy is that of the {samples:,} test jets, with which nothing was chosen. One standard error of an accuracy is",
        f"{error:.1f} points; both sides see the same jets.",
        "",
        "## At equal accuracy",
        "",
        "LUTs when LUTs are charged, over LUTs when EBOPs are: on the line between neighbouring models of a run, without those",
        "that another one beats in both. Below 1, charging LUTs is better.",
        "",
        f"| accuracy | {' | '.join(f'seed {seed}' for seed in seeds)} | geometric mean |",
        f"|---|{'---|' * len(seeds)}---|",
    ]
    for accuracy in ACCURACIES:
        found = ratios(store, accuracy)
        out.append(f"| {accuracy:.1%} | {' | '.join(map(_ratio, found))} | {_ratio(_geometric(found))} |")
    by_seed = [_geometric([ratios(store, accuracy)[at] for accuracy in ACCURACIES]) for at in range(len(seeds))]
    centre, error = mean(np.log(by_seed).tolist())  # the accuracies of a seed go together, so its mean is one value
    out += [
        "",
        f"Over all of them: **{np.exp(centre):.2f}**. With one standard error, from the scatter of the {len(by_seed)} seeds,",
        f"{np.exp(centre - error):.2f} to {np.exp(centre + error):.2f}: {_verdict(centre, error)}.",
        "",
        "## At equal LUTs",
        "",
        "Accuracy when LUTs are charged less accuracy when EBOPs are, in points:",
        "",
        f"| LUT | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |",
        f"|---|{'---|' * len(seeds)}---|",
    ]
    for lut in LUTS:
        found = gains(store, lut)
        centre, error = mean(found)
        out.append(
            f"| {lut:,} | {' | '.join(map(_points, found))} | {_points(centre)}{'' if error != error else f' ± {100 * error:.2f}'} |"
        )
    out += [
        "",
        "## What was charged, and what was built",
        "",
        *_prices(points),
        "",
        *HOW,
        "",
        "## Every model",
        "",
        "| charged | seed | budget | LUT | EBOPs | charged as LUT | test accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for resource, seed, point in points:
        lut = f"{point['lut']:,}" if "lut" in point else "–"
        missed = "" if point["within"] else " (missed)"
        row = [
            resource,
            seed,
            f"{point['budget']:,.0f}{missed}",
            lut,
            f"{point['ebops']:,}",
            f"{point['price']:,.0f}",
            f"{point['test']:.2%}",
        ]
        out.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(out) + "\n"


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=STORE, help="where results go (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--render", action="store_true", help="write the page, run nothing")
    parser.add_argument("--no-synth", dest="synth", action="store_false", help="train alone")
    options = parser.parse_args()
    store = read(options.store)
    if options.render:
        PAGE.write_text(page(store), encoding="utf-8")
        return 0
    missing = [run for run in runs() if store.get(key_of(*run), {}).get("settings") != settings(*run)]
    if options.list:
        for run in runs():
            points = store.get(key_of(*run), {}).get("points", [])
            state = "missing" if run in missing else f"{sum('lut' in point for point in points)} of {len(points)} models synthesised"
            print(f"{key_of(*run):<10} {state}")
        return 0
    for run in runs():
        if run in missing:
            start = time.process_time()
            store[key_of(*run)] = trained(*run)
            write(store, options.store)
            print(f"{key_of(*run)}: {time.process_time() - start:.0f} s CPU", flush=True)
        for point in store[key_of(*run)]["points"] if options.synth else []:
            if "lut" not in point:
                point |= synthesised(*run, point["budget"])
                write(store, options.store)
                print(f"{key_of(*run)} {point['budget']:.0f}: {point['lut']} LUT", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

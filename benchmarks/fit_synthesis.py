"""Fit the estimate to the corpus of synthesised designs; write the coefficients, and docs/estimates.md with how well they do.

    python benchmarks/fit_synthesis.py            coefficients and page
    python benchmarks/fit_synthesis.py --page     the page alone, to standard output

Errors are of families of designs that the fit did not see: each family is left out in turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hgq.estimate.devices import FOLDER
from hgq.estimate.fit import COVERAGE, SMALLEST, Fit, Unseen, fit

STORE = Path(__file__).parent / "data" / "synth_corpus.json"
PAGE = Path(__file__).parents[1] / "docs" / "estimates.md"
COEFFICIENTS = Path(str(FOLDER / "_synthesis.toml"))
LUT = ["pairs", "gates", "joined", "joined_constant", "wide", "small_area", "table_leaf", "table_tree", "shift_registers"]
LUT4 = [*LUT, "chain_bits", "chains", "dsp_pairs", "inverters", "merged"]
"""A carry cell of ECP5 holds its LUTs, so positions with one operand take some too; additions stay outside of its multipliers."""
FF = ["registers", "waiting", "dsp_registers"]
DSP = ["dsp", "small_products"]
OTHER_SEEDS = 1000
FEWEST = 25
"""Designs for a fit."""
LARGE = """
## Large convolutions

Unrolled, a convolution repeats one window. From 10,000 products on (weights that are not 0, times positions), positions that are alike
are counted once: the same constants, the same formats of what they read, the same channels needed. One of each kind is traced and packed
into stages with the rest of the network, so a net with 1,180 positions of 21 kinds (`benchmarks/estimate_speed.py`, SVHN) takes 7 s
instead of over 400. Against counting every bit, on 24 small convolutions: LUTs at most 1 % too few and 9 % too many, mostly within 2 %;
cycles the same, or one off; registers, which are counted in whole words, up to a third too many. The ranges are wider by that, and
`hgq estimate` says how many positions it counted. Where more than 12 positions of a layer differ, 12 stand for all, and their scatter
widens the range too.""".split("\n")
Row = Mapping[str, Any]


def rows_of(target: str) -> list[dict[str, Any]]:
    """Designs synthesised for a target."""
    return [row for row in json.loads(STORE.read_text()) if row["target"] == target and "lut" in row]


def targets() -> list[str]:
    """Those with designs enough; the others keep the one scale of their family."""
    return [target for target in ("xc7", "xcup", "ecp5") if len(rows_of(target)) >= FEWEST]


def fits(target: str) -> dict[str, tuple[Fit, Unseen]]:
    """By resource. Only few designs have so many products that a relative error of their DSPs says something: hence from one on.

    The LUTs of UltraScale+ are those of Series 7, so its few designs are fitted together with theirs; errors are of its own, and ranges
    the wider of both.
    """
    rows = rows_of(target)
    if target == "xcup":
        together = rows + [{**row, "seed": row["seed"] + OTHER_SEEDS} for row in rows_of("xc7")]
        return {name: _of_its_own(found, unseen.seeds_below(OTHER_SEEDS)) for name, (found, unseen) in _fits(together, target).items()}
    return _fits(rows, target)


def _of_its_own(found: Fit, unseen: Unseen) -> tuple[Fit, Unseen]:
    return replace(found, spread=unseen.spread(False), rough_spread=unseen.spread(True)), unseen


def _fits(rows: Sequence[Row], target: str) -> dict[str, tuple[Fit, Unseen]]:
    clocked = [row for row in rows if not row["combinational"]]
    return {
        "lut": fit(rows, "lut", LUT4 if target == "ecp5" else LUT),
        "ff": fit(clocked, "ff", FF if target == "ecp5" else FF[:1]),
        "dsp": fit(rows, "dsp", DSP, smallest=1),
    }


def by_one_scale(rows: Sequence[Row], of: Callable[[Row], float]) -> Unseen:
    """What a single scale on one figure does, fitted to the other families."""
    used = [row for row in rows if row["lut"] >= SMALLEST]
    ratios = {}
    for row in used:
        scale = np.median([other["lut"] / of(other) for other in used if other["family"] != row["family"] and of(other) > 0])
        ratios[row["family"], row["seed"]] = row["lut"] / max(scale * of(row), 1e-9)
    return Unseen(ratios, frozenset())


def toml(all_fits: Mapping[str, Mapping[str, tuple[Fit, Unseen]]], counts: Mapping[str, int]) -> str:
    lines = ["# Written by benchmarks/fit_synthesis.py from benchmarks/data/synth_corpus.json. Do not edit.", ""]
    for target, resources in all_fits.items():
        also = f" and {counts['xc7']} of Series 7" if target == "xcup" else ""
        for name, (found, unseen) in resources.items():
            basis = (
                f"counts of the RTL, fitted to {counts[target]} designs by Yosys ({target}){also}; unseen kinds of design: "
                f"median error {unseen.error(0.5):.1%}, {COVERAGE:.0%} in the range"
            )
            pairs = ", ".join(f"{key} = {value}" for key, value in found.coefficients.items())
            lines += [f"[{target}.{name}]", f'basis = "{basis}"']
            for title, spread in (("spread", found.spread), ("rough_spread", found.rough_spread)):
                lines.append(f"{title} = [{spread.low}, {spread.value}, {spread.high}]")
            lines += [f"coefficients = {{ {pairs} }}", ""]
    return "\n".join(lines)


def page(all_fits: Mapping[str, Mapping[str, tuple[Fit, Unseen]]]) -> str:
    corpus = json.loads(STORE.read_text())
    groups = {row["family"]: row["group"] for row in corpus}
    tools = sorted({row["tool"].split(",")[0] for row in corpus if "tool" in row})
    out = [
        "# How good the estimates are",
        "",
        f"Written by `benchmarks/fit_synthesis.py` from {sum('lut' in row for row in corpus)} designs that `benchmarks/synth_corpus.py`",
        f"built and had synthesised by {', '.join(tools)}. `hgq estimate --synth` does the same for a model of yours.",
        "",
        "A LUT count is a sum of counts of the RTL (`converters/rtl/logic.py` says what each is), times non-negative coefficients with the",
        "smallest mean relative error. Errors below are of families of designs that the fit did **not** see: each",
        "family is left out in turn. The rivals get the same chance: one scale, the median over the other families.",
        "",
        "| target | designs | kinds | ours: median, 90 % | alkaid's cost, scaled | EBOPs, scaled | in our range (90 % asked) |",
        "|---|---|---|---|---|---|---|",
    ]
    for target, resources in all_fits.items():
        rows, (_, unseen) = rows_of(target), resources["lut"]
        for group, title in (("adders", "dense, convolution"), ("other", "tables, products, poolings …")):
            families = {family for family, of in groups.items() if of == group}
            ours = unseen.of(families)
            if not ours.ratios:
                continue
            cells = [
                f"{rival.of(families).error(0.5):.1%}, {rival.of(families).error(0.9):.1%}"
                for rival in (unseen, by_one_scale(rows, lambda row: row["cost"]), by_one_scale(rows, lambda row: row["ebops"]))
            ]
            out.append(f"| {target} | {len(ours.ratios)} | {title} | {' | '.join(cells)} | {unseen.coverage(families):.0%} |")
    out += ["", "Flip-flops, of pipelined designs:", "", "| target | designs | median, 90 % | in our range |", "|---|---|---|---|"]
    for target, resources in all_fits.items():
        _, unseen = resources["ff"]
        out.append(f"| {target} | {len(unseen.ratios)} | {unseen.error(0.5):.1%}, {unseen.error(0.9):.1%} | {unseen.coverage():.0%} |")
    out += ["", "By family of designs, LUTs on Artix-7:", "", "| family | designs | median error | worst |", "|---|---|---|---|"]
    _, unseen = all_fits["xc7"]["lut"]
    for family in sorted({key[0] for key in unseen.ratios}):
        ours = unseen.of({family})
        out.append(f"| {family.replace('_', ' ')} | {len(ours.ratios)} | {ours.error(0.5):.1%} | {ours.error(1.0):.1%} |")
    return "\n".join([*out, *LARGE]) + "\n"


def main(page_only: Annotated[bool, typer.Option("--page", help="The page alone, to standard output.")] = False) -> None:
    """Fit, and write what came of it."""
    from hgq.output import write_file_atomically

    all_fits = {target: fits(target) for target in targets()}
    text = page(all_fits)
    if page_only:
        print(text)
        return
    counts = {target: len(rows_of(target)) for target in all_fits}
    write_file_atomically(COEFFICIENTS, toml(all_fits, counts), force=True)
    write_file_atomically(PAGE, text, force=True)
    print(text)


if __name__ == "__main__":
    typer.run(main)

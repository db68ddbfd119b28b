"""Fit the estimate to the corpus of synthesised designs; write the coefficients, and docs/estimates.md with how well they do.

    python benchmarks/fit_synthesis.py            coefficients and page
    python benchmarks/fit_synthesis.py --page     the page alone, to standard output

Errors are of families of designs that the fit did not see: each family is left out in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import period
from hgq.estimate.devices import FOLDER
from hgq.estimate.fit import COVERAGE, SMALLEST, Fit, Unseen, fit

STORE = Path(__file__).parent / "data" / "synth_corpus.json"
PAGE = Path(__file__).parents[1] / "docs" / "estimates.md"
COEFFICIENTS = Path(str(FOLDER / "_synthesis.toml"))
TABLES = [("table_leaf", "middle_leaf"), ("table_node", "middle_node")]
SUMS = ["gates", "joined", "joined_constant", "wide", "small_area", "shift_registers"]
LUT = {
    "xc7": ["pairs", *SUMS, *TABLES],
    "xcup": [("pairs", "dsp_pairs"), *SUMS, *TABLES],  # Yosys packs nothing into the DSP48E2
    "ecp5": [
        ("carry2", "dsp_carry2"),
        ("gates", "merged"),
        "further",
        "joined",
        "joined_constant",
        "small_area",
        ("table_small_node", "table_node"),
    ],
}
FF = {
    "xc7": [("registers", "middle_registers")],
    "xcup": [("registers", "middle_registers", "dsp_registers")],
    "ecp5": ["registers", "waiting", "dsp_registers"],
}
BLOCKS = {"xc7": ["blocks"], "xcup": ["blocks"], "ecp5": [("blocks", "middle_blocks")]}
PACKED = ("dsp_pairs", "dsp_registers")
OTHERS = 1000
"""Added to the seeds of designs of another target."""
DSP = ["dsp", "small_products"]
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
    """Designs synthesised for a target, less those that Yosys gets wrong (`faulty`)."""
    return [row for row in json.loads(STORE.read_text()) if row["target"] == target and "lut" in row and not faulty(row)]


def faulty(row: Row) -> bool:
    """Whether Yosys 0.70 leaves logic out: on Series 7 it takes a difference into the block that squares it, and ties a factor to 0."""
    return row["target"] == "xc7" and row["logic"].get("squares", 0) > 0


def targets() -> list[str]:
    """Those with designs enough; the others keep the one scale of their family."""
    return [target for target in LUT if len(rows_of(target)) >= FEWEST]


def fits(target: str) -> dict[str, tuple[Fit, Unseen]]:
    """By resource. Only few designs have so many products that a relative error of their DSPs says something: hence from one on.

    The LUTs of UltraScale+ are those of Series 7, so its coefficients are fitted to the designs of both; errors and ranges are of its own.
    """
    rows = rows_of(target)
    if target == "xcup":
        rows += [_unpacked(row) for row in rows_of("xc7")]
    clocked = [row for row in rows if not row["combinational"]]
    found = {
        "lut": fit(rows, "lut", LUT[target]),
        "ff": fit(clocked, "ff", FF[target]),
        "dsp": fit(rows, "dsp", DSP, smallest=1, graded=False),
        "bram": fit(rows, "bram", BLOCKS[target], smallest=1, graded=False),
    }
    return {name: _of_its_own(*pair) for name, pair in found.items()}


def _unpacked(row: Row) -> dict[str, Any]:
    """A design of Series 7 as one of UltraScale+: without what Yosys packs into multiplier blocks on Series 7 alone."""
    logic = {name: count for name, count in row["logic"].items() if name not in PACKED}
    return {**row, "seed": row["seed"] + OTHERS, "logic": logic}


def _of_its_own(found: Fit, unseen: Unseen) -> tuple[Fit, Unseen]:
    own = unseen.seeds_below(OTHERS)
    smooth, rough = own.spreads()
    return replace(found, spread=smooth, rough_spread=rough), own


def by_one_scale(rows: Sequence[Row], of: Callable[[Row], float]) -> Unseen:
    """What a single scale on one figure does, fitted to the other families."""
    used = [row for row in rows if row["lut"] >= SMALLEST]
    ratios = {}
    for row in used:
        scale = np.median([other["lut"] / of(other) for other in used if other["family"] != row["family"] and of(other) > 0])
        ratios[row["family"], row["seed"]] = row["lut"] / max(scale * of(row), 1e-9)
    return Unseen(ratios, {})


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
    out += ["", *_blocks(all_fits), "", *_by_family(all_fits), *_left_out(corpus), *_periods()]
    return "\n".join([*out, *LARGE]) + "\n"


def _blocks(all_fits: Mapping[str, Mapping[str, tuple[Fit, Unseen]]]) -> list[str]:
    right = [
        round(resources["bram"][0].predict(row["logic"])) == row["bram"]
        for target, resources in all_fits.items()
        for row in rows_of(target)
    ]
    some = sum(row["bram"] > 0 for target in all_fits for row in rows_of(target))
    return [f"Block RAMs of 18 Kb: as many as Yosys takes in {sum(right)} of {len(right)} designs, {some} of which have any."]


def _by_family(all_fits: Mapping[str, Mapping[str, tuple[Fit, Unseen]]]) -> list[str]:
    out = [
        "By family of designs, LUTs: designs, median error, worst.",
        "",
        f"| family | {' | '.join(all_fits)} |",
        "|---" * (len(all_fits) + 1) + "|",
    ]
    unseen = [resources["lut"][1] for resources in all_fits.values()]
    for family in sorted({key[0] for one in unseen for key in one.ratios}):
        ours = [one.of({family}) for one in unseen]
        cells = [f"{len(one.ratios)}: {one.error(0.5):.1%}, {one.error(1.0):.1%}" if one.ratios else "" for one in ours]
        out.append(f"| {family.replace('_', ' ')} | {' | '.join(cells)} |")
    return out


def _left_out(corpus: Sequence[Row]) -> list[str]:
    rows = [row for row in corpus if faulty(row)]
    families = ", ".join(sorted({row["family"].replace("_", " ") for row in rows}))
    return f"""
## Left out

{len(rows)} designs for Series 7 ({families}) are left out, because Yosys gets them wrong. Where a multiplier block squares
a difference, Yosys 0.70 (`xilinx_dsp`) takes the subtraction into the block for one factor and ties the other to 0: the
subtraction is missing from its LUTs, and the circuit computes something else. On the other targets, where Yosys packs
nothing into blocks, the same designs are right, and counted.""".split("\n")


def _periods() -> list[str]:
    rows = period.read()
    sums = period.of_sums(rows)
    ratios = {"carry cells": period.unseen(sums, period.by_carry), "additions": period.unseen(rows, period.by_additions)}
    reached, designs = period.periods(sums), len({row["design"] for row in rows})
    out = f"""
## Clock period

`benchmarks/period.py` placed and routed {len(rows)} pipelines of {designs} designs on {period.PART} with nextpnr.
The period is a line over the carry cells on the longest path between two registers, which are counted bit by bit, and the
additions in the longest stage. Where there are multiplier blocks, of which carry cells say nothing, or nobody has counted
carry cells, while a pipeline is planned or a model trained for a latency, it is a line over the additions, each of which
takes longer in a larger design. Each design is left out of the fit in turn:

| model | pipelines | measured / predicted | median error | range for {COVERAGE:.0%} |
|---|---|---|---|---|""".split("\n")
    for name, found in ratios.items():
        low, high = period.spread(found)
        error = np.median(abs(1 / found - 1))
        out.append(f"| {name} | {len(found)} | {found.min():.2f} to {found.max():.2f} | {error:.1%} | {low:.2f} to {high:.2f} |")
    off = [abs(row["carry_depth"] - row["depth_carry"]) for row in rows]
    out += ["", f"The carry cells are those of Yosys' netlist in {off.count(0)} of {len(off)} pipelines, and at most {max(off)} off."]
    out += ["", "| design | stages | LUT4 | carry cells | additions | nextpnr, ns | without it, ns |", "|---|---|---|---|---|---|---|"]
    for row, ns, ratio in zip(sums, reached, ratios["carry cells"], strict=True):
        cells = [period.title(row["design"]), row["stages"], f"{row['lut']:,}", row["carry_depth"], f"{row['stage_delay']:.1f}"]
        out.append(f"| {' | '.join(map(str, cells))} | {ns:.1f} | {ns / ratio:.1f} |")
    return out


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

"""The clock that pipelines reach on ECP5 by nextpnr, against the model of `hgq.estimate.latency`; keeps benchmarks/data/period.json.

    python benchmarks/period.py            place and route what the store lacks (about half a minute each), and print the fits
    python benchmarks/period.py --fit      the fits alone

Two models: a line over the carry cells on the longest path and the additions in the longest stage; and, where nobody has counted carry
cells or there are multiplier blocks, a line over the additions, each of which takes longer in a larger design. The coefficients in
`_families.toml` are those printed here; how far off they are is measured on designs that are left out of the fit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STORE = ROOT / "benchmarks" / "data" / "period.json"
TRAINED = ROOT / "benchmarks" / "data" / "period_jets_1000.hgq"
"""A jet tagger trained to 1,000 LUTs of an UltraScale+."""
PART, CLOCK_NS = "lfe5u-85f-8bg381c", 5.0
SIZES = {0: (8, 8, 4), 1: (12, 12, 5), 3: (6, 6, 3), 4: (10, 14, 4), 5: (16, 6, 5), 6: (8, 10, 6, 4), 7: (20, 4)}
"""Inputs and units of dense layers with random weights, by number; `TRAINED` is number 2."""
CORPUS = ("conv_line 1", "dense_batch_norm 1", "dense_leaky 2", "residual 5", "pool_average 5", "softmax 1", "gated 1")
"""Designs of `corpus_designs`: family and seed."""
STAGES = {0: (2, 3, 5, 1), 1: (2, 3, 5), 2: (2, 3, 5)} | dict.fromkeys((3, 4, 5, 6, 7, *CORPUS), (2, 4)) | {"dense_wide 1": (2,)}
"""Stages that each is cut into."""
Row = dict[str, Any]
Number = int | str


def design(number: Number) -> Any:
    """A dense network of random weights of few bits, a good half of them zero; the trained one, whose sums are wider; or of the corpus."""
    if isinstance(number, str):
        from benchmarks import corpus_designs

        family, seed = number.split()
        return corpus_designs.design(family, int(seed))
    if number not in SIZES:
        from hgq.ir import file

        return file.load(TRAINED)
    from hgq.ir.build import GraphBuilder
    from hgq.numerics import Fixed

    rng, b = np.random.default_rng(number), GraphBuilder(f"period_{number}")
    inputs, *widths = SIZES[number]
    y = b.input("x", Fixed(1, 2, 3).broadcast_to((inputs,)), "RND", "SAT")
    for layer, width in enumerate(widths):
        with b.layer(f"dense_{layer}"):
            w = rng.integers(-15, 16, (y.shape[0], width)) * (rng.random((y.shape[0], width)) < 0.4)
            y = b.op("matmul", y, b.constant(w, Fixed(1, 1, 3).broadcast_to(w.shape), "w"))
            if layer < len(widths) - 1:
                y = b.quantize(b.op("relu", y), Fixed(0, 4, 2).broadcast_to(y.shape), "RND", "SAT", "oq")
    return b.graph(y)


def title(number: Number) -> str:
    """What a person calls a design."""
    if isinstance(number, str):
        return number.replace("_", " ")
    return f"dense, {'-'.join(map(str, SIZES[number]))}" if number in SIZES else "jets, trained"


def measure(number: Number, stages: int) -> Row:
    from hgq import plugins
    from hgq.backend import Options
    from hgq.synth import synthesise

    graph, options = design(number), {"stages": str(stages)}
    structure = plugins.backend("rtl").resources(graph, Options(part=PART, clock_ns=CLOCK_NS, extra=options))
    found = synthesise(graph, PART, CLOCK_NS, options, route=True)
    net = found.netlist
    row = {"design": number, "stages": stages, "stage_delay": round(structure["stage_delay"], 3), "carry_depth": structure["carry_depth"]}
    row |= {"products": int(structure["logic"].get("dsp", 0)), "lut": net.lut, "ff": net.ff}
    row |= {"depth_lut": net.depth_lut, "depth_carry": net.depth_carry, "tool": found.tool}
    return {**row, "fmax_mhz": found.placed.fmax_mhz if found.placed else None}


def read() -> list[Row]:
    return json.loads(STORE.read_text()) if STORE.is_file() else []


def of_sums(rows: Sequence[Row]) -> list[Row]:
    """Those without multiplier blocks, which are what carry cells are for."""
    return [row for row in rows if not row["products"]]


def periods(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Nanoseconds that were reached."""
    return np.array([1000 / row["fmax_mhz"] for row in rows])


def by_carry(row: Row) -> list[float]:
    """What the coefficients of `carry_period_ns` multiply: a base, the carry cells, the additions."""
    return [1.0, row["carry_depth"], row["stage_delay"]]


def by_additions(row: Row) -> list[float]:
    """What the others multiply: a base, the additions, and these times the logarithm of thousands of LUTs."""
    return [1.0, row["stage_delay"], row["stage_delay"] * np.log(row["lut"] / 1000)]


Terms = Callable[[Row], list[float]]


def line(rows: Sequence[Row], terms: Terms) -> NDArray[np.float64]:
    """The coefficients with the smallest squares of relative errors."""
    reached = periods(rows)
    return np.asarray(
        np.linalg.lstsq(np.array([terms(row) for row in rows]) / reached[:, None], np.ones(len(rows)), rcond=None)[0], np.float64
    )


def unseen(rows: Sequence[Row], terms: Terms) -> NDArray[np.float64]:
    """Nanoseconds reached over those of a line that saw no pipeline of the same design."""
    ratios = []
    for row, reached in zip(rows, periods(rows), strict=True):
        others = line([other for other in rows if other["design"] != row["design"]], terms)
        ratios.append(reached / float(np.dot(terms(row), others)))
    return np.array(ratios)


def spread(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """Factors between which `COVERAGE` of further designs lie; see `hgq.estimate.fit`."""
    from hgq.estimate.fit import spreads_of

    smooth, _ = spreads_of([float(ratio) for ratio in ratios], [0.0] * len(ratios))
    return round(smooth.low, 2), round(smooth.high, 2)


def report(rows: Sequence[Row]) -> None:
    print(f"{len(rows)} pipelines of {len({row['design'] for row in rows})} designs on {PART}, ns")
    carry, additions = line(of_sums(rows), by_carry), line(rows, by_additions)
    print("{:.2f} + {:.2f} x carry cells + {:.2f} x additions".format(*carry))
    print("{:.2f} + ({:.2f} + {:.2f} ln(LUT / 1000)) x additions".format(*additions))
    for name, terms, known in (("carry", by_carry, of_sums(rows)), ("additions", by_additions, rows)):
        ratios = unseen(known, terms)
        errors = f"{ratios.min():.2f} to {ratios.max():.2f}, median error {np.median(abs(1 / ratios - 1)):.1%}, range {spread(ratios)}"
        print(f"{name}, each design left out: measured / predicted {errors}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="run nothing")
    options = parser.parse_args()
    rows = read()
    done = {(row["design"], row["stages"]) for row in rows}
    asked = [(number, stages) for number, of in STAGES.items() for stages in of if (number, stages) not in done and not options.fit]
    for number, stages in asked:
        from hgq.output import write_file_atomically

        rows.append(measure(number, stages))
        lines = ",\n".join(json.dumps(row) for row in sorted(rows, key=lambda row: (str(row["design"]), row["stages"])))
        write_file_atomically(STORE, f"[\n{lines}\n]\n", force=True)
        print(rows[-1], flush=True)
    report(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

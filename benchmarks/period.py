"""The clock that pipelines reach on ECP5 by nextpnr, against the model of `hgq.estimate.latency`; keeps benchmarks/data/period.json.

    python benchmarks/period.py            place and route what the store lacks (about a minute each), and print the fit
    python benchmarks/period.py --fit      the fit alone

The period model is a line over the additions in the longest stage, each of which takes longer in a larger design. Its three coefficients in
`_families.toml` are those printed here, of all designs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
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
STAGES = {0: (2, 3, 5, 1), 1: (2, 3, 5), 2: (2, 3, 5), 3: (2, 4), 4: (2, 4), 5: (2, 4), 6: (2, 4), 7: (2, 4)}
"""Stages that each is cut into."""
Row = dict[str, Any]


def design(number: int) -> Any:
    """A dense network of random weights of few bits, a good half of them zero; or the trained one, whose sums are wider."""
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


def measure(number: int, stages: int) -> Row:
    from hgq import plugins
    from hgq.backend import Options
    from hgq.synth import synthesise

    graph, options = design(number), {"stages": str(stages)}
    structure = plugins.backend("rtl").resources(graph, Options(part=PART, clock_ns=CLOCK_NS, extra=options))
    found = synthesise(graph, PART, CLOCK_NS, options, route=True)
    net = found.netlist
    row = {"design": number, "stages": stages, "stage_delay": round(structure["stage_delay"], 3), "lut": net.lut, "ff": net.ff}
    row |= {"depth_lut": net.depth_lut, "depth_carry": net.depth_carry, "tool": found.tool}
    return {**row, "fmax_mhz": found.placed.fmax_mhz if found.placed else None}


def read() -> list[Row]:
    return json.loads(STORE.read_text()) if STORE.is_file() else []


def periods(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Nanoseconds that were reached."""
    return np.array([1000 / row["fmax_mhz"] for row in rows])


def terms(row: Row) -> list[float]:
    """What the coefficients multiply: a base, the additions, and these times the logarithm of thousands of LUTs."""
    return [1.0, row["stage_delay"], row["stage_delay"] * np.log(row["lut"] / 1000)]


def line(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The coefficients with the smallest squares of relative errors."""
    reached = periods(rows)
    return np.asarray(
        np.linalg.lstsq(np.array([terms(row) for row in rows]) / reached[:, None], np.ones(len(rows)), rcond=None)[0], np.float64
    )


def unseen(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Nanoseconds reached over those of a line that saw no pipeline of the same design."""
    ratios = []
    for row, reached in zip(rows, periods(rows), strict=True):
        others = line([other for other in rows if other["design"] != row["design"]])
        ratios.append(reached / float(np.dot(terms(row), others)))
    return np.array(ratios)


def report(rows: Sequence[Row]) -> None:
    base, unit, crowding = line(rows)
    print(f"{len(rows)} pipelines: period = {base:.2f} + ({unit:.2f} + {crowding:.2f} ln(LUT / 1000)) x additions in the longest stage,")
    ratios = periods(rows) / (np.array([terms(row) for row in rows]) @ [base, unit, crowding])
    print(f"ns on {PART}; measured / predicted {ratios.min():.2f} to {ratios.max():.2f}, median error {np.median(abs(1 / ratios - 1)):.1%}")
    ratios = unseen(rows)
    print(f"each design left out: {ratios.min():.2f} to {ratios.max():.2f}, median error {np.median(abs(1 / ratios - 1)):.1%}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="run nothing")
    options = parser.parse_args()
    rows = read()
    done = {(row["design"], row["stages"]) for row in rows}
    asked = sorted({(number, stages) for number, of in STAGES.items() for stages in of} - done) if not options.fit else []
    for number, stages in asked:
        from hgq.output import write_file_atomically

        rows.append(measure(number, stages))
        lines = ",\n".join(json.dumps(row) for row in sorted(rows, key=lambda row: (row["design"], row["stages"])))
        write_file_atomically(STORE, f"[\n{lines}\n]\n", force=True)
        print(rows[-1], flush=True)
    report(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

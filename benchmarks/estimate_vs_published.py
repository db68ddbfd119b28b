"""Where the coefficients of `hgq.estimate` come from, and how far they are off.

    python benchmarks/estimate_vs_published.py [path/to/vivado_pairs.csv]

Needs the table of published designs (`shared/reference/vivado_pairs.csv` beside the checkout, by default). The numbers from Yosys and
nextpnr are written down here as they were measured, so that the fits can be repeated without either.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import numpy as np

from hgq.estimate import device_of, latency, resources

PAIRS = Path(__file__).resolve().parents[2] / "shared" / "reference" / "vivado_pairs.csv"

YOSYS_XC7 = [  # alkaid cost, LUT: combinational networks, `synth_xilinx -family xc7 -flatten -noiopad` (reference/rtl.md)
    (2265.5, 2489), (2044.5, 2191), (6797.5, 7243), (5695, 6110), (2702, 2802), (10326, 10950), (4437.5, 4868), (4033.5, 4375),
    (10181.5, 10798), (3051.5, 3199), (10998, 12671), (2751, 2887), (1749, 1879), (2516, 2617), (1487, 1612),
]  # fmt: skip
NEXTPNR_XC7 = [  # latency cutoff, MHz on an xc7a100t-1 asked for 200 (reference/rtl.md)
    (1.5, 129), (2.5, 119), (5, 96), (10, 60), (2.5, 155), (5, 92),
]  # fmt: skip
PIPELINED = [
    # Yosys by pyosys, 2026-11-22, alkaid 0.8.2 without ternary adders, four random sparse networks: target, cutoff, cost, register bits,
    # LUT (ECP5: LUT4 and two for each carry cell), FF, SRL
    ("xc7", 2, 2335.75, 2431, 2305, 2153, 9), ("xc7", 1, 2335.75, 4309, 2300, 2977, 286), ("xc7", 5, 2335.75, 965, 2291, 888, 0),
    ("ecp5", 2, 2335.75, 2431, 3558, 2163, 0), ("xcup", 2, 2335.75, 2431, 2305, 2153, 9), ("xc7", 2, 2867.4, 2681, 2789, 2387, 14),
    ("xc7", 1, 2867.4, 5317, 2795, 3702, 345), ("xc7", 5, 2867.4, 839, 2763, 777, 0), ("ecp5", 0, 2867.4, 0, 4228, 0, 0),
    ("ecp5", 2, 2867.4, 2681, 4280, 2415, 0), ("xcup", 2, 2867.4, 2681, 2789, 2387, 14), ("xc7", 2, 4040.45, 4763, 4182, 4243, 46),
    ("xc7", 1, 4040.45, 8722, 4179, 5528, 762), ("xc7", 5, 4040.45, 1983, 4167, 1889, 0), ("ecp5", 2, 4040.45, 4763, 5605, 4357, 0),
    ("xc7", 2, 995.2, 1134, 1043, 966, 29), ("xc7", 1, 995.2, 1793, 1029, 1266, 113), ("xc7", 5, 995.2, 383, 1045, 365, 0),
    ("ecp5", 2, 995.2, 1134, 1662, 1049, 0), ("xc7", 0, 995.2, 0, 1025, 0, 0),
]  # fmt: skip
HGQ_JETS = [  # LUT, DSP, FF, cycles at 5 ns, VU9P, hls4ml latency strategy (reference/published.md 2.1)
    (6236, 34, 1253, 6), (3162, 6, 550, 4), (1540, 5, 370, 4), (565, 0, 140, 3), (468, 0, 131, 2), (256, 0, 66, 2),
    (5899, 18, 2072, 8), (678, 0, 172, 3),
]  # fmt: skip
OUTSIDE = [("HGQ CERNBox 75.3 %", 10921, 1e3 / 578), ("HGQ CERNBox 75.1 %", 5974, 1e3 / 610), ("HGQ-LUT PLF 64p", 39765, 1e3 / 383.6)]


def spread(ratio: np.ndarray, digits: int = 2) -> str:
    return f"{ratio.min():.{digits}f} .. {ratio.max():.{digits}f}, median {np.median(ratio):.{digits}f}"


def main(path: Path) -> None:
    with path.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines)]
    fitted = [row for row in rows if row["design"].startswith("JEDI-linear")]
    device = device_of("xcvu13p-flga2577-2-e")
    luts_of_vivado(fitted, device)
    luts_of_yosys()
    flip_flops(fitted)
    periods(fitted, device)
    hls()


def luts_of_vivado(fitted: list[dict[str, str]], device) -> None:
    cost, lut = (np.array([float(row[key]) for row in fitted]) for key in ("da4ml_cost", "lut"))
    ratio = lut / cost
    print(f"LUT / adder-graph cost, {len(ratio)} Vivado post-route designs: {spread(ratio, 3)}")
    left_out = [abs(np.median(np.delete(ratio, n)) * cost[n] / lut[n] - 1) for n in range(len(ratio))]
    print(f"  one scale, leaving each out: mean error {np.mean(left_out):.1%}, largest {np.max(left_out):.1%}")
    print(f"  in _families.toml: {device.family.lut_per_cost}")
    print(f"  {'design':<42} {'LUT':>8} {'estimate':>9} {'error':>7}  in range")
    for row, actual in zip(fitted, lut, strict=True):
        found = device.family.lut_per_cost * float(row["da4ml_cost"])  # alkaid's own RTL
        inside = found.low <= actual <= found.high
        print(f"  {row['design']:<42} {actual:>8,.0f} {found.value:>9,.0f} {found.value / actual - 1:>+7.1%}  {'yes' if inside else 'NO'}")


def luts_of_yosys() -> None:
    ratio = np.array([lut / cost for cost, lut in YOSYS_XC7])
    print(f"\nLUT / cost, Yosys xc7, combinational: {spread(ratio, 3)}")
    for target in sorted({row[0] for row in PIPELINED}):
        here = [row for row in PIPELINED if row[0] == target]
        ratio = np.array([(lut + srl) / cost for _, _, cost, _, lut, _, srl in here])
        print(f"LUT / cost, Yosys {target}, 2026-11 designs: {spread(ratio, 3)} ({len(here)} designs)")


def flip_flops(fitted: list[dict[str, str]]) -> None:
    ratio = np.array([float(row["ff"]) / float(row["lut"]) for row in fitted])
    print(f"\nFF / LUT, Vivado: {spread(ratio)}")
    for target, cutoff in sorted({row[:2] for row in PIPELINED if row[3]}):
        ratio = np.array([ff / bits for t, c, _, bits, _, ff, _ in PIPELINED if (t, c) == (target, cutoff)])
        print(f"FF / register bit, Yosys {target}, cutoff {cutoff}: {spread(ratio)} ({len(ratio)} designs)")


def periods(fitted: list[dict[str, str]], device) -> None:
    lut, reached = (np.array([float(row[key]) for row in fitted]) for key in ("lut", "clock_achieved_ns"))
    slope, offset = np.polyfit(np.log(lut), reached, 1)
    error = np.abs(slope * np.log(lut) + offset - reached)
    fit = f"{slope:.3f} ln(LUT) {offset:+.2f} ns, mean error {error.mean():.2f}"
    print(f"\nperiod, Vivado VU13P asked for 2 ns: {fit}; coded {device.family.congestion}")
    ranges = [latency.period(device, 1.0, n) for n in lut]
    inside = sum(found.low <= ns <= found.high for found, ns in zip(ranges, reached, strict=True))
    print(f"  in range: {inside} of {len(lut)}")
    for name, count, ns in OUTSIDE:
        found = latency.period(device, 1.0, count)
        print(f"  not fitted: {name}: {ns:.2f} ns reached, estimate {found.value:.2f} ({found.low:.2f} .. {found.high:.2f})")
    cutoff, ns = np.array([(c, 1e3 / mhz) for c, mhz in NEXTPNR_XC7]).T
    slope, base = np.polyfit(cutoff, ns, 1)
    ratio = ns / (slope * cutoff + base)
    print(f"period, nextpnr xc7a100t-1: {base:.2f} + {slope:.2f} x cutoff ns, residual ratios {spread(ratio)}")


def hls() -> None:
    lut, dsp, ff, cycles = np.array(HGQ_JETS, float).T
    equivalent = lut + resources.LUT_PER_DSP * dsp
    ratio = ff / equivalent
    print(f"\nhls4ml latency: FF / (LUT + 55 DSP) {spread(ratio)}; coded {resources.HLS_FF_PER_LUT_EQUIVALENT}")
    slope, offset = np.polyfit(np.log(equivalent), cycles * 5, 1)
    ratio = cycles * 5 / (slope * np.log(equivalent) + offset)
    print(f"hls4ml latency: {slope:.2f} ln(LUT + 55 DSP) {offset:+.1f} ns, residual ratios {spread(ratio)}; coded {latency.HLS_DELAY_NS}")
    if not math.isclose(slope, latency.HLS_DELAY_NS[0], rel_tol=0.02):
        print("  THE CODED NUMBERS ARE NOT THIS FIT")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)

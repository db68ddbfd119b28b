"""Fit what a weight costs in LUTs (`hgq.resources.lut`) to the adder graphs of many layers, and say how good that is beside EBOPs.

    python benchmarks/lut_price.py
    python benchmarks/lut_price.py --synthesised      the last table alone

The fit needs no synthesis: an adder graph's cost is its LUTs but for one scale. Layers are those of the dense designs of `corpus_designs`.
The last table is of trained models, whole and synthesised: those of `lut_or_ebops.py`, which trained with this price, or with EBOPs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FAMILIES = ("dense_narrow", "dense_wide", "dense_linear", "dense_batch_norm", "residual", "trained")
SEEDS = range(6)
MODELS = Path(__file__).parent / "data" / "lut_or_ebops.json"
SMALLEST = 60.0
"""Layers that cost less say nothing about a relative error."""


class Layer(NamedTuple):
    design: str
    digits: NDArray[np.float64]
    bits: NDArray[np.float64]
    ebops: float
    cost: float


def signed_digits(mantissa: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where ``3 n`` and ``n`` differ, in binary."""
    n = np.abs(mantissa).astype(np.uint64)
    return np.bitwise_count(n ^ (3 * n)).astype(float)


def layers() -> list[Layer]:
    from corpus_designs import design

    from hgq import plugins
    from hgq.backend import Options
    from hgq.estimate import ebops_of
    from hgq.ir.show import declared_format
    from hgq.passes import optimize
    from hgq.synth import layer_graphs

    found, combinational = [], Options(extra={"stages": "0"})
    for name in FAMILIES:
        for seed in SEEDS:
            for source, graph in layer_graphs(optimize(design(name, seed))).items():
                products = [node for node in graph.nodes if node.op == "matmul"]
                if len(products) != 1 or products[0].inputs[1] not in graph.consts:
                    continue
                data, kernel = products[0].inputs[0], graph.consts[products[0].inputs[1]].mantissa
                bits = declared_format(graph, data).width.astype(float)
                cost = float(plugins.backend("rtl").resources(graph, combinational)["lut_cost"])
                if bits.ndim == 1 and cost >= SMALLEST:
                    found.append(Layer(f"{name} {seed} {source}", signed_digits(kernel) * (bits[:, None] > 0), bits, ebops_of(graph), cost))
    return found


def predicted(layer: Layer, constants: Sequence[float]) -> float:
    from hgq.resources import lut

    a_bit, a_value = lut.prices(layer.digits, constants=lut.Constants(*constants))
    return float((a_bit * layer.bits[:, None]).sum() + (a_value * (layer.bits[:, None] > 0)).sum())


def fitted(found: Sequence[Layer]) -> NDArray[np.float64]:
    from scipy.optimize import least_squares

    from hgq.resources import lut

    start = np.log(lut.FITTED)
    return np.exp(least_squares(lambda t: [np.log(predicted(one, np.exp(t)) / one.cost) for one in found], start, loss="soft_l1").x)


def report(name: str, found: Sequence[Layer], value: Callable[[Layer], float]) -> None:
    ratios = np.array([value(one) / one.cost for one in found])
    ratios /= np.median(ratios)
    errors = np.abs(ratios - 1)
    print(f"{name:<36} median error {np.median(errors):.1%}, 90 % within {np.quantile(errors, 0.9):.1%}")


def synthesised() -> None:
    """What training charged for a whole model, over what Yosys made of it; nothing is scaled."""
    points = [
        (key.split("/")[0], point) for key, run in json.loads(MODELS.read_text()).items() for point in run["points"] if "lut" in point
    ]
    print(f"{len(points)} trained models against synthesis, error of | the price charged | EBOPs | hgq estimate")
    for title, chosen in (
        ("all", points),
        ("trained with the price", [one for one in points if one[0] == "lut"]),
        ("trained with EBOPs", [one for one in points if one[0] == "ebops"]),
        ("of 500 LUTs and more", [one for one in points if one[1]["lut"] >= 500]),
        ("of fewer", [one for one in points if one[1]["lut"] < 500]),
    ):
        cells = []
        for value in (lambda one: one["price"], lambda one: one["ebops"], lambda one: one["estimate"][1]):
            errors = [abs(value(one) / one["lut"] - 1) for _, one in chosen]
            cells.append(f"median {np.median(errors):.1%}, 90 % within {np.quantile(errors, 0.9):.1%}" if errors else "none")
        print(f"  {title:<24} {len(chosen):3} | {' | '.join(cells)}")


def main() -> None:
    from hgq.resources import lut

    if "--synthesised" in sys.argv:
        synthesised()
        return
    found = layers()
    constants = fitted(found)
    print(f"{len(found)} layers; fitted: " + ", ".join(f"{n}={v:.3g}" for n, v in zip(lut.Constants._fields, constants, strict=True)))
    report("EBOPs, best scale", found, lambda one: one.ebops)
    report("hgq.resources.lut as it is", found, lambda one: predicted(one, lut.FITTED))
    report("fitted again", found, lambda one: predicted(one, constants))
    for name in FAMILIES:
        rest = [one for one in found if not one.design.startswith(name)]
        here = [one for one in found if one.design.startswith(name)]
        if here:
            without = fitted(rest)
            errors = [abs(predicted(one, without) / one.cost - 1) for one in here]
            print(f"  {name:<18} not seen by the fit: median error {np.median(errors):.1%} of {len(here)}")
    synthesised()


if __name__ == "__main__":
    main()

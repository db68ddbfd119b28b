"""Fit what a weight costs in LUTs (`hgq.resources.lut`) to the layers of many networks, and say how good that is beside EBOPs.

    python benchmarks/lut_price.py
    python benchmarks/lut_price.py --synthesised      the last tables alone

Layers are those of the dense designs of `corpus_designs`, whose weights are random, and of the trained, sparse models of `lut_or_ebops.py`.
The fit needs no synthesis: their LUTs are those of `hgq estimate`, which is a percent off. The last tables are of trained models, whole and
synthesised, and of what they would be charged had their half not been seen by the fit: models of other seeds alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FAMILIES = ("dense_narrow", "dense_wide", "dense_linear", "dense_batch_norm", "residual", "trained")
SEEDS = range(6)
MODELS = Path(__file__).parent / "data" / "lut_or_ebops.json"
PART, CLOCK_NS = "xcvu13p-flga2577-2-e", 5.0
SMALLEST = 60.0
"""LUTs of a layer below which a relative error counts less."""
ACTIVATIONS = ("relu", "leaky_relu", "hard_tanh")
"""Ops of an activation behind a sum."""


class Layer(NamedTuple):
    """A product with constants; what of it the formula needs.

    Args:
        design: Of which network.
        lut: Its LUTs by `hgq estimate`.
        ebops: Its EBOPs.
        additions: Signed digits but the first of each output.
        added_bits: The same times the mean bits of an output's data.
        output_bits: Mean bits of an output's data, summed over outputs that go through an activation.
        rows: Rows of the kernel with a digit.
        bias_bits: Of all biases.
    """

    design: str
    lut: float
    ebops: float
    additions: float
    added_bits: float
    output_bits: float
    rows: float
    bias_bits: float


def signed_digits(mantissa: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where ``3 n`` and ``n`` differ, in binary."""
    n = np.abs(mantissa).astype(np.uint64)
    return np.bitwise_count(n ^ (3 * n)).astype(float)


def layers_of(graph: Any, name: str) -> list[Layer]:
    """The dense layers of a frozen model."""
    from hgq.estimate.ebops import constant_bits
    from hgq.estimate.why import Why
    from hgq.ir.show import declared_format

    costs = {row.layer: row for row in Why(graph, PART, CLOCK_NS).layers()}
    found = []
    for node in graph.nodes:
        if node.op != "matmul" or node.inputs[1] not in graph.consts:
            continue
        bits = np.asarray(declared_format(graph, node.inputs[0]).width, float)
        if bits.ndim != 1 or costs[node.source].lut <= 0:
            continue
        digits = signed_digits(graph.consts[node.inputs[1]].mantissa) * (bits[:, None] > 0)
        behind = graph.users(node.name)
        bias = 0.0
        if len(behind) == 1 and behind[0].op == "add" and (consts := [one for one in behind[0].inputs if one in graph.consts]):
            bias = float((constant_bits(graph.consts[consts[0]]) * (digits.sum(0) > 0)).sum())
            behind = graph.users(behind[0].name)
        activated = any(one.op in ACTIVATIONS for one in behind)
        found.append(layer(f"{name} {node.source}", costs[node.source], digits, bits, bias, activated))
    return found


def layer(name: str, cost: Any, digits: NDArray[np.float64], bits: NDArray[np.float64], bias: float, activated: bool) -> Layer:
    """A layer's sums."""
    terms = digits.sum(0)
    additions, mean = np.maximum(terms - 1, 0), digits.T @ bits / np.maximum(terms, 1)
    rows = float((digits.sum(1) > 0).sum())
    return Layer(name, cost.lut, cost.ebops, float(additions.sum()), float(additions @ mean), float(mean.sum()) * activated, rows, bias)


def corpus() -> list[Layer]:
    from corpus_designs import design

    from hgq.passes import optimize

    return [one for name in FAMILIES for seed in SEEDS for one in layers_of(optimize(design(name, seed)), f"{name} {seed}")]


def trained() -> dict[str, list[list[Layer]]]:
    """The layers of each model of each run of the store."""
    runs = json.loads(MODELS.read_text())
    return {
        key: [[Layer(f"{key} {point['budget']:.0f}", *row) for row in point["layers"]] for point in run["points"] if "layers" in point]
        for key, run in runs.items()
    }


def predicted(one: Layer, constants: Any) -> float:
    """`hgq.resources.lut.prices`, summed up."""
    share = (1 + one.additions / max(one.rows, 1) / constants.shared) ** -constants.exponent
    added = share * constants.adder * (one.added_bits + constants.carries * one.additions)
    return added + constants.activation * one.output_bits + constants.bias * one.bias_bits


def fitted(found: Sequence[Layer]) -> Any:
    """Constants of the smallest relative errors; what a bit of a bias saves is no part of the count, and stays."""
    from scipy.optimize import least_squares

    from hgq.resources import lut

    def constants(t: NDArray[np.float64]) -> lut.Constants:
        return lut.Constants(*np.exp(t), bias_saved=lut.FITTED.bias_saved)

    def errors(t: NDArray[np.float64]) -> list[float]:
        return [np.log(max(predicted(one, constants(t)), 1e-3) / one.lut) * np.sqrt(min(one.lut / SMALLEST, 1.0)) for one in found]

    return constants(least_squares(errors, np.log(lut.FITTED[:-1]), loss="soft_l1", f_scale=0.1).x)


def ours(constants: Any) -> Callable[[Layer], float]:
    return lambda one: predicted(one, constants)


def report(name: str, found: Sequence[Layer], value: Callable[[Layer], float]) -> None:
    large = [one for one in found if one.lut >= SMALLEST]
    ratios = np.array([value(one) / one.lut for one in large])
    errors = np.abs(ratios - 1)
    print(f"{name:<36} {len(large):>4} layers: median error {np.median(errors):.1%}, 90 % within {np.quantile(errors, 0.9):.1%}")


def halves(runs: dict[str, list[list[Layer]]], random: Sequence[Layer]) -> None:
    """Whole trained models, of which the fit saw only runs of other seeds."""
    points = {key: run["points"] for key, run in json.loads(MODELS.read_text()).items()}
    found: list[tuple[float, float]] = []
    for seed in sorted({key.split("/")[1] for key in runs}):
        seen = [one for key, models in runs.items() if key.split("/")[1] != seed for model in models for one in model]
        constants = fitted([*random, *seen])
        for key, models in runs.items():
            if key.split("/")[1] == seed:
                prices = [sum(predicted(one, constants) for one in model) for model in models]
                found += [(price, point["lut"]) for price, point in zip(prices, points[key], strict=True) if "lut" in point]
    for title, low, high in (("of 500 LUTs and more", 500, np.inf), ("of fewer", 0, 500)):
        ratios = np.array([price / lut for price, lut in found if low <= lut < high])
        if len(ratios):
            errors = np.abs(ratios - 1)
            print(f"  {title:<24} {len(ratios):3} | median {np.median(errors):.1%}, 90 % within {np.quantile(errors, 0.9):.1%}", end=" ")
            print(f"| price / LUT {np.median(ratios):.2f}")


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
    random, runs = corpus(), trained()
    sparse = [one for models in runs.values() for model in models for one in model]
    constants = fitted([*random, *sparse])
    print(", ".join(f"{name}={value:.3g}" for name, value in zip(constants._fields, constants, strict=True)))
    for title, found in (("random weights", random), ("trained, sparse", sparse)):
        if found:
            scale = np.median([one.lut / one.ebops for one in found])
            report(f"{title}: EBOPs, best scale", found, lambda one, scale=scale: scale * one.ebops)
            report(f"{title}: hgq.resources.lut", found, ours(lut.FITTED))
            report(f"{title}: fitted again", found, ours(constants))
    for name in FAMILIES:
        rest, here = ([one for one in random if one.design.startswith(name) == own] for own in (False, True))
        if here:
            report(f"  {name}, not seen by the fit", here, ours(fitted([*rest, *sparse])))
    print("whole trained models against synthesis, by fits to other seeds")
    halves(runs, random)
    synthesised()


if __name__ == "__main__":
    main()

"""What the firmware of a model in training would take, were training over now: calibrated, frozen, estimated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

from hgq.config import Recipe
from hgq.errors import BudgetError
from hgq.estimate import device_of, estimate
from hgq.estimate.ebops import ebops_of
from hgq.estimate.plan import Cut, Plan, cuts, fastest, plan
from hgq.freeze import freeze
from hgq.ir.graph import Graph

LUT_ERROR = 0.01
"""Relative error of estimated LUTs, of models that are mostly sums; see docs/estimates.md."""


class Firmware:
    """Measures a model by what a recipe asks for.

    Args:
        recipe: Its budget's resource, part, clock and latency count.
        calibrate: Sets the ranges of the model to what the training samples need.
    """

    def __init__(self, recipe: Recipe, calibrate: Callable[[], None]) -> None:
        self.recipe, self._calibrate = recipe, calibrate
        self._last: Graph | None = None

    def graph(self, model: keras.Model) -> Graph:
        """The model, calibrated and frozen; what freezing has to say counts at the end only."""
        self._calibrate()
        with _quiet():
            self._last = freeze(model)
        return self._last

    def cost(self, model: keras.Model) -> float:
        """How much of the budget's resource it takes."""
        graph = self.graph(model)
        return float(ebops_of(graph)) if self.recipe.resource == "ebops" else self.luts(graph)

    @property
    def error(self) -> float:
        """Relative error of `cost`: EBOPs are exact."""
        return LUT_ERROR if self.recipe.resource == "lut" else 0.0

    def luts(self, graph: Graph) -> float:
        """LUTs of the RTL on the recipe's part: the best guess of `hgq estimate`."""
        section = self.recipe.export
        return float(estimate(graph, section.part, section.clock_ns, "rtl").counts.lut.value)

    def fastest(self, model: keras.Model) -> tuple[Cut | None, float, float]:
        """The fastest pipeline at the recipe's clock or a faster one, the depth in additions, the LUTs."""
        graph, section = self.graph(model), self.recipe.export
        lut = self.luts(graph)
        rows = cuts(graph, device_of(section.part), lut)
        return fastest(rows, section.clock_ns), max((cut.depth for cut in rows), default=0.0), lut

    def plan(self, graph: Graph) -> Plan | None:
        """The pipeline for the recipe's latency; None where it asks for none, or no pipeline has it."""
        section = self.recipe.export
        if section.latency_ns is None:
            return None
        try:
            return plan(graph, section.part, section.clock_ns, section.latency_ns)[0]
        except BudgetError:
            return None

    def in_time(self) -> bool:
        """Whether the graph measured last is within the recipe's latency; yes if it asks for none."""
        return self.recipe.export.latency_ns is None or (self._last is not None and self.plan(self._last) is not None)


@contextmanager
def _quiet() -> Iterator[None]:
    freezing = logging.getLogger("hgq.freeze")
    before = freezing.disabled
    freezing.disabled = True
    try:
        yield
    finally:
        freezing.disabled = before

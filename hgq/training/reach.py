"""What a run cannot reach, found out before it starts: budgets below the smallest model, clocks and latencies that no device has.

The smallest cost is measured as every cost of a run is (calibrated, frozen, counted), on the model with each bitwidth at the lowest that
its quantizer allows, ranges as they are. With the bounds that quantizers have by default this is nothing at all; bounds of one's own, and
tables, leave a rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

from hgq.config import Recipe
from hgq.errors import BudgetError
from hgq.estimate import device_of
from hgq.estimate.plan import floor_ns
from hgq.layers import total_cost
from hgq.quantizers.constraints import Between
from hgq.training.shallow import Shallow
from hgq.variables import read, write

TITLES = {"ebops": "EBOPs", "lut": "LUT"}
WIDTHS = ("b", "f", "m")
"""Names of the trained variables of a quantizer that are precisions, not ranges."""
SURE = 2.0
"""Training's own formula is at most this far from what is measured; budgets above that need no measurement."""


@contextmanager
def fewest_bits(model: keras.Model) -> Iterator[None]:
    """Inside, each trained bitwidth is at the lower end of its bounds; afterwards all variables are as before."""
    before = read(model.variables)
    try:
        for variable in model.trainable_variables:
            if variable.name in WIDTHS and isinstance(variable.constraint, Between):
                variable.assign(variable.numpy() * 0 + variable.constraint.low)
        yield
    finally:
        write(model.variables, before)


def refuse_budget(model: keras.Model, recipe: Recipe, measure: Callable[[keras.Model], float]) -> None:
    """Refuse a budget below what the model costs with the fewest bits.

    Args:
        model: Before training.
        recipe: What is asked.
        measure: Cost of the model as the run counts it; may calibrate.

    Raises:
        BudgetError: it cannot be reached; says what can.
    """
    if recipe.budget is None or not recipe.budget.targets:
        return
    smallest = min(recipe.budget.targets)
    with fewest_bits(model):
        if float(total_cost(model, recipe.resource)) * SURE < smallest:
            return
        floor = measure(model)
    if floor <= smallest:
        return
    unit = TITLES[recipe.resource]
    raise BudgetError(
        "This budget cannot be reached: the model costs more with every bitwidth at its lowest.",
        where=f"budget.{recipe.resource}",
        expected=f"at least {_up(floor)} {unit}",
        received=f"{smallest:,.0f} {unit}",
        fix="Take fewer or smaller layers, or lower the bounds of the quantizers (b_bounds, f_bounds).",
    )


def refuse_latency(shallow: Shallow) -> None:
    """Refuse a latency that the network does not have even with a single weight for each output.

    Raises:
        BudgetError: says what it would take.
    """
    least = shallow.smallest()
    if least > shallow.wanted_ns:
        raise BudgetError(
            "This latency cannot be reached: the network is slower even with a single weight for each of its outputs.",
            where="export.latency_ns",
            expected=f"at least {least:.1f} ns on {shallow.device.part}, with a clock of {shallow.clock_ns:g} ns or faster",
            received=f"{shallow.wanted_ns:g} ns",
            fix="Take fewer layers, smaller tables, a faster part, or a slower clock (a stage of more additions has fewer registers).",
        )


def refuse_timing(recipe: Recipe) -> None:
    """Refuse a clock, or a latency, that no design on the part has.

    Raises:
        BudgetError: says what the fastest is.
        ConfigError: an unknown part.
    """
    device, asked = device_of(recipe.export.part), recipe.export
    fastest = device.family.period_floor_ns * device.period_factor
    if asked.clock_ns < fastest:
        raise BudgetError(
            "No design on this part reaches that clock.",
            where="export.clock_ns",
            expected=f"at least {fastest:.2f} ns on {device.part}",
            received=f"{asked.clock_ns:g} ns",
        )
    if asked.latency_ns is not None and asked.latency_ns < floor_ns(asked.part):
        raise BudgetError(
            "No design on this part is that fast from input to output.",
            where="export.latency_ns",
            expected=f"at least {floor_ns(asked.part):.2f} ns on {device.part}: two registers, and one addition between them",
            received=f"{asked.latency_ns:g} ns",
        )


def _up(value: float) -> str:
    return f"{-int(-value // 1):,}"

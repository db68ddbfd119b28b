"""Which arguments of a quantizer mean something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from hgq.errors import ConfigError
from hgq.numerics import check_modes
from hgq.quantizers.ranges import HIGHEST

if TYPE_CHECKING:
    from hgq.quantizers.base import Quantizer
    from hgq.quantizers.fixed import FixedQuantizer

PARAMETRIZATIONS = ("kif", "kbi")
GRANULARITIES = ("element", "channel", "tensor")


def check_arguments(quantizer: FixedQuantizer, given: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless the attributes of `quantizer` are known and agree.

    What hangs on the place is not held against a quantizer that has none yet; the layer that copies it will.
    """
    where = f"quantizer {quantizer.name}"
    check_modes(quantizer.rounding, quantizer.overflow, where)
    for what, value, known in (
        ("parametrization", quantizer.parametrization, PARAMETRIZATIONS),
        ("k0", quantizer.k0, (0, 1)),
    ):
        _check_known(what, value, known, where)
    wrong, right = ("f_bounds", "b_bounds") if quantizer.parametrization == "kbi" else ("b_bounds", "f_bounds")
    if given[wrong] is not None and (given["place"] or given["parametrization"]):
        raise ConfigError(
            f"{quantizer.parametrization} does not train what {wrong} would bound.",
            where=where,
            expected=f"i_bounds or {right}",
            received=wrong,
        )
    if quantizer.adapt_to_magnitude and given["place"] and not quantizer.constant:
        raise ConfigError(
            "Only a constant has a magnitude to adapt to.",
            where=where,
            expected="adapt_to_magnitude on a weight or bias quantizer",
            received=f"place {quantizer.place!r}",
            fix="Calibrate data instead: hgq.calibrate sets its range.",
        )
    for what in ("i_bounds", "f_bounds", "b_bounds"):
        checked_bounds(getattr(quantizer, what), what, quantizer)
    if quantizer.l1 < 0 or quantizer.i_decay < 0:
        received = f"l1={quantizer.l1}, i_decay={quantizer.i_decay}"
        raise ConfigError("l1 and i_decay cannot be negative.", where=where, expected=">= 0", received=received)


def check_choices(quantizer: Quantizer) -> None:
    """Raise `ConfigError` unless the granularity of `quantizer` is known."""
    _check_known("granularity", quantizer.granularity, GRANULARITIES, f"quantizer {quantizer.name}")


def _check_known(what: str, value: Any, known: tuple[Any, ...], where: str) -> None:
    if value not in known:
        names = " or ".join(map(repr, known))
        raise ConfigError(f"Unknown {what} of a quantizer.", where=where, expected=names, received=repr(value))


def checked_bounds(bounds: Any, what: str, quantizer: Quantizer, lowest: float = -HIGHEST, highest: float = HIGHEST) -> tuple[float, float]:
    """A pair ``low <= high`` of numbers from `lowest` to `highest`.

    Raises:
        ConfigError: it is none.
    """
    low, high = bounds
    if not lowest <= low <= high <= highest:
        expected = f"{lowest:g} <= low <= high <= {highest:g}"
        raise ConfigError(f"{what} are no bounds.", where=f"quantizer {quantizer.name}", expected=expected, received=f"({low}, {high})")
    return float(low), float(high)


def check_policy(layer: keras.layers.Layer) -> None:
    """Raise `ConfigError` unless `layer` computes in float32: half precision could not hold the grid, double precision has no use."""
    if layer.compute_dtype != "float32" or layer.variable_dtype != "float32":
        raise ConfigError(
            "Quantized layers compute in float32, in which they are exact.",
            where=f"layer {layer.name}",
            expected='dtype policy "float32"',
            received=repr(layer.dtype_policy.name),
            fix='Remove keras.config.set_dtype_policy(…), or pass dtype="float32" to this layer.',
        )

"""Where a quantizer sits, and what it is there unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from hgq.errors import ConfigError

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Place:
    """Defaults of one place in a layer.

    ``constant`` tells weights, whose every axis counts, from data, whose first axis is the batch. A constant with ``WRAP`` needs no range
    of its own: the range is always the one that its values need.
    """

    name: str
    constant: bool
    parametrization: str
    rounding: str
    overflow: str
    i0: float
    f0: float
    k0: int = 1
    granularity: str = "element"
    i_bounds: Bounds = (-24.0, 24.0)
    f_bounds: Bounds = (-24.0, 24.0)
    b_highest: float = 24.0


PLACES = {
    place.name: place
    for place in (
        Place("weight", constant=True, parametrization="kbi", rounding="RND", overflow="SAT_SYM", i0=2, f0=6),
        # fractional bits are trained directly: a bias near zero then asks for no finer accumulator than a large one
        Place("bias", constant=True, parametrization="kif", rounding="RND", overflow="WRAP", i0=2, f0=6),
        Place("data", constant=False, parametrization="kif", rounding="RND", overflow="WRAP", i0=2, f0=6),
    )
}


def place(name: str) -> Place:
    """The place of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PLACES:
        raise ConfigError("Unknown place of a quantizer.", expected=" or ".join(PLACES), received=repr(name))
    return PLACES[name]


def initial_bits(place: Place, parametrization: str, i0: float | None, f0: float | None, b0: float | None) -> tuple[float, float, float]:
    """Complete ``(i0, f0, b0)`` with ``b0 = i0 + f0`` from whichever of them were given.

    One alone is honoured: the other trained number keeps its default, and the third follows.

    Raises:
        ConfigError: all three were given and disagree.
    """
    if i0 is not None and f0 is not None and b0 is not None and i0 + f0 != b0:
        raise ConfigError(
            "The initial bits contradict each other.",
            expected="b0 = i0 + f0 (the sign is not counted in b0)",
            received=f"i0={i0}, f0={f0}, b0={b0}",
            fix="Give any two of them.",
        )
    if i0 is None:
        i0 = b0 - f0 if b0 is not None and f0 is not None else place.i0
    if f0 is None:
        if b0 is None and parametrization == "kbi":
            b0 = place.i0 + place.f0
        f0 = b0 - i0 if b0 is not None else place.f0
    return float(i0), float(f0), float(i0 + f0)

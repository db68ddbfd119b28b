"""`Axis`: a field of the recipe and the values that a sweep gives it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hgq.errors import ConfigError

SHORT = {
    "seed": "train.seed",
    "seeds": "train.seed",
    "beta": "train.beta",
    "betas": "train.beta",
    "ebops": "budget.ebops",
    "lut": "budget.lut",
}
"""Names for what is swept most. ``budget`` is one more: ``budget.ebops``, or ``budget.lut`` where the recipe's budget counts LUTs."""
MOST = 10_000
"""Trials of one sweep; a range with a digit too many is refused rather than begun."""


@dataclass(frozen=True)
class Axis:
    """One field of the recipe and its values.

    Args:
        path: Of the field, such as ``train.learning_rate`` or ``layers.0.units``.
        values: At least one, each once.

    Raises:
        ConfigError: no values, or one of them twice.
    """

    path: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("A sweep over no values.", where=f"sweep: {self.path}", expected="at least one value")
        for number, value in enumerate(self.values):
            if value in self.values[:number]:
                raise ConfigError(
                    "A sweep takes a value twice.", where=f"sweep: {self.path}", expected="each value once", received=repr(value)
                )

    @property
    def label(self) -> str:
        """The last part of the path, which names trials and columns."""
        parts = self.path.split(".")
        return f"{parts[-2]}{parts[-1]}" if parts[-1].isdecimal() and len(parts) > 1 else parts[-1]


def axis(name: str, given: Any, resource: str = "ebops") -> Axis:
    """An axis from what a person wrote.

    Args:
        name: A path, or a short name (`SHORT`, ``budget``).
        given: A list of values, or text: see `parsed`.
        resource: What the recipe's budget counts.

    Raises:
        ConfigError: no path, or no values.
    """
    path = f"budget.{resource}" if name in ("budget", "budgets") else SHORT.get(name, name)
    where = f"sweep: {name}"
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", path):
        raise ConfigError("This is no field of a recipe.", where=where, expected="a path such as train.learning_rate", received=name)
    values = parsed(given, where) if isinstance(given, str) else given
    if not isinstance(values, list | tuple):
        raise ConfigError("A sweep takes a list of values.", where=where, expected="such as [1e-3, 5e-3] or '0:4'", received=repr(given))
    return Axis(path, tuple(values))


def parsed(text: str, where: str) -> list[Any]:
    """Values from text: ``0:4`` counts from 0 to 3, ``0:10:5`` in steps; else values of TOML with commas between; other words are strings.

    Raises:
        ConfigError: a range that is empty or endless.
    """
    if found := re.fullmatch(r"\s*(-?\d+):(-?\d+)(?::(-?\d+))?\s*", text):
        start, stop, step = int(found[1]), int(found[2]), int(found[3] or 1)
        if step == 0 or not 0 < len(range(start, stop, step)) <= MOST:
            raise ConfigError(
                "A range of a sweep is empty or too long.", where=where, expected=f"FROM:TO[:STEP], at most {MOST:,} values", received=text
            )
        return list(range(start, stop, step))
    try:
        return tomllib.loads(f"values = [{text}]")["values"]
    except tomllib.TOMLDecodeError:
        return [_word(word.strip()) for word in text.split(",") if word.strip()]


def _word(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as paths: TOML reads ``train.seed = …`` as a table in a table."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat

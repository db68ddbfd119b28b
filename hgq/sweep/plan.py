"""`Plan`: a recipe and axes become trials."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hgq.config import Recipe
from hgq.errors import ConfigError
from hgq.sweep.axes import MOST, Axis, axis, flattened
from hgq.sweep.trial import Trial


@dataclass(frozen=True)
class Plan:
    """What a sweep does: every combination of the axes' values, the last axis changing fastest.

    A value of ``train.beta`` replaces the recipe's budget, and a budget its beta: only one of them steers.

    Args:
        recipe: What the trials have in common, as plain values.
        axes: What differs; one at least.

    Raises:
        ConfigError: two axes for one field, too many trials, or a combination that is no recipe: nothing is begun then.
    """

    recipe: Mapping[str, Any]
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        paths = [one.path for one in self.axes]
        if not paths:
            raise ConfigError(
                "A sweep over nothing.",
                where="sweep",
                expected="at least one axis",
                fix="Give --seeds, --budget, --beta or --set, or write a [sweep] table: for one trial there is `hgq train`.",
            )
        for path in paths:
            if paths.count(path) > 1:
                raise ConfigError("A sweep has two axes for one field.", where=f"sweep: {path}", expected="each field once")
        if "train.beta" in paths and any(path.startswith("budget.") for path in paths):
            raise ConfigError(
                "A sweep over beta and over a field of the budget.",
                where="sweep",
                expected="one of them: a budget steers beta itself",
                received=", ".join(paths),
            )
        count = math.prod(len(one.values) for one in self.axes)
        if count > MOST:
            raise ConfigError("This sweep is too large.", where="sweep", expected=f"at most {MOST:,} trials", received=f"{count:,}")
        self.trials()  # refuses what is no recipe

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], axes: Mapping[str, Any] | None = None) -> Plan:
        """A plan from a recipe with a ``[sweep]`` table.

        Args:
            path: The file.
            axes: More axes by name; they replace those of the file.

        Raises:
            ConfigError: the file cannot be read, or means nothing.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            received = getattr(error, "strerror", None) or str(error)
            raise ConfigError("Cannot read the recipe.", where=str(path), expected="a TOML file", received=received) from None
        return cls.from_text(text, axes, str(path))

    @classmethod
    def from_text(cls, text: str, axes: Mapping[str, Any] | None = None, where: str = "recipe") -> Plan:
        """A plan from TOML text; raises as `from_toml`."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("The recipe is not valid TOML.", where=where, received=str(error)) from None
        swept = content.pop("sweep", {})
        if not isinstance(swept, dict):
            raise ConfigError("[sweep] is a table.", where=f"{where}: sweep", expected="fields and their values", received=repr(swept))
        recipe = Recipe.from_dict(content, where)
        made = {one.path: one for one in _axes(flattened(swept), recipe.resource)}
        made |= {one.path: one for one in _axes(axes or {}, recipe.resource)}
        return cls(recipe.model_dump(mode="json", exclude_none=True, exclude_unset=True), tuple(made.values()))

    @property
    def name(self) -> str:
        """The recipe's."""
        return Recipe.from_dict(dict(self.recipe)).name

    def trials(self) -> list[Trial]:
        """All trials, in their order."""
        made: list[Trial] = []
        names: dict[str, int] = {}
        for values in product(*(one.values for one in self.axes)):
            changes = {one.path: value for one, value in zip(self.axes, values, strict=True)}
            name = "-".join(_named(one, value) for one, value in zip(self.axes, values, strict=True))
            names[name] = names.get(name, 0) + 1
            name = name if names[name] == 1 else f"{name}-{names[name]}"
            made.append(Trial(name, changes, self._recipe(changes, name)))
        return made

    def _recipe(self, changes: Mapping[str, Any], name: str) -> Recipe:
        content: dict[str, Any] = _copied(self.recipe)
        if "train.beta" in changes:
            content.pop("budget", None)
        if any(path.startswith("budget.") for path in changes):
            content.get("train", {}).pop("beta", None)
        for path, value in changes.items():
            if path in ("budget.ebops", "budget.lut"):  # the budget counts one of them
                content.setdefault("budget", {}).pop("lut" if path.endswith("ebops") else "ebops", None)
            _put(content, path, value)
        return Recipe.from_dict(content, f"trial {name}")

    def changed(self, fields: Mapping[str, Any]) -> Plan:
        """A plan whose trials all have other values in some fields, by their paths."""
        content = _copied(self.recipe)
        for path, value in fields.items():
            _put(content, path, value)
            if path == "data.path":
                content["data"].pop("name", None)
        return Plan(content, self.axes)

    def to_toml(self) -> str:
        """TOML text with all axes; `from_text` is its inverse."""
        from hgq import toml

        recipe = Recipe.from_dict(dict(self.recipe)).to_toml()
        swept = toml.written({"sweep": {one.path: list(one.values) for one in self.axes}})
        return f"{recipe}\n{swept}"


def _axes(named: Mapping[str, Any], resource: str) -> Iterable[Axis]:
    return [axis(name, given, resource) for name, given in named.items()]


def _named(one: Axis, value: Any) -> str:
    """A value in a name of a trial: short values themselves, others by their number."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    plain = re.sub(r"[^\w.+-]+", "_", text).strip("_")
    return f"{one.label}{plain if plain and len(plain) <= 24 else '_' + str(one.values.index(value))}"


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list | tuple) else value


def _put(content: Any, path: str, value: Any) -> None:
    """Set the field at `path`; tables on the way are made."""
    *above, last = path.split(".")
    here = content
    for number, part in enumerate(above):
        if isinstance(here, list):
            here = _element(here, part, path)
            continue
        here = here.setdefault(part, [] if (*above, last)[number + 1].isdecimal() else {})
        if not isinstance(here, dict | list):
            raise _no_table(".".join(above[: number + 1]), path)
    if isinstance(here, list):
        _element(here, last, path)
        here[int(last)] = value
    else:
        here[last] = value


def _element(here: list[Any], part: str, path: str) -> Any:
    if not part.isdecimal() or int(part) >= len(here):
        raise ConfigError(
            "A sweep over an element that is not there.",
            where=f"sweep: {path}",
            expected=f"a number below {len(here)}" if here else "a list with elements: write it into the recipe first",
            received=part,
        )
    return here[int(part)]


def _no_table(part: str, path: str) -> ConfigError:
    return ConfigError("A sweep over a field of a field.", where=f"sweep: {path}", expected=f"{part} to be a section of the recipe")

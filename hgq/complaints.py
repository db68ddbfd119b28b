"""What pydantic has against a recipe, as an error of ours: which key, what was expected, what was received, which key is meant."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hgq.errors import ConfigError

Loc = tuple[str | int, ...]

MEMBER = re.compile(r"[\[(]|^(float|int|constrained-float|constrained-int)$")
"""What pydantic puts into a path for a member of a union."""


def complaint(error: ValidationError, where: str, root: type[BaseModel]) -> ConfigError:
    """The most telling of pydantic's complaints.

    A misspelt key also leaves a required one missing, and a value that fits no member of a union fails once for each: unknown keys come
    first, then the deepest complaint; what has the same path is one problem.

    Args:
        error: What pydantic raised.
        where: The file, or what else was read.
        root: The model that was to be made.
    """
    problems = [(_path(problem["loc"]), problem) for problem in error.errors()]
    path, first = max(problems, key=lambda each: (each[1]["type"] == "extra_forbidden", len(each[1]["loc"])))
    paths = {at for at, _ in problems}
    different = [at for at in paths if not any(at != other and at == other[: len(at)] for other in paths)]
    more = f" (one of {len(different)} problems)" if len(different) > 1 else ""
    place = ".".join(str(part) for part in path)
    where = f"{where}: {place}" if place else where
    if first["type"] == "extra_forbidden":
        known = _fields_at(path[:-1], root)
        close = difflib.get_close_matches(str(path[-1]), known, 1, 0.5)
        return ConfigError(
            f"A recipe has no such key{more}.",
            where=where,
            expected="one of " + ", ".join(known),
            received=str(path[-1]),
            fix=f"Did you mean {close[0]!r}?" if close else None,
        )
    received = None if first["type"] == "missing" else _short(first["input"])
    expected = "; or ".join(dict.fromkeys(_expected(problem) for at, problem in problems if at == path))
    return ConfigError(f"A recipe has a wrong value{more}.", where=where, expected=expected, received=received)


def _path(loc: Loc) -> Loc:
    """`loc` without the members of unions."""
    return tuple(part for part in loc if not (isinstance(part, str) and MEMBER.search(part)))


def _expected(problem: Any) -> str:
    text = re.sub(r"^(Value error, |Input should be |List should have )", "", problem["msg"])
    return "a value: the key is required" if problem["type"] == "missing" else text


def _fields_at(path: Loc, root: type[BaseModel]) -> list[str]:
    """Keys of the section at `path`."""
    section = root
    for part in path:
        if isinstance(part, str):
            section = _section(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section in an annotation, which may be a list of it or one of several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
